"""The charts of theory documents, as Altair charts. A theme gives them their colours and fonts."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from outspoken.report.charts import Figure, altair, bars, chart_of, fold_others, layer_charts
from outspoken.report.format import number
from outspoken.theory import gamma_charts, typicality_charts
from outspoken.theory.documents import LevelsDocument, SharpenDocument, TheoryDocument
from outspoken.theory.report_text import level_title
from outspoken.theory.slider_chart import sliders
from outspoken.theory.typicality_charts import entry_span

__all__ = ["figures"]

_TOP = 12


def figures(document: TheoryDocument) -> list[Figure]:
    """The charts of a document, in the order in which a page shows them."""
    if document["kind"] == "typicality":
        return typicality_charts.figures(document)
    if document["kind"] == "sharpen":
        return _sharpen(document)
    if document["kind"] == "gamma":
        return gamma_charts.figures(document)
    return _levels(document)


def _sharpen(document: SharpenDocument) -> list[Figure]:
    curve = document["curve"]
    figures = [
        Figure(
            "sharpened",
            "What alignment does to these answers",
            "Wide grey bars are the answers before, narrow coloured ones after. Move the sliders: the larger "
            "alpha or the smaller beta, the more probability moves to the likely answers.",
            sliders(document),
        ),
        _over_gamma(
            document,
            "effective_size",
            "Effective size",
            "The number of equally likely answers with the same entropy. It falls as gamma grows; the point is "
            "the gamma of this page.",
            [(point["gamma"], point["effective_size"]) for point in curve],
        ),
        _over_gamma(
            document,
            "entropy",
            "Entropy, nats",
            "The same on the scale of information: its exponential is the effective size.",
            [(point["gamma"], point["entropy"]) for point in curve],
        ),
        _over_gamma(
            document,
            "draws_to_new",
            "Draws to a new answer",
            "The mean number of further draws until an answer differs from the first. The axis is logarithmic.",
            [(point["gamma"], point["draws_to_new"]) for point in curve],
            log=True,
        ),
    ]
    return [figure for figure in figures if figure is not None]


def _over_gamma(
    document: SharpenDocument,
    name: str,
    title: str,
    caption: str,
    points: Sequence[tuple[float, float | None]],
    *,
    log: bool = False,
) -> Figure | None:
    """A figure as a function of gamma, None if it is infinite everywhere."""
    alt = altair()
    rows = [
        {"gamma": gamma, "y": y, "text": number(y), "distance": abs(gamma - document["gamma"])}
        for gamma, y in points
        if y is not None
    ]
    if not rows:
        return None
    here = min(rows, key=itemgetter("distance"))
    x = alt.X("gamma:Q", title="gamma", scale=alt.Scale(zero=False, nice=False, padding=8))
    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=True)
    y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, **({"format": "~s"} if log else {})))
    tooltip = [alt.Tooltip("gamma:Q", format=".2f"), alt.Tooltip("text:N", title=title.lower())]
    layers = [
        chart_of(rows).mark_line(strokeWidth=2, style="accent").encode(x=x, y=y),
        chart_of([here]).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of([here])
        .mark_point(filled=True, size=110, opacity=1, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
        chart_of([here]).mark_text(align="left", dx=9, dy=-9, style="ink").encode(x=x, y=y, text="text:N"),
    ]
    return Figure(name, title, caption, layer_charts(layers, f"{title} over gamma", 240))


def _levels(document: LevelsDocument) -> list[Figure]:
    names = [level_title(arm["level"]) for arm in document["arms"]]
    base = {entry["text"]: entry["base"] for entry in document["answers"]}
    shares = {
        level_title(arm["level"]): {entry["text"]: entry[arm["level"]] for entry in document["answers"]}
        for arm in document["arms"]
    }
    top = sorted(base, key=lambda text: -base[text])[:_TOP]
    most = max(max(fold_others(each, top).values()) for each in (base, *shares.values())) or 1.0
    colour = altair().Color("level:N", scale=altair().Scale(domain=["", *names]), legend=None)
    caption = (
        "0 is the base distribution itself, 1 has nothing in common with it. The line through a point is "
        "its 95 % interval. "
    )
    if document["floor"]:
        caption += "The dashed line is the distance that as many draws from the base itself have by chance."
    figures = [
        Figure("distance", "Distance from the base distribution", caption, _distance(document, names, colour))
    ]
    for name in names:
        rows = [
            {"answer": key, "share": share, "level": name} for key, share in fold_others(shares[name], top).items()
        ]
        chart = bars(rows, fold_others(base, top), most, f"Answers when asked for {name}", color=colour)
        figures.append(Figure("answers", f"Asked for {name}", "", chart))
    return figures


def _distance(document: LevelsDocument, names: list[str], colour: Any) -> Any:
    alt = altair()
    rows = [{"level": level_title(arm["level"]), **entry_span("x", arm["tv"])} for arm in document["arms"]]
    floor = document["floor"]
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
