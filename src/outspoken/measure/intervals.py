"""The interval of a mean of units, for skewed figures, figures of few values, and units of unequal weight.

The rule: Hall's skewness-corrected t interval, with the degrees of freedom of the units' weights. For figures that
take few values it is widened to a score interval, which has a width even if all units agree.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

__all__ = ["NOT_TRUSTED", "UnitFigures", "interval", "wilson_of"]

Floats = NDArray[np.float64]

NOT_TRUSTED = "not to be trusted"
_FEW_VALUES = 4
_ROUNDING = 1e-12


class UnitFigures:
    """The figures of units, and their mean `value`, which is sum(values) / sum(weights).

    `figures` are value + (v - value * w) / mean(w), the linearised contributions of a ratio, whose plain mean is
    the value; with equal weights they are the values. `effective` is the number of equally weighted units with the
    same precision: sum(w)^2 / sum(w^2) (Kish 1965).
    """

    def __init__(self, values: Floats, weights: Floats) -> None:
        self.value = float(values.sum() / weights.sum())
        self.figures = self.value + (values - self.value * weights) / weights.mean()
        self.effective = float(weights.sum() ** 2 / (weights * weights).sum())

    @property
    def vary(self) -> bool:
        """Whether the figures differ by more than rounding."""
        largest = float(np.abs(self.figures).max())
        return float(np.ptp(self.figures)) > _ROUNDING * largest and float(self.figures.std()) > 0

    def minus(self, other: UnitFigures) -> UnitFigures:
        """The differences of two groups on the same units."""
        difference = UnitFigures.__new__(UnitFigures)
        difference.value = self.value - other.value
        difference.figures = self.figures - other.figures
        difference.effective = min(self.effective, other.effective)
        return difference


def interval(
    units: UnitFigures,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    step: float | None = None,
) -> tuple[float, float, str]:
    """The interval of the mean of at least two units, and a note if it cannot be trusted.

    Hall, "On the removal of skewness by transformation" (1992): with the skewness g, a = g / (3 sqrt(n)) and
    b = g / (6 sqrt(n)), the ends are value - se f(t) and value - se f(-t), where f(x) = (cbrt(1 + 3 a (x - b)) -
    1) / a and t is Student's with the effective number of units less one.

    `step` says that a unit's figure is a count of this grain, or with `bounds` a share of responses. For shares,
    and for counts with at most four different figures, the interval is extended to Wilson's (1927), scaled to the
    bounds or to the range of the counts. Units that all agree might have differed by one step. The interval stays
    within `bounds`.
    """
    critical = float(student.isf((1 - level) / 2, max(units.effective - 1, 1)))
    low, high = _hall(units, critical)
    note = ""
    few_values = len(np.unique(np.round(units.figures, 9))) <= _FEW_VALUES
    range_ = bounds if bounds is not None and math.isfinite(bounds[1] - bounds[0]) else None
    if step is not None and (few_values or range_ is not None):
        score = _score(units, critical, range_, step)
        low, high = min(low, score[0]), max(high, score[1])
    elif not units.vary:
        note = f"no variation: the interval is {NOT_TRUSTED}"
    if bounds is not None:
        low, high = (min(max(end, bounds[0]), bounds[1]) for end in (low, high))
    return low, high, note


def _hall(units: UnitFigures, critical: float) -> tuple[float, float]:
    if not units.vary:
        return units.value, units.value
    centred, count = units.figures - units.value, len(units.figures)
    deviation = float(units.figures.std())
    error = deviation / math.sqrt(count - 1)
    skewness = float(((centred / deviation) ** 3).mean())
    if count > 2:  # the bias of the sample's skewness
        skewness *= math.sqrt(count * (count - 1)) / (count - 2)
    a, b = skewness / (3 * math.sqrt(count)), skewness / (6 * math.sqrt(count))

    def corrected(t: float) -> float:
        return t if abs(a) < 1e-9 else (float(np.cbrt(1 + 3 * a * (t - b))) - 1) / a

    return units.value - corrected(critical) * error, units.value - corrected(-critical) * error


def _score(
    units: UnitFigures, critical: float, bounds: tuple[float, float] | None, step: float
) -> tuple[float, float]:
    """Wilson's interval of the mean on the scale of its range, with as many trials as its variance amounts to."""
    count = len(units.figures)
    if bounds is None and not units.vary:
        reach = step * critical**2 / (count + critical**2)  # the upper end for none of `count`
        return units.value - reach, units.value + reach
    low, high = bounds or (float(units.figures.min()), float(units.figures.max()))
    share = (units.value - low) / (high - low)
    variance = float(units.figures.var(ddof=1)) / count / (high - low) ** 2
    trials = max(share * (1 - share) / variance if variance > 0 else count, units.effective)
    ends = wilson_of(share, trials, critical)
    return low + ends[0] * (high - low), low + ends[1] * (high - low)


def wilson_of(share: float, trials: float, critical: float) -> tuple[float, float]:
    """Wilson's score interval of a share of `trials`; `critical` is the normal or Student's quantile."""
    spread = critical**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = critical / (1 + spread) * math.sqrt(max(0.0, share * (1 - share)) / trials + spread / (4 * trials))
    return middle - half, middle + half
