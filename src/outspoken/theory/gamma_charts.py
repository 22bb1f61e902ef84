"""The chart of a measured gamma: the aligned model against its base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from outspoken.report.charts import Figure, LabelledPoint, altair, chart_of, label_layers, layer_charts

__all__ = ["figures"]

_TOP = 8
_NEAR = 150  # points that a name may not cover
_Row = dict[str, Any]


def figures(document: Mapping[str, Any]) -> list[Figure]:
    """The scatter, of shares or of log-probabilities."""
    counts = document["how"] == "counts"
    caption = (
        "A point is an answer: how likely it is under the base model, and how likely under the aligned one; both "
        "axes are logarithmic. On the dashed line (gamma = 1) alignment changed nothing. The steeper the solid "
        "line, the more the likely answers gained. "
    )
    if counts:
        caption += "Triangles at the lower edge are answers that never came: what their share is, is not known."
    elif document["prompts"] > 1:
        caption += "Each prompt's points are moved so that their mean lies at 0, because only slopes are compared."
    return [Figure("scatter", "Aligned against base", caption, _counts(document) if counts else _logs(document))]


def _counts(document: Mapping[str, Any]) -> Any:
    """Shares on logarithmic axes; answers that never came stand at the lower edge."""
    alt = altair()
    points = sorted((p for p in document["points"] if p["base"] > 0), key=lambda p: p["base"])
    floor = min((p["aligned"] for p in points if p["aligned"] > 0), default=0.01) / 3
    low, high = points[0]["base"], points[-1]["base"]
    rows = [{**p, "y": p["aligned"] or floor, "seen": p["aligned"] > 0, "x": p["base"]} for p in points]
    scale = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X("x:Q", title="share under the base model", scale=scale, axis=_percents(alt))
    top = max(row["y"] for row in rows)
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
    seen, never = ([row for row in rows if row["seen"] == there] for there in (True, False))
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
            *_names(rows),
        ],
        "Share under the aligned model against share under the base model",
        380,
    )


def _percents(alt: Any) -> Any:
    return alt.Axis(format="~%", tickCount=5, labelOverlap="greedy")


def _logs(document: Mapping[str, Any]) -> Any:
    """Log-probabilities; those of several prompts about their means, so that one line fits all."""
    alt = altair()
    points = sorted(document["points"], key=lambda point: point["prompt"])
    rows: list[_Row] = []
    for _, group in groupby(points, key=lambda point: point["prompt"]):
        here = list(group)
        base, aligned, fitted = (sum(p[name] for p in here) / len(here) for name in ("base", "aligned", "fitted"))
        moved = (base, aligned, fitted) if document["prompts"] > 1 else (0.0, 0.0, 0.0)
        rows += [
            {**p, "x": p["base"] - moved[0], "y": p["aligned"] - moved[1], "line": p["fitted"] - moved[2]}
            for p in here
        ]
    rows.sort(key=lambda row: row["x"])
    middle = tuple(sum(row[axis] for row in rows) / len(rows) for axis in ("x", "y"))
    ends = [rows[0], rows[-1]]
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
            chart_of([{"x": row["x"], "y": middle[1] + row["x"] - middle[0]} for row in ends])
            .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
            .encode(x=x, y=y),
            chart_of([{"x": row["x"], "y": row["line"]} for row in ends])
            .mark_line(strokeWidth=2, style="accent")
            .encode(x=x, y=y),
            chart_of(rows)
            .mark_point(filled=True, size=60, opacity=0.8, style="accent")
            .encode(x=x, y=y, tooltip=tooltip),
        ],
        "Log-probability under the aligned model against that under the base model",
        380,
    )


def _names(rows: list[_Row]) -> list[Any]:
    """The names of the most frequent answers, on logarithmic axes."""
    most = sorted(rows, key=lambda row: -row["y"])[:_NEAR]
    labels = [row["answer"][:18] if at < _TOP and row["seen"] else "" for at, row in enumerate(most)]
    labelled = list(zip(labels, most, strict=True))
    return label_layers(
        [LabelledPoint(label, row["x"], row["y"]) for label, row in labelled],
        [LabelledPoint(label, math.log(row["x"]), math.log(row["y"])) for label, row in labelled],
    )
