"""`typicality_bias`: preference data and base models into alpha, its controls and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from typing import Any

from outspoken.engine import run, score_all
from outspoken.errors import PromptTooLongError, UndefinedError, UsageError
from outspoken.ledger import Ledger
from outspoken.models import get_model
from outspoken.models.base import Model, Score
from outspoken.theory.controls import ScoredPair
from outspoken.theory.preferences import PUBLISHED, Preferences, read_preferences
from outspoken.theory.typicality import Typicality, typicality

__all__ = ["atypicality_bias", "typicality_bias"]

Source = str | PathLike[str]
Progress = Callable[[str, int, int], None]


def typicality_bias(
    preferences: Source | Preferences, base: str | Model | Sequence[str | Model], **options: Any
) -> Typicality:
    """`atypicality_bias` for synchronous code: `typicality_bias("prefs.jsonl", "local/gemma3-270m").to_dict()`."""
    return run(atypicality_bias(preferences, base, **options))


async def atypicality_bias(
    preferences: Source | Preferences,
    base: str | Model | Sequence[str | Model],
    *,
    text_format: str = PUBLISHED,
    limit: int | None = None,
    ledger: Source | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Typicality:
    """How much the preferences reward what each base model finds likely: alpha, its controls and a verdict.

    `preferences` is a file that `read_preferences` reads, with `text_format` and `limit` as there. Every response
    is scored by every model of `base`, and with `ledger`, the path of one, no text is scored twice. Pairs that a
    model cannot score are left out for it and counted by reason. `seed` is that of the sample of pairs and of the
    controls. `progress` is called with what is done, how many, and of how many.

    Raises `UsageError` for what cannot be read, a model that scores nothing or is named twice, `UndefinedError`
    where no pair is left, and `ProviderError` where a server fails.
    """
    if not isinstance(preferences, Preferences):
        preferences = read_preferences(preferences, text_format=text_format, limit=limit, seed=seed)
    models = [get_model(each) if isinstance(each, str) else each for each in _listed(base)]
    if len({model.name for model in models}) < len(models):
        raise UsageError("a base model is named twice: name each once")
    scored: dict[str, list[ScoredPair]] = {}
    skipped: dict[str, dict[str, int]] = {}
    with Ledger(ledger) if ledger is not None else nullcontext() as kept:
        for model in models:
            scored[model.name], skipped[model.name] = await _scored(preferences, model, kept, progress)
    identities = {model.name: await model.score_identity() for model in models}
    return replace(typicality(preferences, scored, skipped=skipped, seed=seed), identities=identities)


async def _scored(
    preferences: Preferences, model: Model, ledger: Ledger | None, progress: Progress | None
) -> tuple[list[ScoredPair], dict[str, int]]:
    """The pairs that the model scored, and why it could not score the others."""
    texts = [
        (preferences.text_of(pair.prompt), text)
        for pair in preferences.pairs
        for text in (pair.first, pair.second)
    ]

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress(f"scoring with {model.name}", done, total)

    found = await score_all(model, texts, ledger=ledger, progress=show)
    scored: list[ScoredPair] = []
    skipped: Counter[str] = Counter()
    failure: UsageError | None = None
    for pair, first, second in zip(preferences.pairs, found[::2], found[1::2], strict=True):
        if isinstance(first, Score) and isinstance(second, Score):
            scored.append(ScoredPair(pair, first, second))
            continue
        failure = first if isinstance(first, UsageError) else second if isinstance(second, UsageError) else failure
        skipped["longer than the context" if isinstance(failure, PromptTooLongError) else str(failure)] += 1
    if not scored and failure is not None:
        raise UndefinedError(f"{model.name} can score none of the {len(preferences.pairs):,} pairs: {failure}")
    return scored, dict(skipped)


def _listed(base: str | Model | Sequence[str | Model]) -> list[str | Model]:
    models = [base] if isinstance(base, str | Model) else list(base)
    if not models:
        raise UsageError("name at least one base model")
    return models
