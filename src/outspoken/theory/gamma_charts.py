"""The chart of a measured gamma: the aligned model against its base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from outspoken.report.charts import Figure, LabelledPoint, altair, chart_of, label_layers, layer_charts
from outspoken.theory.documents import GammaDocument, PointEntry

__all__ = ["figures"]

_TOP = 8
_NEAR = 150  # points that a label must not cover


@dataclass(frozen=True, slots=True)
class _PlottedPoint:
    """A point of a document with its position; `line` is the height of the fitted line."""

    entry: PointEntry
    x: float
    y: float
    line: float = 0.0

    @property
    def seen(self) -> bool:
        return self.entry["aligned"] > 0

    def row(self) -> dict[str, object]:
        return {**self.entry, "x": self.x, "y": self.y}


def figures(document: GammaDocument) -> list[Figure]:
    """The scatter plot of shares or of log-probabilities."""
    counts = document["how"] == "counts"
    caption = (
        "A point is an answer: how likely it is under the base model, and how likely under the aligned one; both "
        "axes are logarithmic. On the dashed line (gamma = 1) alignment changed nothing. The steeper the solid "
        "line, the more the likely answers gained. "
    )
    if counts:
        caption += "Triangles at the lower edge are answers that never came: their share is not known."
    elif document["prompts"] > 1:
        caption += "Each prompt's points are shifted so that their mean is 0, because only slopes are compared."
    return [Figure("scatter", "Aligned against base", caption, _counts(document) if counts else _logs(document))]


def _counts(document: GammaDocument) -> Any:
    """Shares on logarithmic axes; answers that never came are at the lower edge."""
    alt = altair()
    points = sorted((p for p in document["points"] if p["base"] > 0), key=lambda p: p["base"])
    floor = min((p["aligned"] for p in points if p["aligned"] > 0), default=0.01) / 3
    low, high = points[0]["base"], points[-1]["base"]
    plotted = [_PlottedPoint(p, p["base"], p["aligned"] or floor) for p in points]
    scale = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X("x:Q", title="share under the base model", scale=scale, axis=_percents(alt))
    top = max(p.y for p in plotted)
    y = alt.Y(
        "y:Q",
        title="share under the aligned model",
        scale=alt.Scale(type="log", nice=False, domain=[floor * 0.75, min(1.0, top * 1.6)]),
        axis=_percents(alt),
    )
    tooltip = [
        alt.Tooltip("answer:N"),
        *(alt.Tooltip(f"{name}:Q", format=".3%") for name in ("base", "aligned", "fitted")),
    ]
    seen, never = ([p.row() for p in plotted if p.seen == wanted] for wanted in (True, False))
    fitted = [{"x": p["base"], "y": p["fitted"]} for p in points if p["fitted"]]
    return layer_charts(
        [
            chart_of([{"x": end, "y": end} for end in (low, high)])
            .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet", clip=True)
            .encode(x=x, y=y),
            chart_of(fitted).mark_line(strokeWidth=2, style="accent", clip=True).encode(x=x, y=y),
            chart_of(never)
            .mark_point(shape="triangle-down", size=60, opacity=0.8, style="quiet")
            .encode(x=x, y=y, tooltip=tooltip),
            chart_of(seen)
            .mark_point(filled=True, size=70, opacity=0.9, style="accent")
            .encode(x=x, y=y, tooltip=tooltip),
            *_labels(plotted),
        ],
        "Share under the aligned model against share under the base model",
        380,
    )


def _percents(alt: Any) -> Any:
    return alt.Axis(format="~%", tickCount=5, labelOverlap="greedy")


def _logs(document: GammaDocument) -> Any:
    """Log-probabilities; those of several prompts minus their means, so that one line fits all."""
    alt = altair()
    points = sorted(document["points"], key=lambda point: point["prompt"])
    plotted: list[_PlottedPoint] = []
    for _, group in groupby(points, key=lambda point: point["prompt"]):
        own = list(group)
        shift = [0.0, 0.0, 0.0]
        if document["prompts"] > 1:
            columns = zip(*((p["base"], p["aligned"], p["fitted"]) for p in own), strict=True)
            shift = [sum(column) / len(own) for column in columns]
        plotted += [
            _PlottedPoint(p, p["base"] - shift[0], p["aligned"] - shift[1], p["fitted"] - shift[2]) for p in own
        ]
    plotted.sort(key=lambda p: p.x)
    middle_x, middle_y = (
        sum(values) / len(plotted) for values in ([p.x for p in plotted], [p.y for p in plotted])
    )
    ends = [plotted[0], plotted[-1]]
    scale, ticks = alt.Scale(zero=False, nice=False, padding=14), alt.Axis(tickCount=8)
    x = alt.X("x:Q", title="log-probability, base model, nats", scale=scale, axis=ticks)
    y = alt.Y("y:Q", title="log-probability, aligned model, nats", scale=scale, axis=ticks)
    tooltip = [
        alt.Tooltip("answer:N"),
        alt.Tooltip("prompt:N"),
        *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("base", "aligned", "fitted")),
    ]
    return layer_charts(
        [
            chart_of([{"x": p.x, "y": middle_y + p.x - middle_x} for p in ends])
            .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
            .encode(x=x, y=y),
            chart_of([{"x": p.x, "y": p.line} for p in ends])
            .mark_line(strokeWidth=2, style="accent")
            .encode(x=x, y=y),
            chart_of([p.row() for p in plotted])
            .mark_point(filled=True, size=60, opacity=0.8, style="accent")
            .encode(x=x, y=y, tooltip=tooltip),
        ],
        "Log-probability under the aligned model against that under the base model",
        380,
    )


def _labels(points: Sequence[_PlottedPoint]) -> list[Any]:
    """The labels of the most frequent answers, on logarithmic axes."""
    frequent = sorted(points, key=lambda p: -p.y)[:_NEAR]
    labels = [p.entry["answer"][:18] if at < _TOP and p.seen else "" for at, p in enumerate(frequent)]
    labelled = list(zip(labels, frequent, strict=True))
    return label_layers(
        [LabelledPoint(label, p.x, p.y) for label, p in labelled],
        [LabelledPoint(label, math.log(p.x), math.log(p.y)) for label, p in labelled],
    )
