"""The charts of an experiment, as Altair charts. Colours, fonts and legends come from a theme, not from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.experiment.pareto import hypervolume, pareto_front
from outspoken.experiment.report_text import SOURCES
from outspoken.experiment.results_view import DisplayedFigure, ResultsView
from outspoken.report.charts import (
    Figure,
    LabelledPoint,
    altair,
    bars,
    chart_of,
    fold_others,
    label_layers,
    layer_charts,
    span,
)
from outspoken.report.format import number

__all__ = [
    "along",
    "answers",
    "dots",
    "figures",
    "has_plane",
    "plane",
    "reliabilities",
    "reliability",
]

_TOP = 12
_Row = dict[str, Any]


def figures(results: Mapping[str, Any]) -> list[Figure]:
    """The main chart of every task and model: a line over the axis where a setting varies, else the plane of
    diversity and quality, else (where nothing was judged) the primary measure of each arm."""
    view = ResultsView(results)
    made = []
    for task, model in view.panels_along() if view.axis else view.panels:
        here = " · ".join(filter(None, (task, model)))
        if view.axis:
            for name in filter(None, (view.primary, view.quality)):
                if any(view.figure(group, name) for group in view.panel(task, model)):
                    title = f"{view.measures[name]['title']} over {view.axis}, {here}"
                    caption = "Bands and bars are 95 % intervals; a dashed line is an arm without this setting."
                    made.append(Figure(name, title, caption, along(results, task, model, name)))
        elif has_plane(view, task, model):
            caption = _front_caption(view, task, model)
            made.append(Figure("plane", here, caption, plane(results, task, model)))
        elif any(view.figure(group, view.primary) for group in view.panel(task, model)):
            caption = f"The line through a point is its 95 % interval; the dashed line is {view.baseline}."
            made.append(Figure("dots", here, caption, dots(results, task, model)))
    return made


def has_plane(view: ResultsView, task: str, model: str) -> bool:
    return len(_points(view, task, model)) > 1


def plane(results: Mapping[str, Any], task: str, model: str) -> Any:
    """The primary measure against quality, a point an arm, intervals as crosshairs, the Pareto front as steps."""
    view, alt = ResultsView(results), altair()
    points = _points(view, task, model)
    rows = [
        {
            "arm": view.by_id[key]["arm"],
            "label": view.label(view.by_id[key]),
            **span("x", x.value, x.low, x.high),
            **span("y", y.value, y.low, y.high),
        }
        for key, (x, y) in points.items()
    ]
    best, _ = _front(view, points)
    steps = [{"x": points[key][0].value, "y": points[key][1].value} for key in best]
    steps.sort(key=lambda row: row["x"])
    x = alt.X("x:Q", title=_axis_title(view, view.primary), scale=alt.Scale(zero=False, padding=28))
    y = alt.Y(
        "y:Q", title=_axis_title(view, view.quality or view.primary), scale=alt.Scale(zero=False, padding=20)
    )
    how = "step-before" if view.sign(view.primary) > 0 else "step-after"
    layers = [
        chart_of(steps)
        .mark_line(interpolate=how, strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
        .encode(x=x, y=y),
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=1.5, opacity=0.55)
        .encode(x=alt.X("x_low:Q"), x2="x_high:Q", y="y:Q", color=_colour(view)),
        chart_of([row for row in rows if row["y_low"] is not None])
        .mark_rule(strokeWidth=1.5, opacity=0.55)
        .encode(x="x:Q", y="y_low:Q", y2="y_high:Q", color=_colour(view)),
        chart_of(rows)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(x=x, y=y, color=_colour(view), shape=_shape(view), tooltip=_tooltip(alt, "x", "y")),
        *label_layers(
            [
                LabelledPoint(view.label(view.by_id[key]), x.value, y.value, x.low, x.high, y.low, y.high)
                for key, (x, y) in points.items()
            ]
        ),
    ]
    return layer_charts(layers, f"{_place(task, model)}: {view.title(view.primary)} and quality of each arm", 360)


def dots(results: Mapping[str, Any], task: str, model: str) -> Any:
    """The primary measure of each arm as a point on its interval, the baseline's value as a dashed line."""
    view, alt = ResultsView(results), altair()
    rows = [
        {"arm": group["arm"], "label": view.label(group), **span("x", figure.value, figure.low, figure.high)}
        for group in view.panel(task, model)
        if (figure := view.figure(group, view.primary)) is not None
    ]
    base = [row for row in rows if row["arm"] == view.baseline][:1]
    x = alt.X("x:Q", title=_axis_title(view, view.primary), scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("label:N", title=None, sort=[row["label"] for row in rows])
    layers = [
        chart_of(base).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=2)
        .encode(x="x_low:Q", x2="x_high:Q", y=y, color=_colour(view)),
        chart_of(rows)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(x=x, y=y, color=_colour(view), shape=_shape(view), tooltip=_tooltip(alt, "x")),
    ]
    return layer_charts(layers, f"{_place(task, model)}: {view.title(view.primary)} of each arm", 34 * len(rows))


