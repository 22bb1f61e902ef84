"""The charts of typicality bias: a forest plot of its estimates, and preference as a function of
log-likelihood."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outspoken.report.charts import Figure, altair, chart_of, layer_charts, span
from outspoken.report.format import number, percent
from outspoken.theory.documents import EffectEntry, IntervalEntry, ModelBiasEntry, TypicalityDocument, ends

__all__ = ["TypicalityEstimate", "entry_span", "estimates", "figures"]

_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)


def figures(document: TypicalityDocument) -> list[Figure]:
    """The forest plot of all base models, then a curve for each."""
    models = [document, *document["others"]]
    forest = Figure(
        "forest",
        "Preference for typical responses, and the same estimate under each control",
        "A row is an estimate (the diamond is the main one), the line through it its 95 % interval. Right of the "
        "dashed line at 1 the response that the base model finds more typical is preferred, left of it the other "
        "one. All rows have the same scale: the factor by which the odds of being preferred change for one "
        "standard deviation. If the interval with length held equal does not include 1, length alone does not "
        "explain the preference. The grey bar is the range that chance gives: an estimate inside it shows "
        "nothing.",
        _forest(models),
    )
    caption = (
        "A point is a group of pairs (larger for more pairs): how often the first response was preferred, with "
        "its 95 % interval. Further right, the base model finds the first response more likely; the axis is the "
        "difference of the two mean log-likelihoods. Without typicality bias the points lie along the dashed line "
        "at one half; with it they rise like the fitted curve."
    )
    return [forest, *(Figure("curve", model["base"], caption, _curve(model)) for model in models)]


def _forest(models: Sequence[ModelBiasEntry]) -> Any:
    alt = altair()
    rows: list[dict[str, Any]] = []
    shown: list[str] = []
    for at, model in enumerate(models):
        shown.append(_key(len(shown), "#", model["base"]))
        for estimate in estimates(model):
            null = estimate.name == "permutation_null"
            ratio = _null_ratio(estimate.effect, model["sd"]) if null else estimate.odds_ratio
            if ratio is None or not ratio["value"]:  # 0: an underflow
                continue
            shown.append(_key(len(shown), " ", estimate.title))
            kind = {"main": "main", "permutation_null": "null"}.get(estimate.name, "control")
            rows.append(
                {"row": shown[-1], "kind": kind, "base": model["base"], "at": at, **entry_span("x", ratio)}
            )
    spans = [row for row in rows if row["x_low"] and row["x_high"]]
    ends = [row[end] for row in rows for end in ("x", "x_low", "x_high") if row[end]]
    values = [value for value in _RATIOS if not ends or min(*ends, 1) * 0.98 <= value <= max(*ends, 1) * 1.02]
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


def _null_ratio(null: EffectEntry, sd: float) -> IntervalEntry:
    """The odds ratio that chance gives: the alphas of the permutation null on the same scale."""
    value, low, high = (None if alpha is None else math.exp(alpha * sd) for alpha in ends(null))
    return {"value": value, "low": low, "high": high}


def _key(at: int, mark: str, label: str) -> str:
    """The value of a row: unique, with the visible label from its fifth character on."""
    return f"{at:03d}{mark}" + "\n".join(textwrap.wrap(label, 24)[:2])


def _curve(model: ModelBiasEntry) -> Any:
    alt = altair()
    rows = [
        {
            **span("y", entry["value"], entry["low"], entry["high"], write=percent),
            "x": entry["x"],
            "pairs": entry["pairs"],
        }
        for entry in model["curve"]["bins"]
    ]
    x = alt.X("x:Q", title="difference, nats a token")
    y = alt.Y(
        "y:Q", title="first response preferred", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False, padding=12)
    )
    most = max((entry["pairs"] for entry in model["curve"]["bins"]), default=1)
    size = alt.Size("pairs:Q", legend=None, scale=alt.Scale(domain=[0, most], range=[20, 140]))
    tooltip = [
        alt.Tooltip("x:Q", title="difference", format=".2f"),
        alt.Tooltip("y_text:N", title="preferred (95 %)"),
        alt.Tooltip("pairs:Q"),
    ]
    layers = [
        chart_of([{"y": 0.5}]).mark_rule(strokeDash=[4, 4], style="quiet").encode(y=y),
        chart_of([row for row in rows if row["y_low"] is not None])
        .mark_rule(strokeWidth=1.5, opacity=0.6, style="accent")
        .encode(x=x, y="y_low:Q", y2="y_high:Q"),
        chart_of([{"x": point["x"], "y": point["y"]} for point in model["curve"]["line"]])
        .mark_line(strokeWidth=2, style="accent")
        .encode(x=x, y=y),
        chart_of(rows)
        .mark_point(filled=True, opacity=1, style="accent")
        .encode(x=x, y=y, size=size, tooltip=tooltip),
    ]
    return layer_charts(layers, f"Share preferred over the difference of log-likelihood, {model['base']}", 300)


@dataclass(frozen=True, slots=True)
class TypicalityEstimate:
    """One estimate of a base model: the main one (`name` "main") or a control."""

    name: str
    title: str
    effect: EffectEntry
    odds_ratio: IntervalEntry | None


def estimates(model: ModelBiasEntry) -> list[TypicalityEstimate]:
    """The estimates of one base model, the main one first."""
    return [
        TypicalityEstimate("main", "Main estimate", model["alpha"], model["odds_ratio"]),
        *(
            TypicalityEstimate(name, entry["title"], entry, entry["odds_ratio"])
            for name, entry in model["controls"].items()
        ),
    ]


def entry_span(
    axis: str, figure: IntervalEntry, write: Callable[[float], str] = number
) -> dict[str, float | str | None]:
    """The columns of a figure of a document; see `outspoken.report.charts.span`."""
    value, low, high = ends(figure)
    assert value is not None
    return span(axis, value, low, high, write=write)
