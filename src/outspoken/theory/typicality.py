"""Typicality bias of preference data: do people prefer what a base model finds more likely?

r(x, y) = r_true(x, y) + alpha log pi_ref(y | x) + eps(x), Verbalized Sampling (arXiv 2510.01171), equation 1.
alpha is the coefficient of a logistic regression of which response was preferred on the difference of their mean
log-probabilities per token, among pairs of equal correctness, with standard errors clustered by prompt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TypedDict, Unpack

import numpy as np
from scipy.special import expit, ndtr

from outspoken.engine import run, score_all
from outspoken.errors import PromptTooLongError, UndefinedError, UsageError
from outspoken.io.text import plural
from outspoken.ledger import Ledger
from outspoken.measure.estimates import Estimate
from outspoken.measure.statistics import holm, mean_estimate, wilson
from outspoken.models import get_model
from outspoken.models.base import Model, Score
from outspoken.report.format import alike
from outspoken.theory.controls import (
    Effect,
    PairSample,
    ScoredPair,
    alpha_of,
    change,
    estimate_controls,
    odds_ratio,
    preference_curve,
)
from outspoken.theory.preference_formats import PreferencePair
from outspoken.theory.preferences import PUBLISHED, Preferences, read_preferences
from outspoken.theory.typicality_result import FEW, ModelBias, Typicality

__all__ = [
    "ScoredPair",
    "TypicalityOptions",
    "atypicality_bias",
    "estimate_alpha",
    "estimate_typicality",
    "simulate_preferences",
    "typicality_bias",
]

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
    """Measure how much preferences favour the responses that a base model finds likely.

    The result holds alpha, its controls and a verdict for every model of `base`. `preferences` is a file for
    `read_preferences`, or its result. Pairs that a model cannot score are left out for this model and counted by
    reason.

    Options:
        prompt_format: Text before a response, with "{prompt}" in it. Default: as published.
        limit: Number of pairs, drawn at random. Default: all pairs.
        ledger: Path of a ledger, so that no text is scored twice. Default: none.
        seed: Seed of the sample of pairs and of the controls. Default: 0.
        progress: Called with the name of a step, the number of parts done, and the number of all. Default: none.

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
    show = None if progress is None else partial(progress, f"scoring with {model.name}")
    results = await score_all(model, texts, ledger=ledger, progress=show)
    scored: list[ScoredPair] = []
    skipped: Counter[str] = Counter()
    failure: Score | UsageError | None = None
    for pair, first, second in zip(preferences.pairs, results[::2], results[1::2], strict=True):
        if isinstance(first, Score) and isinstance(second, Score):
            scored.append(ScoredPair(pair, first, second))
            continue
        failure = second if isinstance(first, Score) else first
        skipped["longer than the context" if isinstance(failure, PromptTooLongError) else str(failure)] += 1
    if failure is not None and not scored:
        raise UndefinedError(f"{model.name} can score none of the {len(preferences.pairs):,} pairs: {failure}")
    return scored, dict(skipped)


_FEW_PROMPTS = 10


def estimate_typicality(
    preferences: Preferences,
    scored: Mapping[str, Sequence[ScoredPair]],
    *,
    skipped: Mapping[str, Mapping[str, int]] | None = None,
    seed: int = 0,
) -> Typicality:
    """The estimates under each base model; p-values are corrected over the models (Holm).

    `scored` holds the scored pairs by the base model's name; `skipped` counts, for each base model, the pairs that
    could not be scored, by reason. Raises `UndefinedError` if a base model has no pair to estimate from.
    """
    if not scored:
        raise UndefinedError("no base model has scored these pairs: name at least one")
    models = [
        estimate_alpha(base, items, ordered=preferences.ordered, skipped=(skipped or {}).get(base), seed=seed)
        for base, items in scored.items()
    ]
    adjusted = holm([model.alpha.p for model in models])
    models = [replace(model, p_holm=p) for model, p in zip(models, adjusted, strict=True)]
    warnings = [f"{model.base}: {note}" for model in models for note in model.notes]
    if skipped_rows := sum(preferences.skipped.values()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in preferences.skipped.items())
        warnings.insert(
            0, f"{preferences.file}: {skipped_rows:,} left out ({reasons}), for example {preferences.examples[0]}"
        )
    return Typicality(preferences, tuple(models), tuple(warnings))


