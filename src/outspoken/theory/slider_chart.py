"""An interactive chart of sharpening: it computes p^gamma itself, with sliders for alpha and beta."""

from __future__ import annotations

from typing import Any

from outspoken.report.charts import altair, chart_of
from outspoken.theory.documents import SharpenDocument

__all__ = ["sliders"]

_TOP = 20
_DRAWS = 100
_BETA = 0.2
_LINE = 18

# The figures below the bars: a name, and Vega's expressions for it before and after sharpening. `gamma` is a
# parameter of the chart; the others are sums over all answers, computed earlier in the chart.
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


def sliders(document: SharpenDocument) -> Any:
    """The shares of the twenty most likely answers before (wide bars) and after sharpening (narrow bars), and
    below them the figures of the whole distribution.

    Both follow the sliders, which start at the document's alpha and beta. Powers are computed from logarithms
    after subtracting the largest, so that no gamma overflows.
    """
    alt = altair()
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
        *_figures(alt),
    ]
    description = "Shares of the answers before and after sharpening, with sliders for alpha and beta"
    chart = _with_sharpening(alt.layer(*layers, data=chart_of(rows).data)).add_params(*_parameters(alt, document))
    height = 19 * len(order)
    return chart.properties(
        description=description, height=height, padding={"left": 5, "top": 5, "right": 5, "bottom": 5}
    )


def _parameters(alt: Any, document: SharpenDocument) -> list[Any]:
    """Only alpha / beta matters: if only gamma is known, beta is set to 0.2."""
    beta = document["beta"] or _BETA
    alpha = (document["gamma"] - 1) * beta if document["alpha"] is None else document["alpha"]

    def slider(name: str, value: float, low: float, high: float) -> Any:
        step = 0.01
        bound = alt.binding_range(min=min(low, value), max=max(high, value), step=step, name=name)
        return alt.param(name=name, value=value, bind=bound)

    return [
        slider("alpha", alpha, 0.0, 2.0),
        slider("beta", beta, 0.02, 2.0),
        alt.param(name="gamma", expr="1 + alpha / beta"),
    ]


def _with_sharpening(chart: Any) -> Any:
    return (
        chart.transform_calculate(power="gamma * log(datum.before)")
        .transform_joinaggregate(top="max(power)")
        .transform_calculate(weight="exp(datum.power - datum.top)")
        .transform_joinaggregate(total="sum(weight)")
        .transform_calculate(after="datum.weight / datum.total")
    )


def _figures(alt: Any) -> list[Any]:
    """Three columns of text below the axis: the names of the figures, before, after."""
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
