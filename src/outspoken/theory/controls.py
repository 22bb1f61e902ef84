"""The typicality bias of one set of scored pairs: the estimate, and controls that could contradict it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from outspoken.errors import UndefinedError
from outspoken.io.dataclass_json import to_json
from outspoken.measure.statistics import wilson
from outspoken.models.base import Score
from outspoken.theory.logistic import Fit, fit, fit_many
from outspoken.theory.preference_formats import PreferencePair

__all__ = [
    "Control",
    "Effect",
    "PairSample",
    "Range",
    "ScoredPair",
    "alpha_of",
    "change",
    "estimate_controls",
    "odds_ratio",
    "permutation_null",
    "preference_curve",
]


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with its 95 % interval. A figure or an end is None if it does not exist or overflows."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """A coefficient with its 95 % interval, its standard error and its two-sided p (null hypothesis: it is 0)."""

    value: float
    low: float | None
    high: float | None
    se: float | None
    p: float | None

    @classmethod
    def of(cls, fit: Fit) -> Effect:
        """The effect of the first column of a fit."""
        low, high = fit.interval(0) or (None, None)
        se = float(fit.se[0])
        return cls(float(fit.coef[0]), low, high, se if math.isfinite(se) else None, fit.p(0))

    @property
    def clear(self) -> bool:
        """Whether the effect differs from 0 at the 5 % level."""
        return self.p is not None and self.p < 0.05


@dataclass(frozen=True, slots=True)
class Control:
    """An estimate made in another way, to check the main one. `about` says what it controls for."""

    title: str
    about: str
    effect: Effect
    odds_ratio: Range | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, with the figures of the effect among the others."""
        entry = to_json(self)
        return {**entry.pop("effect"), **entry}


def odds_ratio(effect: Effect, sd: float) -> Range:
    """exp(alpha sd): the factor by which one standard deviation multiplies the odds of being preferred."""
    return _transform(effect, lambda alpha: math.exp(alpha * sd))


def change(effect: Effect, sd: float) -> Range:
    """sigmoid(alpha sd) - sigmoid(-alpha sd) = tanh(alpha sd / 2): the change of the probability from -1 to +1 SD.

    At an intercept of 0, which reproduces the published figures (arXiv 2510.01171, Table 5).
    """
    return _transform(effect, lambda alpha: math.tanh(alpha * sd / 2))


def _transform(effect: Effect, scale: Callable[[float], float]) -> Range:
    def scaled(alpha: float | None) -> float | None:
        try:
            return None if alpha is None else scale(alpha)
        except OverflowError:
            return None

    return Range(scaled(effect.value), scaled(effect.low), scaled(effect.high))


_PERMUTATIONS = 2_000
_BLOCK = 4_000_000  # random reversals held in memory at once
_BINS = 10
_PER_BIN = 5
_POINTS = 41
_Floats = NDArray[np.float64]

