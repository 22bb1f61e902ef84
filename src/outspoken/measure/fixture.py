"""What the pytest fixture `outspoken_diversity` does with its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from outspoken.candidate import Candidate
from outspoken.errors import UsageError
from outspoken.measure.analysis import Analysis
from outspoken.measure.api import measure
from outspoken.measure.gate import EMBEDDED, GateResult, check, limits

__all__ = ["checked"]


def checked(
    responses: object,
    fail_under: Mapping[str, float] | None,
    fail_over: Mapping[str, float] | None,
    strict: bool,
    options: Mapping[str, Any],
) -> tuple[Analysis, GateResult]:
    """Measure the responses, and compare them with the limits.

    Nothing is embedded unless a limit needs it or an embedder is named. Raises `UsageError` for invalid arguments.
    """
    wanted = limits(fail_under, fail_over)
    embeds = options.get("same") == "meaning" or any(limit.measure in EMBEDDED for limit in wanted)
    chosen = {"embedder": "minilm" if embeds else None, **options}
    analysis = measure(_rows(responses), **chosen)
    return analysis, check(analysis, wanted, strict=strict)


def _rows(responses: object) -> Any:
    """Rows or files from what a test gives: texts or candidates, texts by prompt, rows, or paths."""
    if isinstance(responses, (str, PathLike)):
        return responses
    if isinstance(responses, Mapping):
        if any(isinstance(texts, str) or not isinstance(texts, Iterable) for texts in responses.values()):
            raise UsageError("a mapping of responses has a list of texts for each prompt")
        return [{"prompt": prompt, "text": text} for prompt, texts in responses.items() for text in texts]
    if not isinstance(responses, Iterable) or hasattr(responses, "columns"):
        raise UsageError(f"responses are texts, rows or files, not {type(responses).__name__}")
    entries = [one.text if isinstance(one, Candidate) else one for one in responses]
    if entries and all(isinstance(entry, str) for entry in entries):
        return [{"prompt": "the prompt", "text": text} for text in entries]
    return entries
