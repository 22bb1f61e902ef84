"""Accuracies and differences over seeds and questions, with intervals; and what is drawn of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from outspoken.report.charts import altair, span, spec, write_pictures

__all__ = ["Figure", "by_told", "draw", "figure"]

Floats = NDArray[np.float64]

_MOST = 10_000
_BINS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, _MOST))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its 95 % interval, its standard error, and the two-sided p of its being 0; None: not defined."""

    value: float
    low: float | None
    high: float | None
    se: float | None
    p: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def figure(right: ArrayLike, weights: ArrayLike, kinds: Sequence[str]) -> Figure:
    """The weighted mean of `right` (seeds, questions), `weights` alike, each seed's summing to 1.

    Another seed (which questions are common, the data drawn, the training) would give another figure, and so would
    other questions of the same kinds. Its variance is the sum of both: that of the seeds' means, and that of the
    questions' means within kinds. What belongs to both is counted twice, so the interval is somewhat too wide. Its
    quantiles are Student's, with the degrees of freedom of that sum (Welch and Satterthwaite).
    """
    table = np.asarray(right, dtype=np.float64) * np.asarray(weights, dtype=np.float64)
    seeds = len(table)
    value = float(table.sum(axis=1).mean())
    if seeds < 2:
        return Figure(value, None, None, None, None)
    asked = table.mean(axis=0)
    inside = [asked[[each == kind for each in kinds]] for kind in dict.fromkeys(kinds)]
    parts = [(float(table.sum(axis=1).var(ddof=1)) / seeds, seeds - 1)]
    parts += [(len(some) * float(some.var(ddof=1)), len(some) - 1) for some in inside if len(some) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Figure(value, value, value, 0.0, None)
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    se = math.sqrt(variance)
    reach = float(student.ppf(0.975, freedom)) * se
    return Figure(value, value - reach, value + reach, se, float(2 * student.sf(abs(value) / se, freedom)))


def by_told(told: Sequence[int], right: Sequence[float]) -> list[dict[str, Any]]:
    """Accuracy by how many records of a kind were learned from: `told` and `right` have one entry for each kind of
    each training. The intervals take these for independent."""
    rows = []
    for low, high in _BINS:
        inside = np.array([share for number, share in zip(told, right, strict=True) if low <= number <= high])
        if not len(inside):
            continue
        name = f"{low}" if low == high else f"{low} to {high}" if high < _MOST else f"over {low - 1}"
        value = float(inside.mean())
        reach = 1.96 * float(inside.std(ddof=1)) / math.sqrt(len(inside)) if len(inside) > 1 else 0.0
        rows.append(
            {"told": name, "value": value, "low": value - reach, "high": value + reach, "kinds": len(inside)}
        )
    return rows


def draw(found: Mapping[str, Any], folder: Path) -> None:
    """Both charts as PNG and SVG: accuracy by arm, and by how often a kind was told."""
    alt = altair()
    arms = [arm["title"] for arm in found["arms"]]
    rows = [
        {"arm": arm["title"], "asked": name, **span("x", **{k: arm[key][k] for k in ("value", "low", "high")})}
        for arm in found["arms"]
        for key, name in (("uniform", "all kinds alike"), ("weighted", "common kinds more"))
    ]
    points = [
        {"arm": arm["title"], "asked": "all kinds alike", "x": share}
        for arm in found["arms"]
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
                "x:Q", axis=percent, title="right answers to questions never told", scale=alt.Scale(domainMin=0)
            ),
            color=colour,
        ),
        alt.Chart(alt.InlineData(values=points))
        .mark_tick(thickness=1.5, size=9, opacity=0.7)
        .encode(x="x:Q", y=at, yOffset=alt.YOffset("asked:N"), color=colour),
    )
    bins = [row["told"] for row in found["by_told"]]
    told = alt.X("told:N", sort=bins, title="records of a kind among those learned from")
    frequency = alt.Chart(alt.InlineData(values=found["by_told"])).encode(x=told.axis(labelAngle=0))
    learned = alt.layer(
        frequency.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2="high:Q"),
        frequency.mark_point(filled=True, size=90, opacity=1).encode(
            y=alt.Y("value:Q", axis=percent, title="right answers of this kind")
        ),
    )
    write_pictures(
        [
            ("accuracy", "Same number of records, same training", spec(accuracy, 460, 240)),
            ("learned", "What is told is learned", spec(learned, 460, 220)),
        ],
        folder,
    )
