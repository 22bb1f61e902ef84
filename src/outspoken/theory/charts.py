"""The charts of theory documents, as Altair charts. A theme gives them their colours and fonts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from outspoken.io.text import shorten
from outspoken.report.charts import (
    Figure,
    LabelledPoint,
    alt,
    bars,
    chart_of,
    fold_others,
    label_layers,
    layer_charts,
    span,
)
from outspoken.report.format import percent
from outspoken.theory.report_text import ends, estimates, level_title
from outspoken.theory.sharpening_charts import sharpening_figures

__all__ = ["figures"]

_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
_TOP = 12
_LABELLED = 8
_NEAR = 150  # points that a label must not cover


def figures(document: dict[str, Any]) -> list[Figure]:
    """The charts of a document, in the order in which a page shows them."""
    of_kind = {"typicality": _typicality, "sharpen": sharpening_figures, "gamma": _gamma, "levels": _levels}
    return of_kind[document["kind"]](document)


def _typicality(document: dict[str, Any]) -> list[Figure]:
    """The forest plot of all base models, then a curve for each."""
    models = [document, *document["others"]]
    forest = Figure(
        "forest",
        "Preference for typical responses, and the same estimate under each control",
        "A row is an estimate (the diamond is the main one), the line through it its 95 % interval. Right of the "
        "dashed line at 1 the response that the base model finds more typical is preferred, left of it the other "
        "one. All rows have the same scale: the factor by which the odds of being preferred change for one "
        "standard deviation. If the interval with length held equal does not include 1, length alone does not "
        "explain the preference. The grey bar is the range of chance: an estimate inside it shows nothing.",
        _forest(models),
    )
    caption = (
        "A point is a group of pairs (larger for more pairs): how often the first response was preferred, with "
        "its 95 % interval. Further right, the base model finds the first response more likely; the axis is the "
        "difference of the two mean log-likelihoods. Without typicality bias the points lie along the dashed line "
        "at one half; with it they rise like the fitted curve."
    )
    return [forest, *(Figure("curve", model["base"], caption, _curve(model)) for model in models)]


def _forest(models: Sequence[dict[str, Any]]) -> Any:
    rows: list[dict[str, Any]] = []
    shown: list[str] = []
    for model in models:
        shown.append(_key(len(shown), "#", model["base"]))
        for estimate in estimates(model):
            ratio = estimate["odds_ratio"]
            if estimate["name"] == "permutation_null":  # the alphas of chance, on the same scale
                alphas = dict(zip(("value", "low", "high"), ends(estimate), strict=True))
                ratio = {
                    end: None if alpha is None else math.exp(alpha * model["sd"]) for end, alpha in alphas.items()
                }
            if not ratio or not ratio["value"]:  # 0: an underflow
                continue
            shown.append(_key(len(shown), " ", estimate["title"]))
            kind = {"main": "main", "permutation_null": "null"}.get(estimate["name"], "control")
            rows.append({"row": shown[-1], "kind": kind, "base": model["base"], **span("x", *ends(ratio))})
    spans = [row for row in rows if row["x_low"] and row["x_high"]]
    drawn = [row[end] for row in rows for end in ("x", "x_low", "x_high") if row[end]] or _RATIOS
    values = [value for value in _RATIOS if min(*drawn, 1) * 0.98 <= value <= max(*drawn, 1) * 1.02]
    x = alt.X(
        "x:Q",
        title="odds ratio per standard deviation",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(values=values, format="~g", labelOverlap="greedy", labelSeparation=6),
    )
    axis = alt.Axis(
        labelExpr="split(slice(datum.label, 4), '\\n')",
        labelFontWeight={"condition": {"test": "datum.label[3] === '#'", "value": "bold"}, "value": "normal"},
        labelLimit=170,
        ticks=False,
        domain=False,
        grid=False,
    )
    y = alt.Y("row:N", title=None, sort=shown, scale=alt.Scale(domain=shown), axis=axis)
    colour = alt.Color("base:N", scale=alt.Scale(domain=["", *(model["base"] for model in models)]), legend=None)
    tooltip = [alt.Tooltip("base:N"), alt.Tooltip("x_text:N", title="odds ratio (95 %)")]
    chance, rest = ([row for row in spans if (row["kind"] == "null") == null] for null in (True, False))
    layers = [
        chart_of([{"x": 1}]).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of(chance)
        .mark_rule(strokeWidth=12, style="reference")
        .encode(x="x_low:Q", x2="x_high:Q", y=y, tooltip=tooltip),
        chart_of(rest).mark_rule(strokeWidth=2).encode(x="x_low:Q", x2="x_high:Q", y=y, color=colour),
        chart_of([row for row in rows if row["kind"] == "main"])
        .mark_point(filled=True, size=150, opacity=1, shape="diamond")
        .encode(x=x, y=y, color=colour, tooltip=tooltip),
        chart_of([row for row in rows if row["kind"] == "control"])
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=tooltip),
    ]
    return layer_charts(
        layers, "Odds ratios per standard deviation, of the main estimate and its controls", 38 * len(shown)
    )


def _key(at: int, mark: str, label: str) -> str:
    """The value of a row: unique, with the visible label from its fifth character on."""
    return f"{at:03d}{mark}" + "\n".join(textwrap.wrap(label, 24, max_lines=2, placeholder="…"))


def _curve(model: dict[str, Any]) -> Any:
    bins = model["curve"]["bins"]
    rows = [{**span("y", *ends(entry), write=percent), "x": entry["x"], "pairs": entry["pairs"]} for entry in bins]
    x = alt.X("x:Q", title="difference, nats a token")
    y = alt.Y(
        "y:Q", title="first response preferred", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False, padding=12)
    )
    most = max((entry["pairs"] for entry in bins), default=1)
    size = alt.Size("pairs:Q", legend=None, scale=alt.Scale(domain=[0, most], range=[20, 140]))
    tooltip = [
        alt.Tooltip("x:Q", title="difference", format=".2f"),
        alt.Tooltip("y_text:N", title="preferred (95 %)"),
        alt.Tooltip("pairs:Q"),
    ]
    layers = [
        chart_of([{"y": 0.5}]).mark_rule(strokeDash=[4, 4], style="quiet").encode(y=y),
        chart_of(rows)
        .mark_rule(strokeWidth=1.5, opacity=0.6, style="accent")
        .encode(x=x, y="y_low:Q", y2="y_high:Q"),
        chart_of(model["curve"]["line"]).mark_line(strokeWidth=2, style="accent").encode(x=x, y=y),
        chart_of(rows)
        .mark_point(filled=True, opacity=1, style="accent")
        .encode(x=x, y=y, size=size, tooltip=tooltip),
    ]
    return layer_charts(layers, f"Share preferred over the difference of log-likelihood, {model['base']}", 300)


def _gamma(document: dict[str, Any]) -> list[Figure]:
    """The scatter plot of shares or of log-probabilities."""
    counts = document["how"] != "logprobs"
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


def _counts(document: dict[str, Any]) -> Any:
    """Shares on logarithmic axes; answers that never came are at the lower edge."""
    points = sorted((p for p in document["points"] if p["base"] > 0), key=lambda p: p["base"])
    floor = min((p["aligned"] for p in points if p["aligned"] > 0), default=0.01) / 3
    rows = [{**p, "x": p["base"], "y": p["aligned"] or floor} for p in points]
    top = min(1.0, max(row["y"] for row in rows) * 1.6)
    axis = alt.Axis(format="~%", tickCount=5, labelOverlap="greedy")
    x_scale = alt.Scale(type="log", nice=False, padding=12)
    y_scale = alt.Scale(type="log", nice=False, domain=[floor * 0.75, top])
    x = alt.X("x:Q", title="share under the base model", scale=x_scale, axis=axis)
    y = alt.Y("y:Q", title="share under the aligned model", scale=y_scale, axis=axis)
    tooltip = ["answer:N", *(alt.Tooltip(f"{name}:Q", format=".3%") for name in ("base", "aligned", "fitted"))]
    seen, never = ([row for row in rows if (row["aligned"] > 0) == wanted] for wanted in (True, False))
    unchanged = [{"x": row["x"], "y": row["x"]} for row in (rows[0], rows[-1])]
    fitted = [{"x": p["base"], "y": p["fitted"]} for p in points if p["fitted"]]
    layers = [
        chart_of(unchanged)
        .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet", clip=True)
        .encode(x=x, y=y),
        chart_of(fitted).mark_line(strokeWidth=2, style="accent", clip=True).encode(x=x, y=y),
        chart_of(never)
        .mark_point(shape="triangle-down", size=60, opacity=0.8, style="quiet")
        .encode(x=x, y=y, tooltip=tooltip),
        chart_of(seen)
        .mark_point(filled=True, size=70, opacity=0.9, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
        *_labels(rows),
    ]
    return layer_charts(layers, "Share under the aligned model against share under the base model", 380)


def _labels(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The labels of the most frequent answers, on logarithmic axes."""
    labelled = [
        (shorten(row["answer"], 18) if at < _LABELLED and row["aligned"] > 0 else "", row["x"], row["y"])
        for at, row in enumerate(sorted(rows, key=lambda row: -row["y"])[:_NEAR])
    ]
    return label_layers(
        [LabelledPoint(*point) for point in labelled],
        [LabelledPoint(label, math.log(x), math.log(y)) for label, x, y in labelled],
    )