def estimate_alpha(
    base: str,
    items: Sequence[ScoredPair],
    *,
    ordered: bool,
    skipped: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ModelBias:
    """alpha and its controls for one base model.

    If the pairs are `ordered` (see `Preferences`) an intercept is fitted, as published; otherwise the estimate
    does not depend on which response comes first. `skipped` counts the pairs that could not be scored, by reason;
    `seed` is that of the randomised controls.

    Raises `UndefinedError` if there are no pairs, none of equal correctness, or if log-likelihoods never differ.
    """
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, not {seed}")
    counts = dict(skipped or {})
    finite = [
        item
        for item in items
        if all(len(score) and math.isfinite(score.total) for score in (item.first, item.second))
    ]
    if len(finite) < len(items):
        counts["log-likelihood that is not finite"] = len(items) - len(finite)
    if not finite:
        raise UndefinedError(f"{base} has scored no pair: alpha does not exist")
    everything = PairSample.of(finite, ordered=ordered)
    correctness = bool(np.isfinite(everything.gap).any())
    main = everything.where(everything.gap == 0) if correctness else everything
    sorted_by_rating = ordered and len(main) > 0 and np.ptp(main.preferred) == 0
    if sorted_by_rating:
        # With a single outcome an intercept would absorb the whole effect.
        everything, main = replace(everything, ordered=False), replace(main, ordered=False)
    if not len(main):
        raise UndefinedError(
            f"none of the {len(everything):,} pairs has equal correctness: remove the correctness ratings to use "
            "all pairs"
        )
    fitted = alpha_of(main)
    alpha, sd = Effect.of(fitted), main.sd(main.mean)
    controls, notes = estimate_controls(main, everything, seed)
    if sorted_by_rating:
        notes.insert(
            0,
            "the preferred response always comes first (or always second), so the order carries no information: "
            "alpha is estimated without an intercept",
        )
    return ModelBias(
        base=base,
        pairs=len(main),
        prompts=main.prompts,
        scored=len(everything),
        skipped=counts,
        alpha=alpha,
        p_holm=alpha.p,
        sd=sd,
        odds_ratio=odds_ratio(alpha, sd),
        change=change(alpha, sd),
        rate=_rate(everything),
        controls=controls,
        curve=preference_curve(main, alpha.value, seed),
        correctness=correctness,
        penalised=fitted.penalised,
        notes=(*_notes(main, alpha, fitted.penalised, counts), *notes),
    )


def _rate(sample: PairSample) -> Estimate:
    prefers_likelier = np.where(sample.mean == 0, 0.5, (sample.mean > 0) == (sample.preferred == 1))
    sums = np.bincount(sample.prompt, prefers_likelier)
    counts = np.bincount(sample.prompt)
    rate = mean_estimate(sums[counts > 0], counts[counts > 0])
    if rate.low is not None and rate.low == rate.high and rate.value in (0, 1):
        # All pairs agree, and so does every resample of them: use Wilson's interval over prompts.
        low, high = wilson(int(rate.value) * rate.units, rate.units)
        rate = replace(rate, low=low, high=high)
    return rate


def _notes(main: PairSample, alpha: Effect, penalised: bool, skipped: Mapping[str, int]) -> list[str]:
    pairs, prompts = f"{len(main):,} pair{'s' * (len(main) > 1)}", main.prompts
    notes = []
    if unscored := sum(skipped.values()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in skipped.items() if count)
        notes.append(f"{plural(unscored, 'pair')} not scored ({reasons})")
    if alpha.low is None or alpha.high is None:
        notes.append(f"only {pairs}, all of one prompt: alpha has no interval")
    elif len(main) < FEW:
        width, low, high = alike(alpha.high - alpha.low, alpha.low, alpha.high)
        notes.append(f"only {pairs}: alpha's 95 % interval is {width} wide, from {low} to {high}")
    elif prompts < _FEW_PROMPTS:
        notes.append(f"only {plural(prompts, 'prompt')}: standard errors clustered by so few are rough")
    if penalised:
        notes.append(
            "the pairs are separable: the regression fits them without an exception, so the effect has no upper "
            "bound; the estimate is penalised (Firth) to be finite, and its interval is a rough guide"
        )
    return notes


# SD of a response's mean log-likelihood, nats a token: differences have an SD of 0.6, as in the published data.
_SPREAD = 0.45
_TYPICAL = -2.5
_TOKENS = 40
_LENGTH_CORRELATION = 0.6  # correlation of a response's length with its mean log-likelihood
_PROMPT_CORRELATION = 0.5  # correlation of the noise of two pairs of one prompt, and of their differences


def simulate_preferences(
    alpha: float, *, prompts: int, pairs_per_prompt: int, length: float = 0.0, seed: int = 0
) -> list[ScoredPair]:
    """Scored pairs with P(first preferred) = sigmoid(alpha d_mean + length d_tokens), d being first minus second.

    `alpha` is the typicality bias per nat a token, `length` a preference for longer responses per token. Longer
    responses have a higher mean log-likelihood, so that a preference for length looks like a typicality bias
    unless length is held equal. The pairs of a prompt are correlated in their differences and in their noise (a
    Gaussian copula of the uniforms behind the preferences, so that the model holds for each single pair). There
    are no ratings of correctness.

    Raises `UsageError` for fewer than one prompt or pair.
    """
    if prompts < 1 or pairs_per_prompt < 1:
        raise UsageError(f"prompts and pairs per prompt must be at least 1, not {prompts} x {pairs_per_prompt}")
    if not (math.isfinite(alpha) and math.isfinite(length)):
        raise UsageError(f"alpha and length must be finite, not {alpha} and {length}")
    rng = np.random.default_rng(seed)
    shape = (prompts, pairs_per_prompt)

    def correlated() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Standard normal, correlated within a prompt."""
        shared = rng.standard_normal((prompts, 1))
        return math.sqrt(_PROMPT_CORRELATION) * shared + math.sqrt(1 - _PROMPT_CORRELATION) * rng.standard_normal(
            shape
        )

    likely = np.stack([correlated(), correlated()])
    log_length = _LENGTH_CORRELATION * likely + math.sqrt(1 - _LENGTH_CORRELATION**2) * rng.standard_normal(
        likely.shape
    )
    tokens = np.maximum(1, np.rint(_TOKENS * np.exp(0.3 * log_length))).astype(int)
    means = _TYPICAL + _SPREAD * likely
    probability = expit(alpha * (means[0] - means[1]) + length * (tokens[0] - tokens[1]))
    preferred = ndtr(correlated()) < probability
    return [
        ScoredPair(
            PreferencePair(
                f"prompt {at}", "first", "second", bool(preferred[at, of]), None, at * pairs_per_prompt + of + 1
            ),
            *(Score((float(means[side, at, of]),) * int(tokens[side, at, of])) for side in (0, 1)),
        )
        for at in range(prompts)
        for of in range(pairs_per_prompt)
    ]
