"""The charts of the theory's documents, as Altair charts. Colours and fonts come from a theme, not from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outspoken.report.charts import Figure, altair, bars, chart_of, fold_others, layer_charts, span
from outspoken.report.format import number
from outspoken.theory import gamma_charts, typicality_charts
from outspoken.theory.report_text import asked
from outspoken.theory.slider_chart import sliders

__all__ = ["figures"]

_TOP = 12


def figures(document: Mapping[str, Any]) -> list[Figure]:
    """The charts of a document, by its `kind`, in the order in which a page shows them."""
    made = {
        "typicality": typicality_charts.figures,
        "sharpen": _sharpen,
        "gamma": gamma_charts.figures,
        "levels": _levels,
    }
    return [figure for figure in made[document["kind"]](document) if figure.chart is not None]


def _sharpen(document: Mapping[str, Any]) -> list[Figure]:
    return [
        Figure(
            "sharpened",
            "What alignment does to these answers",
            "Wide grey bars are the answers before, narrow coloured ones after. Move the sliders: the larger "
            "alpha or the smaller beta, the more the likely answers take from the others.",
            sliders(document),
        ),
        *(
            Figure(name, title, caption, _along(document, name, title.lower(), log))
            for name, title, caption, log in (
                (
                    "effective_size",
                    "Effective number of answers",
                    "As many equally likely answers would be as varied. It falls as gamma grows; the point is "
                    "the gamma of this page.",
                    False,
                ),
                (
                    "entropy",
                    "Entropy, nats",
                    "The same on the scale of information: its exponential is the effective size.",
                    False,
                ),
                (
                    "draws_to_new",
                    "Draws to a new answer",
                    "How many more draws it takes, on average, until an answer comes that differs from the "
                    "first. The axis is logarithmic.",
                    True,
                ),
            )
        ),
    ]


def _along(document: Mapping[str, Any], name: str, title: str, log: bool) -> Any:
    """A figure over gamma, None where it is nowhere known."""
    alt = altair()
    rows = [
        {"gamma": row["gamma"], "y": row[name], "text": number(row[name])}
        for row in document["curve"]
        if row[name] is not None
    ]
    if not rows:
        return None
    here = min(rows, key=lambda row: abs(row["gamma"] - document["gamma"]))
    x = alt.X("gamma:Q", title="gamma", scale=alt.Scale(zero=False, nice=False, padding=8))
    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=True)
    y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, **({"format": "~s"} if log else {})))
    tooltip = [alt.Tooltip("gamma:Q", format=".2f"), alt.Tooltip("text:N", title=title)]
    layers = [
        chart_of(rows).mark_line(strokeWidth=2, style="accent").encode(x=x, y=y),
        chart_of([here]).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of([here])
        .mark_point(filled=True, size=110, opacity=1, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
        chart_of([here]).mark_text(align="left", dx=9, dy=-9, style="ink").encode(x=x, y=y, text="text:N"),
    ]
    return layer_charts(layers, f"{title} over gamma", 240)


def _levels(document: Mapping[str, Any]) -> list[Figure]:
    names = [asked(arm["level"]) for arm in document["arms"]]
    base = {entry["text"]: entry["base"] for entry in document["answers"]}
    shares = {
        asked(arm["level"]): {entry["text"]: entry[arm["level"]] for entry in document["answers"]}
        for arm in document["arms"]
    }
    top = sorted(base, key=lambda text: -base[text])[:_TOP]
    most = max(max(fold_others(each, top).values()) for each in (base, *shares.values())) or 1.0
    colour = altair().Color("level:N", scale=altair().Scale(domain=["", *names]), legend=None)
    caption = (
        "0 is the base distribution itself, 1 has nothing in common with it. The line through a point is "
        "its 95 % interval. "
    )
    if document.get("floor"):
        caption += "The dashed line is how far as many draws from the base itself lie, by chance."
    made = [Figure("distance", "How far from the base distribution", caption, _distance(document, names, colour))]
    for name in names:
        rows = [
            {"answer": key, "share": share, "level": name} for key, share in fold_others(shares[name], top).items()
        ]
        chart = bars(rows, fold_others(base, top), most, f"Answers when asked for {name}", color=colour)
        made.append(Figure("answers", f"Asked for {name}", "", chart))
    return made


def _distance(document: Mapping[str, Any], names: list[str], colour: Any) -> Any:
    alt = altair()
    rows = [
        {"level": asked(arm["level"]), **span("x", *typicality_charts.ENDS(arm["tv"]))} for arm in document["arms"]
    ]
    floor = document.get("floor")
    x = alt.X(
        "x:Q",
        title="total variation from the base",
        scale=alt.Scale(domainMin=0),
        axis=alt.Axis(tickCount=5),
    )
    y = alt.Y("level:N", title=None, sort=names)
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
