"""The charts of typicality bias: a forest of its estimates, and how preference rises with log-likelihood."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from outspoken.report.charts import Figure, altair, chart_of, layer_charts, span

__all__ = ["ENDS", "estimates", "figures"]

# The value of a figure and the ends of its interval.
ENDS = itemgetter("value", "low", "high")

_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)


def figures(document: Mapping[str, Any]) -> list[Figure]:
    """The forest of all base models, then a curve for each."""
    bases = [document, *document["others"]]
    forest = Figure(
        "forest",
        "How preference goes with typicality, and what is left of it in other ways of counting",
        "A row is an estimate (the diamond is the main one), the line through it its 95 % interval. Right of the "
        "dashed line at 1 the response that the base model finds more typical is preferred, left of it the other "
        "one. All rows have one scale: by what the odds of being preferred are multiplied for one standard "
        "deviation. If the row with length held equal stays clear of 1, length alone does not explain the "
        "preference. The grey bar is what chance gives: an estimate inside it shows nothing.",
        _forest(bases),
    )
    caption = (
        "A point is a group of pairs, the larger the more of them: how often the first response was preferred, "
        "with its 95 % interval. To the right, the base model finds the first response more likely: by how much "
        "is the difference of the two mean log-likelihoods. Without typicality bias the points lie along the "
        "dashed line at one half; with it they rise as the fitted curve does."
    )
    return [forest, *(Figure("curve", fields["base"], caption, _curve(fields)) for fields in bases)]


def _forest(bases: Sequence[Mapping[str, Any]]) -> Any:
    alt = altair()
    rows: list[dict[str, Any]] = []
    shown: list[str] = []
    for at, fields in enumerate(bases):
        shown.append(_key(len(shown), "#", fields["base"]))
        for name, title, entry in estimates(fields):
            ratio = _chance(entry, fields["sd"]) if name == "permutation_null" else entry["odds_ratio"]
            if ratio is None or not ratio["value"]:  # 0: too small for a number
                continue
            shown.append(_key(len(shown), " ", title))
            kind = {"main": "main", "permutation_null": "null"}.get(name, "control")
            rows.append(
                {"row": shown[-1], "kind": kind, "base": fields["base"], "at": at, **span("x", *ENDS(ratio))}
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
    colour = alt.Color("base:N", scale=alt.Scale(domain=["", *(fields["base"] for fields in bases)]), legend=None)
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


def _chance(null: Mapping[str, Any], sd: float) -> dict[str, float | None]:
    """What the odds ratio is by chance: the null's alphas on its scale."""
    ends = ENDS(null)
    return dict(
        zip(("value", "low", "high"), (None if a is None else math.exp(a * sd) for a in ends), strict=True)
    )


def _key(at: int, mark: str, label: str) -> str:
    """The value of a row: unique, and from its fourth character on what is shown."""
    return f"{at:03d}{mark}" + "\n".join(textwrap.wrap(label, 24)[:2])


def _curve(fields: Mapping[str, Any]) -> Any:
    alt = altair()
    bins = fields["curve"]["bins"]
    rows = [
        {**span("y", *ENDS(entry), write="{:.1%}".format), "x": entry["x"], "pairs": entry["pairs"]}
        for entry in bins
    ]
    x = alt.X("x:Q", title="difference, nats a token")
    y = alt.Y(
        "y:Q", title="first response preferred", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False, padding=12)
    )
    most = max((row["pairs"] for row in rows), default=1)
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
        chart_of(list(fields["curve"]["line"])).mark_line(strokeWidth=2, style="accent").encode(x=x, y=y),
        chart_of(rows)
        .mark_point(filled=True, opacity=1, style="accent")
        .encode(x=x, y=y, size=size, tooltip=tooltip),
    ]
    return layer_charts(layers, f"Share preferred over the difference of log-likelihood, {fields['base']}", 300)


def estimates(fields: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """The estimates of one base model, first the main one: the name of each, its title, its fields."""
    main = {**fields["alpha"], "odds_ratio": fields["odds_ratio"], "about": ""}
    controls = ((name, entry["title"], entry) for name, entry in fields["controls"].items())
    return [("main", "Main estimate", main), *controls]
