"""The agreement of judges, corrected for agreement by chance.

Ratings are units x raters: a row for each item that was judged, a column for each judge, and None or NaN for a
missing rating.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError, UnknownNameError, UsageError
from outspoken.measure.statistics import plugin_estimate

__all__ = ["Agreement", "Level", "gwet_ac1", "krippendorff_alpha"]

Level = Literal["nominal", "ordinal", "interval"]

Ratings = Sequence[Sequence[Any]]
Floats = NDArray[np.float64]
_Parts = Callable[[NDArray[np.int32]], tuple[Floats, Floats]]
"""Returns the observed and the expected agreement, given how often each unit was drawn (samples, units)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient of agreement: 1 is perfect, 0 agreement by chance, and below 0 less than that.

    It is (observed - expected) / (1 - expected), from the `observed` share of agreement and the share `expected`
    by chance. `low` and `high` are the 95 % interval from resampling units, None if there is none (`note` says
    why). `units` and `raters` are the numbers of those with ratings.
    """

    coefficient: float
    observed: float
    expected: float
    units: int
    raters: int
    low: float | None = None
    high: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary; `note` only if there is one."""
        entry = asdict(self)
        return entry if self.note else {key: entry[key] for key in entry if key != "note"}


def gwet_ac1(ratings: Ratings, *, resamples: int = 10_000, seed: int = 0) -> Agreement:
    """Gwet's AC1 for nominal categories, several raters and missing ratings.

    observed = mean over units with at least two ratings of sum_k r_k (r_k - 1) / (r (r - 1)), where r_k of the r
    ratings of a unit are category k. expected = sum_k pi_k (1 - pi_k) / (q - 1), where pi_k is the mean of r_k / r
    over units with any rating and q the number of categories that occur; 0 if only one occurs, so that AC1 is 1.
    Source: Gwet 2008, British Journal of Mathematical and Statistical Psychology 61, 29-48, extended to missing
    ratings as in his "Handbook of Inter-Rater Reliability" (4th edition, 2014) and irrCAC.

    Raises `UndefinedError` for fewer than two raters or no unit with two ratings, `UsageError` for ragged rows.
    """
    counts, _, raters = _count_ratings(ratings)
    rated = counts.sum(axis=1)
    paired = rated > 1
    agreeing = (counts * (counts - 1)).sum(axis=1) / np.where(paired, rated * (rated - 1), 1)
    shares = counts / rated[:, None]
    others = max(counts.shape[1] - 1, 1)

    def parts(drawn: NDArray[np.int32]) -> tuple[Floats, Floats]:
        weights = drawn.astype(float)
        prevalence = weights @ shares / weights.sum(axis=1, keepdims=True)
        expected = (prevalence * (1 - prevalence)).sum(axis=1) / others
        return (weights @ agreeing) / (weights @ paired), expected

    return _agreement(parts, len(counts), raters, resamples, seed)


def krippendorff_alpha(
    ratings: Ratings, level: Level = "nominal", *, resamples: int = 10_000, seed: int = 0
) -> Agreement:
    """Krippendorff's alpha = 1 - D_o / D_e for several raters and missing ratings.

    D_o and D_e are the mean observed and expected distance of two ratings: 0 or 1 at the level `nominal`, the
    squared difference at `interval`, and the squared number of ratings between the two ranks at `ordinal`.
    `observed` and `expected` are 1 - D / (the greatest distance of two values that occur). Units with fewer than
    two ratings do not count. Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Raises `UndefinedError` for fewer than two raters, no unit with two ratings, or only one value (alpha does not
    exist without variation); `UsageError` for ragged rows, and at other levels than nominal for ratings that are
    not finite numbers.
    """
    if level not in get_args(Level):
        raise UnknownNameError("level of measurement", level, get_args(Level))
    counts, values, raters = _count_ratings(ratings)
    counts = counts[counts.sum(axis=1) > 1]
    used = counts.any(axis=0)
    counts, values = counts[:, used], [value for value, occurs in zip(values, used, strict=True) if occurs]
    if len(values) < 2:
        raise UndefinedError(f"every rating is {values[0]!r}: alpha does not exist without variation")
    if level == "nominal":
        scale = np.arange(len(values), dtype=float)
    else:
        scale = _scale(values, level)
        order = np.argsort(scale)
        counts, scale = counts[:, order], scale[order]
    greatest = _greatest(counts, scale, level)

    def parts(drawn: NDArray[np.int32]) -> tuple[Floats, Floats]:
        observed, expected = _distances(drawn.astype(float), counts, scale, level)
        return 1 - observed / greatest, 1 - expected / greatest

    return _agreement(parts, len(counts), raters, resamples, seed)


