"""The charts of sharpening: figures as functions of gamma, and one with sliders that computes p^gamma itself."""

from __future__ import annotations

from typing import Any

from outspoken.report.charts import Figure, alt, chart_of, layer_charts
from outspoken.report.format import number

__all__ = ["sharpening_figures"]

_TOP = 20
_DRAWS = 100
_BETA = 0.2
_LINE = 18

# The figures below the bars: a name, and Vega's expressions for it before and after sharpening. `gamma` is a
# parameter of the chart; the other names are aggregates over all answers, from `_figures`.
_FIGURES = (
    ("gamma", "'1'", "format(gamma, '.2f')"),
    ("entropy, nats", "format(datum.entropy_before, '.2f')", "format(datum.entropy_after, '.2f')"),
    ("effective size", "format(exp(datum.entropy_before), '.1f')", "format(exp(datum.entropy_after), '.1f')"),
    (
        f"different in {_DRAWS} draws",
        "format(datum.distinct_before, '.1f')",
        "format(datum.distinct_after, '.1f')",
    ),
    ("most likely answer", "format(datum.most_before, '.1%')", "format(datum.most_after, '.1%')"),
)

# Figures over gamma: a name in the document's curve, a title and a caption.
_CURVES = (
    (
        "effective_size",
        "Effective size",
        "The number of equally likely answers with the same entropy. It falls as gamma grows; the point is the "
        "gamma of this page.",
    ),
    ("entropy", "Entropy, nats", "The same on the scale of information: its exponential is the effective size."),
    (
        "draws_to_new",
        "Draws to a new answer",
        "The mean number of further draws until an answer differs from the first. The axis is logarithmic.",
    ),
)


def sharpening_figures(document: dict[str, Any]) -> list[Figure]:
    """The charts of a document of kind "sharpen"."""
    sliders = Figure(
        "sharpened",
        "What alignment does to these answers",
        "Wide grey bars are the answers before, narrow coloured ones after. Move the sliders: the larger "
        "alpha or the smaller beta, the more probability moves to the likely answers.",
        _sliders(document),
    )
    finite = (curve for curve in _CURVES if any(point[curve[0]] is not None for point in document["curve"]))
    return [sliders, *(_over_gamma(document, *curve) for curve in finite)]


def _over_gamma(document: dict[str, Any], name: str, title: str, caption: str) -> Figure:
    """A figure as a function of gamma."""
    rows = [
        {"gamma": point["gamma"], "y": point[name], "text": number(point[name])}
        for point in document["curve"]
        if point[name] is not None
    ]
    here = chart_of([min(rows, key=lambda row: abs(row["gamma"] - document["gamma"]))])
    log = name == "draws_to_new"
    x = alt.X("gamma:Q", title="gamma", scale=alt.Scale(zero=False, nice=False, padding=8))
    scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=True)
    y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, **({"format": "~s"} if log else {})))
    tooltip = [alt.Tooltip("gamma:Q", format=".2f"), alt.Tooltip("text:N", title=title.lower())]
    layers = [
        chart_of(rows).mark_line(strokeWidth=2, style="accent").encode(x=x, y=y),
        here.mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        here.mark_point(filled=True, size=110, opacity=1, style="accent").encode(x=x, y=y, tooltip=tooltip),
        here.mark_text(align="left", dx=9, dy=-9, style="ink").encode(x=x, y=y, text="text:N"),
    ]
    return Figure(name, title, caption, layer_charts(layers, f"{title} over gamma", 240))


