"""How many answers are in the model: from the answers that came once or twice to those that never came.

Does a method only find the same answers sooner, or does it reach more of them? Chao1 is a lower bound of their
number, the coverage of Good and Turing the share of the next draws that will be known answers, and the rarefaction
curve the number of different answers over the number of draws, extrapolated to twice as many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import norm

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.values import JsonResult

__all__ = ["CurvePoint", "GroupRichness", "MeanRichness", "Richness", "group_richness", "mean_curve", "richness"]

Floats = NDArray[np.float64]

_ONE_SIDED, _TWO_SIDED = float(norm.isf(0.05)), float(norm.isf(0.025))
_POINTS = 20


@dataclass(frozen=True, slots=True)
class CurvePoint(JsonResult):
    """The expected number of different answers in some `draws`, with its 95 % interval.

    Beyond the draws that there are, it is extrapolated.
    """

    draws: int
    distinct: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Richness(JsonResult):
    """The answers seen in a number of draws, and an estimate of those in the model.

    `estimate` is Chao1, `at_least` its lower limit with a confidence of 95 % (never below `seen`). `coverage` is
    the share of further draws that would be answers already seen, with its 95 % interval. `new_in_as_many` is the
    number of new answers that as many further draws would show. `curve` has the different answers over the draws.
    """

    draws: int
    seen: int
    once: int
    twice: int
    estimate: float
    at_least: int
    coverage: float
    coverage_low: float
    coverage_high: float
    new_in_as_many: float
    curve: tuple[CurvePoint, ...]


def richness(counts: Iterable[int], *, points: int = _POINTS) -> Richness:
    """The richness behind counts of answers, one for each answer seen.

    - Chao1 (Chao 1984; Chao and Chiu 2016): S + (n-1)/n f1^2 / (2 f2), or S + (n-1)/n f1 (f1-1) / 2 without f2,
      where f1 and f2 answers came once and twice. The limit is that of the normal approximation: the usual
      log-normal one does not hold here by simulation. Without an answer that came once it is the number seen.
    - Coverage (Chao and Jost 2012): 1 - f1/n ((n-1) f1) / ((n-1) f1 + 2 f2); its variance is Good's (Esty 1983).
    - The curve is the exact expectation for fewer draws (Hurlbert 1971), and for m more draws
      S + f0 (1 - (1 - f1 / (n f0 + f1))^m) with f0 = Chao1 - S; its intervals are those of the unconditional
      variance (Chao et al. 2014). By simulation over uniform laws and Zipf's, 50 to 1,000 answers and 30 to 300
      draws, they hold the expectation of as many draws in 93 to 100 %, of twice as many in 88 to 100 %.

    Raises `UsageError` for counts that are no whole numbers of at least 0, `UndefinedError` for no draw.
    """
    values = _checked(counts)
    draws, seen = int(values.sum()), len(values)
    once, twice = int((values == 1).sum()), int((values == 2).sum())
    estimate, error = _chao1(draws, seen, once, twice)
    at_least = seen if once == 0 else max(seen, math.ceil(estimate - _ONE_SIDED * error - 1e-9))
    coverage, low, high = _coverage(draws, once, twice)
    curve = _curve(values, estimate - seen, once, points)
    return Richness(
        draws,
        seen,
        once,
        twice,
        estimate,
        at_least,
        coverage,
        low,
        high,
        max(0.0, curve[-1].distinct - seen),
        curve,
    )


def _checked(counts: Iterable[int]) -> Floats:
    values = np.array(list(counts), dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0) & (values == np.floor(values))).all():
        raise UsageError("counts of answers must be whole numbers of at least 0")
    values = values[values > 0]
    if not len(values):
        raise UndefinedError("there is no draw: nothing is known about the answers in the model")
    return values


def _chao1(draws: int, seen: int, once: int, twice: int) -> tuple[float, float]:
    """The estimate and its standard error (Chao 1987)."""
    share = (draws - 1) / draws
    if twice > 0:
        ratio = once / twice
        variance = twice * (share * ratio**2 / 2 + share**2 * ratio**3 + share**2 * ratio**4 / 4)
        return seen + share * once**2 / (2 * twice), math.sqrt(variance)
    estimate = seen + share * once * (once - 1) / 2
    variance = share * once * (once - 1) / 2 + share**2 * once * (2 * once - 1) ** 2 / 4
    variance -= share**2 * once**4 / (4 * estimate)
    return estimate, math.sqrt(max(0.0, variance))


def _coverage(draws: int, once: int, twice: int) -> tuple[float, float, float]:
    if draws == 1:
        return 0.0, 0.0, 1.0
    if once == 0:
        return 1.0, max(0.0, 1 - 3 / draws), 1.0  # no unseen answer in n draws: the rule of three
    weight = (draws - 1) * once
    pairs = max(1, twice)
    coverage = 1 - once / draws * weight / (weight + 2 * pairs)
    variance = (once * (1 - once / draws) + 2 * twice) / draws**2
    reach = _TWO_SIDED * math.sqrt(max(variance, 1e-12))
    high = max(coverage + reach, 3 / draws) if once == draws else coverage + reach  # as above: no draw came again
    return coverage, max(0.0, coverage - reach), min(1.0, high)


def _curve(values: Floats, unseen: float, once: int, points: int) -> tuple[CurvePoint, ...]:
    """The expected different answers at about `points` numbers of draws up to twice as many as there are."""
    draws, seen = int(values.sum()), len(values)
    sizes = sorted({max(1, round(size)) for size in np.linspace(1, 2 * draws, points)} | {draws, 2 * draws})
    twice = int((values == 2).sum())
    curve = []
    for size in sizes:
        if size <= draws:
            present = 1 - _absent(values, draws, size)
        else:
            present = np.ones(seen)
            by_once, by_twice = _slopes(draws, once, twice, size - draws)
            present[values == 1] += by_once
            present[values == 2] += by_twice
        expected = float(present.sum()) if size <= draws else seen + _gain(draws, once, twice, size - draws)
        # Chao et al. 2014, equations 5 and (with the slopes of the estimator) 10.
        variance = float((present**2).sum() - present.sum() ** 2 / (seen + unseen))
        # Without answers that came once that is 0; the law of the shares seen has some left.
        absent = (1 - values / draws) ** size
        variance = max(variance, float((absent * (1 - absent)).sum()))
        reach = _TWO_SIDED * math.sqrt(variance)
        curve.append(CurvePoint(size, expected, max(1.0, expected - reach), min(expected + reach, size)))
    return tuple(curve)


def _gain(draws: int, once: float, twice: float, more: int) -> float:
    """The new answers in some `more` draws."""
    if once <= 0:
        return 0.0
    share = (draws - 1) / draws
    unseen = share * (once**2 / (2 * twice) if twice > 0 else once * (once - 1) / 2)
    return unseen * (1 - (1 - once / (draws * unseen + once)) ** more) if unseen > 0 else 0.0


def _slopes(draws: int, once: int, twice: int, more: int) -> tuple[float, float]:
    """The derivatives of `_gain` by the answers that came once and by those that came twice."""
    step = 1e-4
    by_once = _gain(draws, once + step, twice, more) - _gain(draws, once - step, twice, more)
    by_twice = _gain(draws, once, twice + step, more) - _gain(draws, once, twice - step, more) if twice else 0.0
    return by_once / (2 * step), by_twice / (2 * step)


def _absent(values: Floats, draws: int, size: int) -> Floats:
    """The probability of each answer to be absent from a random subset: C(n - c, m) / C(n, m)."""
    rest = draws - values
    possible = rest >= size
    logs = np.full(len(values), -np.inf)
    chosen = rest[possible]
    logs[possible] = (
        gammaln(chosen + 1) - gammaln(chosen - size + 1) - gammaln(draws + 1) + gammaln(draws - size + 1)
    )
    return np.asarray(np.exp(logs))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRichness(JsonResult):
    """The means over the prompts of a group with an answer, of which there are `prompts`; see `Richness`."""

    prompts: int
    draws: float
    seen: float
    at_least: float
    coverage: float
    new_in_as_many: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRichness(MeanRichness):
    """The richness of the group with the index `group`."""

    group: int


def group_richness(group: int, prompts: Sequence[Richness]) -> GroupRichness:
    """The means of at least one prompt."""
    names = ("draws", "seen", "at_least", "coverage", "new_in_as_many")
    means = {name: float(np.mean([getattr(one, name) for one in prompts])) for name in names}
    return GroupRichness(group=group, prompts=len(prompts), **means, curve=mean_curve(prompts))


def mean_curve(curves: Sequence[Richness]) -> tuple[CurvePoint, ...]:
    """The mean curve of several prompts with about as many draws, at shares of the draws of each."""
    length = min((len(one.curve) for one in curves), default=0)
    rows = [
        [one.curve[round(at * (len(one.curve) - 1) / max(1, length - 1))] for one in curves]
        for at in range(length)
    ]
    return tuple(
        CurvePoint(
            round(float(np.mean([point.draws for point in row]))),
            float(np.mean([point.distinct for point in row])),
            _mean_end(row, -1),
            _mean_end(row, 1),
        )
        for row in rows
    )


def _mean_end(row: Sequence[CurvePoint], side: int) -> float:
    """The end of the interval of a mean of independent prompts."""
    mean = float(np.mean([point.distinct for point in row]))
    reach = [(point.high - point.distinct) if side > 0 else (point.distinct - point.low) for point in row]
    return mean + side * math.sqrt(float(np.sum(np.square(reach)))) / len(row)