def _distances(drawn: Floats, counts: Floats, scale: Floats, level: Level) -> tuple[Floats, Floats]:
    """D_o and D_e for each row of `drawn` (how often each unit was drawn), computed without a coincidence matrix.
    D_e is NaN if only one value was drawn.

    For numbers, sum_ij (x_i - x_j)^2 = 2 (n sum x^2 - (sum x)^2). Ordinal distances are squared differences of the
    mid-ranks of the drawn ratings.
    """
    rated = counts.sum(axis=1)
    totals = drawn @ counts
    n = totals.sum(axis=1)
    if level == "nominal":
        within = rated**2 - (counts**2).sum(axis=1)
        between = n**2 - (totals**2).sum(axis=1)
    else:
        scores = np.cumsum(totals, axis=1) - totals / 2 if level == "ordinal" else np.tile(scale, (len(drawn), 1))
        scores = scores - scores.mean(axis=1, keepdims=True)
        within = 2 * (rated * (scores**2 @ counts.T) - (scores @ counts.T) ** 2)
        between = 2 * (n * (totals * scores**2).sum(axis=1) - (totals * scores).sum(axis=1) ** 2)
    # With only one value both are 0 apart from rounding.
    within = np.where((counts > 0).sum(axis=1) > 1, within, 0.0)
    between = np.where((totals > 0).sum(axis=1) > 1, between, math.nan)
    observed = (drawn * (within / (rated - 1))).sum(axis=1) / n
    return observed, between / (n * (n - 1))


def _greatest(counts: Floats, scale: Floats, level: Level) -> float:
    if level == "nominal":
        return 1.0
    totals = counts.sum(axis=0)
    if level == "ordinal":
        return float(totals.sum() - (totals[0] + totals[-1]) / 2) ** 2
    return float(scale[-1] - scale[0]) ** 2


def _agreement(parts: _Parts, units: int, raters: int, resamples: int, seed: int) -> Agreement:
    def coefficient(drawn: NDArray[np.int32]) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            observed, expected = parts(drawn)
            return (observed - expected) / (1 - expected)

    observed, expected = (float(part[0]) for part in parts(np.ones((1, units), dtype=np.int32)))
    estimate = plugin_estimate(coefficient, units, resamples=resamples, seed=seed, unit="unit")
    high = None if estimate.high is None else min(1.0, estimate.high)
    return Agreement(estimate.value, observed, expected, units, raters, estimate.low, high, estimate.note)


def _count_ratings(ratings: Ratings) -> tuple[Floats, list[Any], int]:
    """The number of ratings of each value (rated units, values), the values, and the number of raters."""
    rows = [list(row) for row in ratings]
    if len({len(row) for row in rows}) > 1:
        raise UsageError("the rows of the ratings differ in length: write None for a missing rating")
    given = [[value for value in row if not _missing(value)] for row in rows]
    raters = sum(any(not _missing(value) for value in column) for column in zip(*rows, strict=True))
    if raters < 2:
        raise UndefinedError(f"agreement needs at least two raters, not {raters}")
    if not any(len(row) > 1 for row in given):
        raise UndefinedError("no unit has two ratings: there is nothing to compare")
    if wrong := [value for row in given for value in row if not isinstance(value, Hashable)]:
        raise UsageError(f"a rating must be a single value, not {wrong[0]!r}")
    values = list(dict.fromkeys(value for row in given for value in row))
    columns = {value: column for column, value in enumerate(values)}
    counts = np.zeros((len(given), len(values)))
    for unit, row in enumerate(given):
        for value in row:
            counts[unit, columns[value]] += 1
    return counts[counts.any(axis=1)], values, raters


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _scale(values: list[Any], level: Level) -> Floats:
    try:
        scale = np.array([float(value) for value in values if not isinstance(value, str)])
    except (TypeError, ValueError, OverflowError):
        scale = np.array([math.nan])
    if len(scale) < len(values) or not np.isfinite(scale).all():
        raise UsageError(f"ratings at the level {level!r} must be finite numbers: number the categories")
    return scale