def along(results: Mapping[str, Any], task: str, model: str, name: str) -> Any:
    """A measure over the setting that varies: a line and a band an arm; arms without the setting are dashed.

    Where its values are no numbers (wordings), points with intervals beside each other, and no line between.
    """
    view, alt = ResultsView(results), altair()
    rows: list[_Row] = []
    flat: list[_Row] = []
    for group in view.panel(task, model):
        if (figure := view.figure(group, name)) is not None:
            row = {"arm": group["arm"], "at": view.at(group), **span("y", figure.value, figure.low, figure.high)}
            (flat if row["at"] is None else rows).append(row)
    y = alt.Y("y:Q", title=_axis_title(view, name), scale=alt.Scale(zero=False, padding=16))
    spans = [row for row in rows if row["y_low"] is not None]
    tooltip = [*_tooltip(alt, "y"), alt.Tooltip("at:N", title=view.axis)]
    points = chart_of(rows).mark_point(filled=True, size=80, opacity=1)
    if all(isinstance(row["at"], (int, float)) for row in rows):
        x = _numbers_axis(alt, view, sorted({row["at"] for row in rows}))
        layers = [
            chart_of(spans).mark_area(opacity=0.16).encode(x=x, y="y_low:Q", y2="y_high:Q", color=_colour(view)),
            chart_of(rows).mark_line(strokeWidth=2).encode(x=x, y=y, color=_colour(view)),
            points.encode(x=x, y=y, color=_colour(view), shape=_shape(view), tooltip=tooltip),
        ]
    else:
        x = alt.X("at:N", title=view.axis, sort=None, axis=alt.Axis(labelAngle=-35))
        offset = alt.XOffset("arm:N", sort=view.arms)
        layers = [
            chart_of(spans)
            .mark_rule(strokeWidth=2)
            .encode(x=x, xOffset=offset, y="y_low:Q", y2="y_high:Q", color=_colour(view)),
            points.encode(x=x, xOffset=offset, y=y, color=_colour(view), shape=_shape(view), tooltip=tooltip),
        ]
    layers.append(chart_of(flat).mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(y=y, color=_colour(view)))
    return layer_charts(layers, f"{_place(task, model)}: {view.title(name)} over {view.axis}", 320)


def answers(results: Mapping[str, Any], distribution: Mapping[str, Any], group_id: str) -> Any:
    """The shares of the answers of one arm as bars, on wide bars of the reference where there is one.

    The twelve answers that the reference (else all arms together) gives most, the same for each arm; what is
    left is one bar more.
    """
    view = ResultsView(results)
    shares = distribution["groups"][group_id]
    reference = distribution["reference"]
    top = _top_answers(distribution)
    most = max(max(fold_others(each, top).values()) for each in _all_shares(distribution)) or 1.0
    group = view.by_id[group_id]
    rows = [
        {"answer": key, "share": share, "arm": group["arm"]} for key, share in fold_others(shares, top).items()
    ]
    behind = fold_others(reference, top) if reference else {}
    return bars(rows, behind, most, f"Answers of {view.label(group)}", color=_colour(view, legend=None))


def reliabilities(results: Mapping[str, Any]) -> list[Figure]:
    """Stated against observed probabilities for every task, model and place on the axis: a chart for the direct
    answers and one for the reference, as far as there are both."""
    view = ResultsView(results)
    made = []
    for (task, model, at, source), entries in view.calibrations().items():
        where = "" if at is None else f"{view.axis} = {at}"
        title = " · ".join(filter(None, (task, model, where, f"against {SOURCES[source]}")))
        made.append(Figure("reliability", title, "", reliability(results, entries)))
    return made