def _logs(document: dict[str, Any]) -> Any:
    """Log-probabilities; those of several prompts minus their means, so that one line fits all."""
    names = ("base", "aligned", "fitted")
    rows: list[dict[str, Any]] = []
    points = sorted(document["points"], key=lambda point: point["prompt"])
    for _, group in groupby(points, key=lambda point: point["prompt"]):
        own = list(group)
        several = document["prompts"] > 1
        shift = {name: sum(p[name] for p in own) / len(own) if several else 0.0 for name in names}
        rows += [
            {**p, **{axis: p[name] - shift[name] for axis, name in zip(("x", "y", "line"), names, strict=True)}}
            for p in own
        ]
    rows.sort(key=lambda row: row["x"])
    offset = sum(row["y"] - row["x"] for row in rows) / len(rows)
    outer = (rows[0], rows[-1])
    scale, ticks = alt.Scale(zero=False, nice=False, padding=14), alt.Axis(tickCount=8)
    x = alt.X("x:Q", title="log-probability, base model, nats", scale=scale, axis=ticks)
    y = alt.Y("y:Q", title="log-probability, aligned model, nats", scale=scale, axis=ticks)
    tooltip = ["answer:N", "prompt:N", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in names)]
    layers = [
        chart_of([{"x": row["x"], "y": row["x"] + offset} for row in outer])
        .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
        .encode(x=x, y=y),
        chart_of([{"x": row["x"], "y": row["line"]} for row in outer])
        .mark_line(strokeWidth=2, style="accent")
        .encode(x=x, y=y),
        chart_of(rows)
        .mark_point(filled=True, size=60, opacity=0.8, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
    ]
    return layer_charts(layers, "Log-probability under the aligned model against that under the base model", 380)


def _levels(document: dict[str, Any]) -> list[Figure]:
    answers, arms = document["answers"], document["arms"]
    base = {entry["text"]: entry["base"] for entry in answers}
    shares = {level_title(arm["level"]): {entry["text"]: entry[arm["level"]] for entry in answers} for arm in arms}
    top = sorted(base, key=lambda text: -base[text])[:_TOP]
    most = max(max(fold_others(each, top).values()) for each in (base, *shares.values())) or 1.0
    colour = alt.Color("level:N", scale=alt.Scale(domain=["", *shares]), legend=None)
    caption = (
        "0 is the base distribution itself, 1 has nothing in common with it. The line through a point is "
        "its 95 % interval. "
    )
    if document["floor"]:
        caption += "The dashed line is the mean distance of as many draws from the base itself."
    distance = _distance(document, colour)
    figures = [Figure("distance", "Distance from the base distribution", caption, distance)]
    for name, own in shares.items():
        rows = [{"answer": key, "share": share, "level": name} for key, share in fold_others(own, top).items()]
        chart = bars(rows, fold_others(base, top), most, f"Answers when asked for {name}", color=colour)
        figures.append(Figure("answers", f"Asked for {name}", "", chart))
    return figures


def _distance(document: dict[str, Any], colour: Any) -> Any:
    rows = [{"level": level_title(arm["level"]), **span("x", *ends(arm["tv"]))} for arm in document["arms"]]
    floor = document["floor"]
    scale, axis = alt.Scale(domainMin=0), alt.Axis(tickCount=5)
    x = alt.X("x:Q", title="total variation from the base", scale=scale, axis=axis)
    y = alt.Y("level:N", title=None, sort=[row["level"] for row in rows])
    tooltip = [alt.Tooltip("level:N"), alt.Tooltip("x_text:N", title="total variation (95 %)")]
    layers = [
        chart_of([{"x": floor}] if floor else []).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=2)
        .encode(x="x_low:Q", x2="x_high:Q", y=y, color=colour),
        chart_of(rows)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=tooltip),
    ]
    return layer_charts(layers, "Total variation of each level from the base distribution", 44 * len(rows))
