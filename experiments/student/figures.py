"""Accuracies and differences over seeds and questions, with intervals, and their charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from outspoken.report.charts import alt, span, spec, write_pictures

__all__ = ["AccuracyBin", "Figure", "by_records", "draw", "figure"]

Floats = NDArray[np.float64]

_MOST = 10_000
_BINS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, _MOST))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its 95 % interval, its standard error, and its two-sided p (null hypothesis: it is 0); None:
    undefined."""

    value: float
    low: float | None
    high: float | None
    se: float | None
    p: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def figure(right: ArrayLike, weights: ArrayLike, kinds: Sequence[str]) -> Figure:
    """The weighted mean of `right` (seeds, questions); `weights` have the same shape, and those of a seed sum to
    1.

    Another seed (which questions are common, the drawn data, the training) would give another figure, and so would
    other questions of the same kinds. The variance is the sum of both: that of the seeds' means, and that of the
    questions' means within kinds. The residual variance is counted twice, so the interval is somewhat too wide.
    Its quantiles are Student's, with the degrees of freedom of that sum (Welch and Satterthwaite).
    """
    table = np.asarray(right, dtype=np.float64) * np.asarray(weights, dtype=np.float64)
    seeds = len(table)
    value = float(table.sum(axis=1).mean())
    if seeds < 2:
        return Figure(value, None, None, None, None)
    means = table.mean(axis=0)
    by_kind = [means[[each == kind for each in kinds]] for kind in dict.fromkeys(kinds)]
    parts = [(float(table.sum(axis=1).var(ddof=1)) / seeds, seeds - 1)]
    parts += [(len(some) * float(some.var(ddof=1)), len(some) - 1) for some in by_kind if len(some) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Figure(value, value, value, 0.0, None)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    se = math.sqrt(variance)
    half = float(student.ppf(0.975, freedom)) * se
    return Figure(value, value - half, value + half, se, float(2 * student.sf(abs(value) / se, freedom)))


@dataclass(frozen=True, slots=True)
class AccuracyBin:
    """Accuracy on kinds with a number of training records in this range; `kinds` counts kinds of single
    students."""

    records: str
    value: float
    low: float
    high: float
    kinds: int


def by_records(records: Sequence[int], right: Sequence[float]) -> list[AccuracyBin]:
    """Accuracy by the number of training records of a kind.

    `records` and `right` have one entry for each kind of each training. The intervals treat them as independent.
    """
    bins = []
    for low, high in _BINS:
        inside = np.array([share for number, share in zip(records, right, strict=True) if low <= number <= high])
        if not len(inside):
            continue
        name = f"{low}" if low == high else f"{low} to {high}" if high < _MOST else f"over {low - 1}"
        value = float(inside.mean())
        half = 1.96 * float(inside.std(ddof=1)) / math.sqrt(len(inside)) if len(inside) > 1 else 0.0
        bins.append(AccuracyBin(name, value, value - half, value + half, len(inside)))
    return bins


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Both charts as PNG and SVG: accuracy by arm, and by the number of training records of a kind."""
    arms = [arm["title"] for arm in results["arms"]]
    rows = [
        {"arm": arm["title"], "asked": name, **span("x", **{k: arm[key][k] for k in ("value", "low", "high")})}
        for arm in results["arms"]
        for key, name in (("uniform", "all kinds alike"), ("weighted", "common kinds more"))
    ]
    points = [
        {"arm": arm["title"], "asked": "all kinds alike", "x": share}
        for arm in results["arms"]
        for share in arm["by_seed"]
    ]
    at = alt.Y("arm:N", sort=arms, title=None, axis=alt.Axis(labelLimit=220))
    percent = alt.Axis(format="%")
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=at, yOffset=alt.YOffset("asked:N"))
    colour = alt.Color("asked:N", title=None)
    accuracy = alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("x_low:Q"), x2="x_high:Q", color=colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=alt.X(
                "x:Q", axis=percent, title="right answers to held-out questions", scale=alt.Scale(domainMin=0)
            ),
            color=colour,
        ),
        alt.Chart(alt.InlineData(values=points))
        .mark_tick(thickness=1.5, size=9, opacity=0.7)
        .encode(x="x:Q", y=at, yOffset=alt.YOffset("asked:N"), color=colour),
    )
    bins = [row["records"] for row in results["by_records"]]
    records = alt.X("records:N", sort=bins, title="training records of the kind")
    frequency = alt.Chart(alt.InlineData(values=results["by_records"])).encode(x=records.axis(labelAngle=0))
    learned = alt.layer(
        frequency.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2="high:Q"),
        frequency.mark_point(filled=True, size=90, opacity=1).encode(
            y=alt.Y("value:Q", axis=percent, title="right answers of this kind")
        ),
    )
    write_pictures(
        [
            ("accuracy", "Same number of records, same training", spec(accuracy, 460, 240)),
            ("learned", "More records of a kind, more right answers", spec(learned, 460, 220)),
        ],
        folder,
    )