def _sliders(document: dict[str, Any]) -> Any:
    """The shares of the twenty most likely answers before (wide bars) and after sharpening (narrow bars), and
    below them the figures of the whole distribution.

    Both follow the sliders, which start at the document's alpha and beta. Powers are computed from logarithms
    after subtracting the largest, so that no gamma overflows.
    """
    answers = sorted((entry for entry in document["answers"] if entry["before"] > 0), key=lambda e: -e["before"])
    others = f"{len(answers) - _TOP} others"
    rows = [
        {"answer": entry["text"] if at < _TOP else others, "before": entry["before"]}
        for at, entry in enumerate(answers)
    ]
    order = list(dict.fromkeys(row["answer"] for row in rows))
    x = {
        side: alt.X(f"{side}:Q", title="share of the answers", axis=alt.Axis(format="%", tickCount=4))
        for side in ("before", "after")
    }
    y = alt.Y("answer:N", title=None, sort=order, axis=alt.Axis(labelLimit=120, ticks=False, domain=False))
    tooltip = [
        alt.Tooltip("answer:N"),
        *(alt.Tooltip(f"{side}:Q", format=".3%") for side in ("before", "after")),
    ]
    bar = alt.Chart().transform_aggregate(before="sum(before)", after="sum(after)", groupby=["answer"])
    layers = [
        bar.mark_bar(size=15, style="reference").encode(x=x["before"], y=y, tooltip=tooltip),
        bar.mark_bar(size=7, style="accent").encode(x=x["after"], y=y, tooltip=tooltip),
        *_figures(),
    ]
    chart = alt.layer(*layers, data=chart_of(rows).data)
    sharpened = (
        chart.transform_calculate(power="gamma * log(datum.before)")
        .transform_joinaggregate(top="max(power)")
        .transform_calculate(weight="exp(datum.power - datum.top)")
        .transform_joinaggregate(total="sum(weight)")
        .transform_calculate(after="datum.weight / datum.total")
    )
    return sharpened.add_params(*_parameters(document)).properties(
        description="Shares of the answers before and after sharpening, with sliders for alpha and beta",
        height=19 * len(order),
        padding={"left": 5, "top": 5, "right": 5, "bottom": 5},
    )


def _parameters(document: dict[str, Any]) -> list[Any]:
    """The sliders. Only alpha / beta matters: if only gamma is known, beta is set to 0.2."""
    beta = document["beta"] or _BETA
    alpha = (document["gamma"] - 1) * beta if document["alpha"] is None else document["alpha"]

    def slider(name: str, value: float, low: float, high: float) -> Any:
        bound = alt.binding_range(min=min(low, value), max=max(high, value), step=0.01, name=name)
        return alt.param(name=name, value=value, bind=bound)

    return [
        slider("alpha", alpha, 0.0, 2.0),
        slider("beta", beta, 0.02, 2.0),
        alt.param(name="gamma", expr="1 + alpha / beta"),
    ]


def _figures() -> list[Any]:
    """Three columns of text below the axis: the names of the figures, their values before, and after."""
    base = alt.Chart()
    for side in ("before", "after"):
        base = base.transform_calculate(
            **{
                f"h_{side}": f"datum.{side} > 0 ? -datum.{side} * log(datum.{side}) : 0",
                f"d_{side}": f"1 - pow(1 - datum.{side}, {_DRAWS})",
            }
        )
    sums = {
        f"{name}_{side}": f"{function}({prefix}{side})"
        for side in ("before", "after")
        for name, function, prefix in (("entropy", "sum", "h_"), ("distinct", "sum", "d_"), ("most", "max", ""))
    }
    base = base.transform_aggregate(**sums)
    columns = (
        ("soft", 140, ["''", *(f"'{name}'" for name, _, _ in _FIGURES)]),
        ("soft", 70, ["'before'", *(before for _, before, _ in _FIGURES)]),
        ("ink", 0, ["'after'", *(after for _, _, after in _FIGURES)]),
    )
    return [
        base.transform_calculate(text=r" + '\n' + ".join(lines))
        .mark_text(align="right", baseline="top", style=style, fontSize=13, lineHeight=_LINE, lineBreak="\n")
        .encode(
            x=alt.value(alt.expr(f"width - {offset}")),
            y=alt.value(alt.expr("height + 48")),
            text=alt.Text("text:N"),
        )
        for style, offset, lines in columns
    ]
