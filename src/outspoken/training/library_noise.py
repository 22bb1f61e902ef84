"""Training without the libraries' noise, without the network, and with an end that says why."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from outspoken._extras import need
from outspoken.errors import OutputError, OutspokenError, UsageError
from outspoken.training.base_models import BaseWeights, hub

__all__ = ["explained", "hushed", "interrupts"]

_LOUD = ("trl", "accelerate", "peft", "datasets")


@contextmanager
def hushed(base: BaseWeights) -> Iterator[None]:
    """The libraries say nothing of their own deprecations and draw no bars."""
    from outspoken.models import _causal_lm

    datasets = need("datasets", "training", "train")
    with ExitStack() as stack:
        stack.enter_context(_causal_lm.quiet())
        stack.enter_context(hub(base))
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
def interrupts(stopped: Callable[[], bool] | None = None) -> Iterator[Callable[[], bool]]:
    """Whether to end: `stopped` says so, or there was an interrupt. A second one ends it at once.

    Signals come to the main thread alone; in another one only `stopped` counts.
    """
    pressed = threading.Event()

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, press))
        yield lambda: pressed.is_set() or (stopped is not None and stopped())


@contextmanager
def explained(writes: Path | None = None) -> Iterator[None]:
    """What the libraries raise where memory or the disk, on which it `writes`, is too small, as errors of ours."""
    try:
        yield
    except OutspokenError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        # torch tells these apart by their words alone.
        if isinstance(error, MemoryError) or "out of memory" in first or "allocate memory" in first:
            raise UsageError(
                f"the memory is too small ({first}): lower --batch-size (for training raise "
                "--gradient-accumulation in its place, or take --recompute or --lora)"
            ) from error
        disk = (
            isinstance(error, OSError) or "PytorchStreamWriter" in str(error) or "SafetensorError" in repr(error)
        )
        if writes is not None and disk:
            raise OutputError(
                f"{writes} cannot be written ({first}): make room, then the same command goes on from the last "
                "checkpoint"
            ) from error
        raise