_MEAN = "the difference of mean log-likelihood"


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair with the scores of its two responses under a base model."""

    pair: PreferencePair
    first: Score
    second: Score


@dataclass(frozen=True, slots=True)
class PairSample:
    """Scored pairs as columns of n rows; the columns are differences, first response minus second.

    `preferred`: 1 if the first was preferred, else 0. `mean`: log-likelihood in nats a token, `total`: in nats,
    `tokens`: length in tokens, `gap`: correctness, NaN without ratings. `prompt`: the prompt's number, from 0.
    `ordered`: the order of the two responses carries information, so the estimate needs an intercept.
    """

    preferred: _Floats
    mean: _Floats
    total: _Floats
    tokens: _Floats
    gap: _Floats
    prompt: NDArray[np.int64]
    ordered: bool

    @classmethod
    def of(cls, items: Sequence[ScoredPair], *, ordered: bool) -> PairSample:
        """The columns of these pairs."""
        codes: dict[str, int] = {}
        rows = [
            (
                item.pair.preferred,
                item.first.total,
                item.second.total,
                len(item.first),
                len(item.second),
                np.nan if item.pair.gap is None else item.pair.gap,
                codes.setdefault(item.pair.prompt, len(codes)),
            )
            for item in items
        ]
        preferred, a, b, n, m, gap, prompt = np.array(rows, dtype=np.float64).reshape(-1, 7).T.copy()
        return cls(preferred, a / n - b / m, a - b, n - m, gap, prompt.astype(np.int64), ordered)

    def __len__(self) -> int:
        return len(self.preferred)

    @property
    def prompts(self) -> int:
        """The number of different prompts."""
        return len(np.unique(self.prompt))

    def where(self, kept: NDArray[np.bool_]) -> PairSample:
        """The selected rows."""
        names = ("preferred", "mean", "total", "tokens", "gap", "prompt")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def shuffled(self, seed: int) -> PairSample:
        """The same pairs, with the two responses of each in random order."""
        sign = np.random.default_rng((seed, 0)).choice([-1.0, 1.0], len(self))
        preferred = np.where(sign > 0, self.preferred, 1 - self.preferred)
        mean, total, tokens, gap = (column * sign for column in (self.mean, self.total, self.tokens, self.gap))
        return replace(self, preferred=preferred, mean=mean, total=total, tokens=tokens, gap=gap, ordered=True)

    def sd(self, column: _Floats) -> float:
        """The standard deviation of a difference; without `ordered`, over both orders of each pair."""
        if self.ordered:
            return float(np.std(column, ddof=1)) if len(column) > 1 else 0.0
        return float(np.sqrt(np.mean(column**2)))


def alpha_of(sample: PairSample, adjust_for: str = "", of: str = "mean") -> Fit:
    """Bradley-Terry, P(first preferred) = sigmoid(alpha difference), with an intercept if the sample is ordered.

    The first coefficient is that of the difference `of`: "mean" or "total". `adjust_for` adds a second difference,
    "tokens" or "gap".
    """
    names = {"mean": _MEAN, "total": "the difference of summed log-likelihood"}
    names |= {"tokens": "the difference of length", "gap": "the difference of correctness"}
    columns = [of, *([adjust_for] if adjust_for else [])]
    rows = [getattr(sample, name) for name in columns]
    if sample.ordered:
        rows.append(np.ones(len(sample)))
    return fit(
        np.column_stack(rows), sample.preferred, sample.prompt, [*(names[name] for name in columns), "the order"]
    )


def estimate_controls(main: PairSample, everything: PairSample, seed: int) -> tuple[dict[str, Control], list[str]]:
    """The controls by name, and a sentence for each one that does not exist for these pairs or is doubtful.

    `main` holds the pairs of the estimate, `everything` all of them. If correctness was rated, there are two more
    controls: all pairs, and all pairs adjusted for correctness.
    """
    controls: dict[str, Control] = {}
    notes: list[str] = []
    penalised: list[str] = []

    def add(name: str, title: str, about: str, sample: PairSample, adjust_for: str = "", of: str = "mean") -> None:
        try:
            fitted = alpha_of(sample, adjust_for, of)
        except UndefinedError as error:
            notes.append(f"there is no control {name!r}: {error}")
            return
        if fitted.penalised:
            penalised.append(title.lower())
        effect = Effect.of(fitted)
        controls[name] = Control(title, about, effect, odds_ratio(effect, sample.sd(getattr(sample, of))))

    add("length", "Length held equal", _ABOUT["length"], main, adjust_for="tokens")
    add("summed", "Summed, not mean", _ABOUT["summed"], main, of="total")
    add("randomised_order", "Order at random", _ABOUT["randomised_order"], main.shuffled(seed))
    null = permutation_null(main, seed)
    controls["permutation_null"] = Control("Labels shuffled", _ABOUT["permutation_null"], null, None)
    rated = everything.where(np.isfinite(everything.gap))
    if len(rated):
        add("all_pairs", "All pairs", _ABOUT["all_pairs"], everything)
        add("adjusted", "Correctness adjusted for", _ABOUT["adjusted"], rated, adjust_for="gap")
    if penalised:
        notes.append(f"also penalised (separable pairs), so only a rough guide: {', '.join(penalised)}")
    return controls, notes


_ABOUT = {
    "length": "The same estimate with the difference of length in tokens as a second regressor: the effect of "
    "likelihood among responses of equal length.",
    "summed": "The same estimate with the log-likelihood of the whole response instead of its mean per token. Its "
    "unit is another one: a sum falls with every token.",
    "randomised_order": "The same estimate with the two responses of each pair in random order, which "
    "removes every effect of the order.",
    "permutation_null": "The estimates when preferences are reversed at random, prompt by prompt, 2,000 times: "
    "their mean, their middle 95 %, and how often they were as far from 0 as the real one.",
    "all_pairs": "The same estimate on all pairs, whatever their correctness: better responses may be likelier.",
    "adjusted": "The same estimate on all pairs with the difference of correctness as a second regressor.",
}


def permutation_null(sample: PairSample, seed: int, permutations: int = _PERMUTATIONS) -> Effect:
    """The estimate when there is no effect: preferences are reversed at random, for whole prompts.

    `value` is the mean of the estimates, `low` and `high` their 2.5 and 97.5 percentiles, `se` their standard
    deviation, and p the share at least as far from 0 as the estimate, (b + 1) / (m + 1).
    """
    rows = sample.mean[:, None]
    if sample.ordered:
        rows = np.column_stack([rows, np.ones(len(sample))])
    reversal = np.zeros((sample.prompt.max() + 1, rows.shape[1]))
    np.add.at(reversal, sample.prompt, rows * (1 - 2 * sample.preferred)[:, None])
    random = np.random.default_rng((seed, 1))
    real = rows.T @ sample.preferred
    sums = [real[None, :]]
    step = max(1, _BLOCK // len(reversal))
    for start in range(0, permutations, step):
        reversed_ = random.integers(0, 2, (min(step, permutations - start), len(reversal)), np.int8)
        sums.append(real + reversed_.astype(np.float64) @ reversal)
    estimates = fit_many(rows, np.concatenate(sums))[:, 0]
    if not np.isfinite(estimates).all():
        # One of them is separable: penalise all, so that they can be compared.
        estimates = fit_many(rows, np.concatenate(sums), penalised=True)[:, 0]
    observed, null = abs(estimates[0]), estimates[1:]
    reached = int(np.count_nonzero(np.abs(null) >= observed * (1 - 1e-9)))
    low, high = np.quantile(null, [0.025, 0.975])
    p = (reached + 1) / (len(null) + 1)
    return Effect(float(null.mean()), float(low), float(high), float(null.std(ddof=1)), p)


def preference_curve(sample: PairSample, alpha: float, seed: int) -> dict[str, Any]:
    """The share preferred as a function of the difference of mean log-likelihood.

    `bins` have equal counts and Wilson's interval; `line` is the fitted sigmoid(alpha x). The two responses of
    each pair are put in random order, so there is no effect of order.
    """
    shuffled = sample.shuffled(seed)
    order = np.argsort(shuffled.mean, kind="stable")
    bins = [
        _bin(shuffled.mean[part], shuffled.preferred[part])
        for part in np.array_split(order, max(1, min(_BINS, len(sample) // _PER_BIN)))
    ]
    low, high = float(shuffled.mean.min()), float(shuffled.mean.max())
    if len(bins) > 1:
        # The line ends near the outer bins, so that a few distant pairs do not squeeze the rest of the chart.
        step = (bins[-1]["x"] - bins[0]["x"]) / 10
        low, high = max(low, bins[0]["x"] - step), min(high, bins[-1]["x"] + step)
    xs = np.linspace(low, high, _POINTS)
    return {"bins": bins, "line": [{"x": float(x), "y": float(expit(alpha * x))} for x in xs]}


def _bin(x: _Floats, preferred: _Floats) -> dict[str, Any]:
    low, high = wilson(int(preferred.sum()), len(x))
    return {"x": float(x.mean()), "value": float(preferred.mean()), "low": low, "high": high, "pairs": len(x)}
