"""Typicality bias of preference data: do people prefer what a base model finds more likely?

r(x, y) = r_true(x, y) + alpha log pi_ref(y | x) + eps(x), Verbalized Sampling (arXiv 2510.01171), equation 1.
alpha is the coefficient of a logistic regression of which response was preferred on the difference of their mean
log-probabilities per token, among pairs of equal correctness, with standard errors clustered by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.statistics import Estimate, holm, mean_estimate
from outspoken.theory.controls import PairSample, ScoredPair, alpha_of, controls, curve
from outspoken.theory.effect_sizes import Control, Effect, Range, change, odds_ratio
from outspoken.theory.preferences import Preferences
from outspoken.theory.verdict import FEW, BiasVerdict, verdict

__all__ = ["BaseModel", "ScoredPair", "Typicality", "estimate_alpha", "typicality"]

_FEW_PROMPTS = 10
_QUANTILE = 1.96


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What the preferences say about one base model.

    `alpha` rests on `pairs` pairs of `prompts` prompts: those of equal correctness where there are ratings of it
    (`correctness`), else all `scored` ones. `p_holm` is alpha's p corrected for the base models of one call. `sd`
    is the standard deviation of the difference of mean log-likelihood, in nats a token; `odds_ratio` is per SD and
    `change` that of the probability from -1 to +1 SD. `rate` is the typicality-bias rate: the share of all scored
    pairs whose preferred response is the likelier one, a tie counting half. `penalised`: the pairs are separable.
    """

    base: str
    pairs: int
    prompts: int
    scored: int
    skipped: Mapping[str, int]
    alpha: Effect
    p_holm: float | None
    sd: float
    odds_ratio: Range
    change: Range
    rate: Estimate
    controls: Mapping[str, Control]
    curve: Mapping[str, Sequence[Mapping[str, float]]]
    correctness: bool
    penalised: bool
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> BiasVerdict:
        """What the figures allow to conclude, in words."""
        return verdict(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "base": self.base,
            "pairs": self.pairs,
            "prompts": self.prompts,
            "scored": self.scored,
            "skipped": dict(self.skipped),
            "alpha": {**self.alpha.to_dict(), "p_holm": self.p_holm},
            "sd": self.sd,
            "odds_ratio": self.odds_ratio.to_dict(),
            "change": self.change.to_dict(),
            "rate": {"value": self.rate.value, "low": self.rate.low, "high": self.rate.high},
            "controls": {name: control.to_dict() for name, control in self.controls.items()},
            "curve": {name: [dict(entry) for entry in entries] for name, entries in self.curve.items()},
            "verdict": self.verdict.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Typicality:
    """The typicality bias of a preference file under one or several base models, in the order given. `identities`
    tell which weights scored, by the models' names."""

    preferences: Preferences
    models: tuple[BaseModel, ...]
    warnings: tuple[str, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary: the fields of the first base model, and the others in a list."""
        data = self.preferences
        first, *others = [model.to_dict() for model in self.models]
        return {
            "kind": "typicality",
            "warnings": list(self.warnings),
            "identities": dict(self.identities),
            "data": {
                "file": data.file,
                "layout": data.layout,
                "rows": data.rows,
                "found": data.found,
                "pairs": len(data.pairs),
                "prompts": data.prompts,
                "skipped": dict(data.skipped),
                "examples": list(data.examples),
                "ties": data.ties,
                "correctness": data.correctness,
                "text": data.format,
            },
            **first,
            "others": others,
        }


def typicality(
    preferences: Preferences,
    scored: Mapping[str, Sequence[ScoredPair]],
    *,
    skipped: Mapping[str, Mapping[str, int]] | None = None,
    seed: int = 0,
) -> Typicality:
    """The estimates of every base model in `scored`, by its name; p-values are corrected over them (Holm).

    `skipped` counts, for each base model, the pairs that could not be scored, by reason. Raises `UndefinedError`
    where a base model has no pair to estimate from.
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
    if lost := sum(preferences.skipped.values()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in preferences.skipped.items())
        warnings.insert(0, f"{preferences.file}: {lost:,} left out ({reasons}), as in {preferences.examples[0]}")
    return Typicality(preferences, tuple(models), tuple(warnings))


def estimate_alpha(
    base: str,
    items: Sequence[ScoredPair],
    *,
    ordered: bool,
    skipped: Mapping[str, int] | None = None,
    seed: int = 0,
) -> BaseModel:
    """alpha and its controls for one base model. `ordered` as in `Preferences`: with it an intercept is fitted, as
    published; without it the estimate does not depend on which response comes first.

    Raises `UndefinedError` for no pairs, none of equal correctness, or log-likelihoods that never differ.
    """
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, not {seed}")
    counts = dict(skipped or {})
    finite = [item for item in items if _finite(item)]
    if len(finite) < len(items):
        counts["log-likelihood that is not finite"] = len(items) - len(finite)
    if not finite:
        raise UndefinedError(f"there is no pair that {base} has scored: alpha does not exist")
    everything = PairSample.of(finite, ordered=ordered)
    correctness = bool(np.isfinite(everything.gap).any())
    main = everything.where(everything.gap == 0) if correctness else everything
    sorted_by_rating = ordered and len(main) > 0 and np.ptp(main.preferred) == 0
    if sorted_by_rating:
        # One outcome leaves an intercept nothing to fit: Bradley-Terry without one does not need the order.
        everything, main = replace(everything, ordered=False), replace(main, ordered=False)
    if not len(main):
        raise UndefinedError(
            f"none of the {len(everything):,} pairs has equal correctness: leave its ratings out to take them all"
        )
    fitted = alpha_of(main)
    alpha, sd = Effect.of(fitted), main.sd(main.mean)
    made, notes = controls(main, everything, seed)
    if sorted_by_rating:
        notes.insert(
            0,
            "the preferred response always has the same place, so the order tells nothing: alpha is "
            "estimated without an intercept",
        )
    return BaseModel(
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
        controls=made,
        curve=curve(main, alpha.value, seed),
        correctness=correctness,
        penalised=fitted.penalised,
        notes=(*_notes(main, alpha, fitted.penalised, counts), *notes),
    )


def _finite(item: ScoredPair) -> bool:
    return all(len(score) and math.isfinite(score.total) for score in (item.first, item.second))


def _rate(sample: PairSample) -> Estimate:
    likelier = np.where(sample.mean == 0, 0.5, (sample.mean > 0) == (sample.preferred == 1))
    sums = np.bincount(sample.prompt, likelier)
    counts = np.bincount(sample.prompt)
    found = mean_estimate(sums[counts > 0], counts[counts > 0])
    if found.low is not None and found.low == found.high and found.value in (0, 1):
        # No resample of pairs that all agree disagrees: Wilson's interval over prompts knows better.
        edge = _QUANTILE**2 / (found.units + _QUANTILE**2)
        low, high = (1 - edge, 1.0) if found.value else (0.0, edge)
        found = replace(found, low=low, high=high)
    return found


def _notes(main: PairSample, alpha: Effect, penalised: bool, skipped: Mapping[str, int]) -> list[str]:
    pairs, prompts = f"{len(main):,} pair{'s' * (len(main) > 1)}", main.prompts
    notes = []
    if lost := sum(skipped.values()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in skipped.items() if count)
        notes.append(f"{lost:,} pairs were not scored ({reasons})")
    if alpha.low is None or alpha.high is None:
        notes.append(f"only {pairs}, all of one prompt: alpha has no interval")
    elif len(main) < FEW:
        width = alpha.high - alpha.low
        notes.append(
            f"only {pairs}: alpha's 95 % interval is {width:.2f} wide, from {alpha.low:.2f} to {alpha.high:.2f}"
        )
    elif prompts < _FEW_PROMPTS:
        notes.append(f"only {prompts} prompts: standard errors clustered by so few are rough")
    if penalised:
        notes.append(
            "the pairs are separable: the regression fits them without an exception, so the effect has no upper "
            "bound; the estimate is penalised (Firth) to be finite, and its interval is a rough guide"
        )
    return notes
