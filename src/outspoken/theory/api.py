"""`typicality_bias`: from preference data and base models to alpha, its controls and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from typing import TypedDict, Unpack

from outspoken.engine import run, score_all
from outspoken.errors import PromptTooLongError, UndefinedError, UsageError
from outspoken.ledger import Ledger
from outspoken.models import get_model
from outspoken.models.base import Model, Score
from outspoken.theory.controls import ScoredPair
from outspoken.theory.preferences import PUBLISHED, Preferences, read_preferences
from outspoken.theory.typicality import estimate_typicality
from outspoken.theory.typicality_result import Typicality

__all__ = ["TypicalityOptions", "atypicality_bias", "typicality_bias"]

Source = str | PathLike[str]
Progress = Callable[[str, int, int], None]


class TypicalityOptions(TypedDict, total=False):
    """The options of `typicality_bias` and `atypicality_bias`."""

    prompt_format: str
    limit: int | None
    ledger: Source | None
    seed: int
    progress: Progress | None


def typicality_bias(
    preferences: Source | Preferences,
    base: str | Model | Sequence[str | Model],
    **options: Unpack[TypicalityOptions],
) -> Typicality:
    """Measure how much preferences reward what a base model finds likely: alpha, its controls and a verdict.

    `preferences` is a file that `read_preferences` reads, or what it returns. Every response is scored by every
    model of `base`. Pairs that a model cannot score are left out for this model and counted by reason.

    Options:
        prompt_format: Text before a response, with "{prompt}" in it. Default: as published.
        limit: Number of pairs, drawn at random. Default: all pairs.
        ledger: Path of a ledger, so that no text is scored twice. Default: none.
        seed: Seed of the sample of pairs and of the controls. Default: 0.
        progress: Called with what is being done, how much is done, and of how much. Default: none.

    Raises `UsageError` for a file that cannot be read and for a model that cannot score or is named twice,
    `UndefinedError` if no pair is left, and `ProviderError` if a server fails.

    Example: `typicality_bias("prefs.jsonl", "local/gemma3-270m").models[0].alpha`
    """
    return run(atypicality_bias(preferences, base, **options))


async def atypicality_bias(
    preferences: Source | Preferences,
    base: str | Model | Sequence[str | Model],
    *,
    prompt_format: str = PUBLISHED,
    limit: int | None = None,
    ledger: Source | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Typicality:
    """`typicality_bias` for asynchronous code; the same options."""
    if not isinstance(preferences, Preferences):
        preferences = read_preferences(preferences, prompt_format=prompt_format, limit=limit, seed=seed)
    bases = [base] if isinstance(base, str | Model) else list(base)
    if not bases:
        raise UsageError("name at least one base model")
    models = [get_model(each) if isinstance(each, str) else each for each in bases]
    if len({model.name for model in models}) < len(models):
        raise UsageError("a base model is named twice: name each once")
    scored: dict[str, list[ScoredPair]] = {}
    skipped: dict[str, dict[str, int]] = {}
    with Ledger(ledger) if ledger is not None else nullcontext() as opened:
        for model in models:
            scored[model.name], skipped[model.name] = await _score_pairs(preferences, model, opened, progress)
    identities = {model.name: await model.score_identity() for model in models}
    return replace(estimate_typicality(preferences, scored, skipped=skipped, seed=seed), identities=identities)


async def _score_pairs(
    preferences: Preferences, model: Model, ledger: Ledger | None, progress: Progress | None
) -> tuple[list[ScoredPair], dict[str, int]]:
    """The pairs that the model scored, and the number of the others by reason."""
    texts = [
        (preferences.text_of(pair.prompt), text)
        for pair in preferences.pairs
        for text in (pair.first, pair.second)
    ]

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress(f"scoring with {model.name}", done, total)

    results = await score_all(model, texts, ledger=ledger, progress=show)
    scored: list[ScoredPair] = []
    skipped: Counter[str] = Counter()
    failure: UsageError | None = None
    for pair, first, second in zip(preferences.pairs, results[::2], results[1::2], strict=True):
        if isinstance(first, Score) and isinstance(second, Score):
            scored.append(ScoredPair(pair, first, second))
            continue
        failure = first if isinstance(first, UsageError) else second if isinstance(second, UsageError) else failure
        skipped["longer than the context" if isinstance(failure, PromptTooLongError) else str(failure)] += 1
    if not scored and failure is not None:
        raise UndefinedError(f"{model.name} can score none of the {len(preferences.pairs):,} pairs: {failure}")
    return scored, dict(skipped)