def reliability(results: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Any:
    """What was stated against what was observed: a line an arm and on it a point a bin, the larger the more
    answers, and the dashed diagonal where the two are equal. Both axes reach the largest value."""
    view, alt = ResultsView(results), altair()
    rows = [
        {
            "arm": view.by_id[entry["group"]]["arm"],
            **part,
            "stated_text": f"{part['stated']:.2%} ({part['low']:.2%} to {part['high']:.2%})",
        }
        for entry in entries
        for part in entry["bins"]
    ]
    most = max((max(row["stated"], row["observed"]) for row in rows), default=0) or 1.0
    scale, axis = alt.Scale(domain=[0, most]), alt.Axis(format="%", tickCount=4)
    x = alt.X("stated:Q", title="stated", scale=scale, axis=axis)
    y = alt.Y("observed:Q", title="observed", scale=scale, axis=axis)
    size = alt.Size(
        "count:Q",
        legend=None,
        scale=alt.Scale(domain=[0, max((row["count"] for row in rows), default=1)], range=[30, 150]),
    )
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("stated_text:N", title="stated"),
        alt.Tooltip("observed:Q", format=".2%"),
        alt.Tooltip("count:Q", title="answers"),
    ]
    layers = [
        chart_of([{"stated": end, "observed": end} for end in (0, most)])
        .mark_line(strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
        .encode(x=x, y=y),
        chart_of(rows).mark_line(strokeWidth=1.5, opacity=0.55).encode(x=x, y=y, color=_colour(view)),
        chart_of(rows)
        .mark_point(filled=True, opacity=0.85)
        .encode(x=x, y=y, size=size, color=_colour(view), shape=_shape(view), tooltip=tooltip),
    ]
    return layer_charts(layers, "Stated and observed probabilities of each arm", 240)


def _place(task: str, model: str) -> str:
    return f"{task}, {model}" if model else task


def _colour(view: ResultsView, **more: Any) -> Any:
    alt = altair()
    return alt.Color("arm:N", scale=alt.Scale(domain=view.arms), **more)


def _shape(view: ResultsView) -> Any:
    alt = altair()
    return alt.Shape("arm:N", scale=alt.Scale(domain=view.arms))


def _tooltip(alt: Any, *axes: str) -> list[Any]:
    return [alt.Tooltip("arm:N"), *(alt.Tooltip(f"{axis}_text:N", title=f"{axis} (95 %)") for axis in axes)]


def _axis_title(view: ResultsView, name: str) -> str:
    measure = view.measures[name]
    return str(measure["title"]) + (f" ({measure['better']} is better)" if measure["better"] else "")


def _numbers_axis(alt: Any, view: ResultsView, values: list[float]) -> Any:
    """Logarithmic where the values span more than a factor of thirty, as those of tau do."""
    wide = bool(values) and values[0] > 0 and values[-1] / values[0] > 30
    scale = (
        alt.Scale(type="log", nice=False, padding=12) if wide else alt.Scale(zero=False, nice=False, padding=12)
    )
    axis = alt.Axis(values=values, format="~g", grid=False, labelOverlap="greedy")
    return alt.X("at:Q", title=view.axis, scale=scale, axis=axis)


def _points(view: ResultsView, task: str, model: str) -> dict[str, tuple[DisplayedFigure, DisplayedFigure]]:
    return {
        group["id"]: (x, y)
        for group in view.panel(task, model)
        if (x := view.figure(group, view.primary)) is not None
        and (y := view.figure(group, view.quality)) is not None
    }


def _front(
    view: ResultsView, points: Mapping[str, tuple[DisplayedFigure, DisplayedFigure]]
) -> tuple[list[str], tuple[float, float]]:
    """The ids on the front, and the reference point: the worse of 0 and the worst arm, in each direction."""
    oriented = _oriented(view, points)
    reference = tuple(min(0.0, *(point[at] for point in oriented.values())) for at in (0, 1))
    return pareto_front(oriented), (reference[0], reference[1])


def _oriented(
    view: ResultsView, points: Mapping[str, tuple[DisplayedFigure, DisplayedFigure]]
) -> dict[str, tuple[float, float]]:
    across, up = view.sign(view.primary), view.sign(view.quality or view.primary)
    return {key: (x.value * across, y.value * up) for key, (x, y) in points.items()}


def _front_caption(view: ResultsView, task: str, model: str) -> str:
    points = _points(view, task, model)
    best, reference = _front(view, points)
    oriented = _oriented(view, points)
    names = ", ".join(view.label(view.by_id[key]) for key in best)
    at = [abs(side) for side in reference]
    text = f"On the Pareto front, by their figures alone: {names}. "
    text += f"Hypervolume {number(hypervolume(oriented.values(), reference))} over the point "
    text += f"({number(at[0])}, {number(at[1])})"
    alone = [point for key, point in oriented.items() if view.by_id[key]["arm"] == view.baseline]
    return text + (f"; of {view.baseline} alone {number(hypervolume(alone, reference))}." if alone else ".")


def _all_shares(distribution: Mapping[str, Any]) -> list[Mapping[str, float]]:
    reference = distribution["reference"]
    return [*distribution["groups"].values(), *([reference] if reference else [])]


def _top_answers(distribution: Mapping[str, Any]) -> list[str]:
    totals: dict[str, float] = {}
    reference = distribution["reference"]
    for shares in [reference] if reference else distribution["groups"].values():
        for key, share in shares.items():
            totals[key] = totals.get(key, 0.0) + share
    return sorted(totals, key=lambda key: -totals[key])[:_TOP]
