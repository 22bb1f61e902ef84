"""Keeping the training libraries quiet and off the network, and turning their errors into those of this
package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from outspoken._imports import need
from outspoken.errors import OutputError, OutspokenError, UsageError
from outspoken.training.base_models import BaseWeights, hub_access

__all__ = ["silence_libraries", "translate_errors"]

_LOUD = ("trl", "accelerate", "peft", "datasets")


@contextmanager
def silence_libraries(base: BaseWeights) -> Iterator[None]:
    """Suppress the libraries' own warnings and progress bars."""
    from outspoken.models import _causal_lm

    datasets = need("datasets", "training", "train")
    with ExitStack() as stack:
        stack.enter_context(_causal_lm.without_library_output())
        stack.enter_context(hub_access(base))
        stack.enter_context(warnings.catch_warnings())
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings(
                "ignore", category=kind, module=r"(transformers|trl|peft|torch|accelerate|datasets)\b"
            )
        for name in _LOUD:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if datasets.is_progress_bar_enabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        yield


@contextmanager
def translate_errors(output: Path | None = None) -> Iterator[None]:
    """Raise `UsageError` if memory runs out, and `OutputError` if the disk of `output` is full."""
    try:
        yield
    except OutspokenError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        # torch has no error types for these: only the message tells them apart.
        if isinstance(error, MemoryError) or "out of memory" in first or "allocate memory" in first:
            raise UsageError(
                f"the memory is too small ({first}): lower --batch-size (for training, raise "
                "--gradient-accumulation instead, or use --recompute or --lora)"
            ) from error
        disk = (
            isinstance(error, OSError) or "PytorchStreamWriter" in str(error) or "SafetensorError" in repr(error)
        )
        if output is not None and disk:
            raise OutputError(
                f"{output} cannot be written ({first}): make room, then the same command continues from the last "
                "checkpoint"
            ) from error
        raise
