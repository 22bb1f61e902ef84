"""The charts of an experiment, as Altair charts. Colours, fonts and legends come from the theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outspoken.experiment.report_text import SOURCES
from outspoken.experiment.results import ArmCalibration, ArmRichness, TaskDistribution
from outspoken.experiment.results_view import DisplayedFigure, ResultsView
from outspoken.report.charts import (
    Figure,
    LabelledPoint,
    Row,
    alt,
    bars,
    chart_of,
    fold_others,
    label_layers,
    layer_charts,
    span,
    title_lines,
)
from outspoken.report.format import number

__all__ = ["answers", "figures", "hypervolume", "pareto_front", "reliabilities", "saturations"]

_TOP, _LABEL_WIDTH = 12, 24

Point = tuple[float, float]
_Figures = tuple[DisplayedFigure, DisplayedFigure]


def figures(view: ResultsView) -> list[Figure]:
    """The main chart of every task and model.

    It shows measures over the axis if a setting varies, else the plane of diversity and quality, or without a
    judge the primary measure of each arm.
    """
    charts = []
    for task, model in view.axis_panels() if view.axis else view.panels:
        where = " · ".join(filter(None, (task, model)))
        if view.axis:
            for name in filter(None, (view.primary, view.quality)):
                if any(view.figure(group, name) for group in view.panel(task, model)):
                    title = f"{view.measures[name].title} over {view.axis}, {where}"
                    caption = "Bands and bars are 95 % intervals; a dashed line is an arm without this setting."
                    charts.append(Figure(name, title, caption, _over_axis(view, task, model, name)))
        elif len(points := _points(view, task, model)) > 1:
            charts.append(Figure("plane", where, _front_caption(view, points), _plane(view, task, model, points)))
        elif any(view.figure(group, view.primary) for group in view.panel(task, model)):
            caption = f"The line through a point is its 95 % interval; the dashed line is {view.baseline}."
            charts.append(Figure("dots", where, caption, _dots(view, task, model)))
    return charts


def _plane(view: ResultsView, task: str, model: str, points: Mapping[str, _Figures]) -> Any:
    """A point for each arm, intervals as crosshairs, the Pareto front as steps."""
    rows = [
        {"arm": view.by_id[key].arm, **span("x", x.value, x.low, x.high), **span("y", y.value, y.low, y.high)}
        for key, (x, y) in points.items()
    ]
    best, _ = _front(view, points)
    steps = sorted((points[key][0].value, points[key][1].value) for key in best)
    x = alt.X("x:Q", title=_axis_title(view, view.primary), scale=alt.Scale(zero=False, padding=28))
    y = alt.Y(
        "y:Q", title=_axis_title(view, view.quality or view.primary), scale=alt.Scale(zero=False, padding=20)
    )
    interpolation = "step-before" if view.sign(view.primary) > 0 else "step-after"
    layers = [
        chart_of([{"x": across, "y": up} for across, up in steps])
        .mark_line(interpolate=interpolation, strokeDash=[5, 4], strokeWidth=1.6, style="quiet")
        .encode(x=x, y=y),
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=1.5, opacity=0.55)
        .encode(x=alt.X("x_low:Q"), x2="x_high:Q", y="y:Q", color=_colour(view)),
        chart_of([row for row in rows if row["y_low"] is not None])
        .mark_rule(strokeWidth=1.5, opacity=0.55)
        .encode(x="x:Q", y="y_low:Q", y2="y_high:Q", color=_colour(view)),
        _dots_of(view, rows, 110, x=x, y=y, tooltip=_tooltip("x", "y")),
        *label_layers(
            [
                LabelledPoint(view.label(view.by_id[key]), x.value, y.value, x.low, x.high, y.low, y.high)
                for key, (x, y) in points.items()
            ]
        ),
    ]
    return layer_charts(layers, f"{_place(task, model)}: {view.title(view.primary)} and quality of each arm", 360)


def _dots(view: ResultsView, task: str, model: str) -> Any:
    rows = [
        {
            "arm": group.arm,
            "label": "\n".join(title_lines(view.label(group), _LABEL_WIDTH)),
            **span("x", figure.value, figure.low, figure.high),
        }
        for group in view.panel(task, model)
        if (figure := view.figure(group, view.primary)) is not None
    ]
    axis = alt.Axis(labelExpr="split(datum.label, '\\n')", labelLimit=0)
    lines = max(str(row["label"]).count("\n") for row in rows) + 1
    base = [row for row in rows if row["arm"] == view.baseline][:1]
    x = alt.X("x:Q", title=_axis_title(view, view.primary), scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("label:N", title=None, sort=[row["label"] for row in rows], axis=axis)
    layers = [
        chart_of(base).mark_rule(strokeDash=[4, 4], style="quiet").encode(x=x),
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=2)
        .encode(x="x_low:Q", x2="x_high:Q", y=y, color=_colour(view)),
        _dots_of(view, rows, 110, x=x, y=y, tooltip=_tooltip("x")),
    ]
    return layer_charts(
        layers, f"{_place(task, model)}: {view.title(view.primary)} of each arm", (20 + 14 * lines) * len(rows)
    )


def _over_axis(view: ResultsView, task: str, model: str, name: str) -> Any:
    """A measure over the setting that varies: a line and a band for each arm, a dashed line for arms without it.

    If its values are not numbers (wordings), points with intervals stand beside each other, without lines.
    """
    drawn: list[dict[str, Any]] = [
        {"arm": group.arm, "at": view.axis_value(group), **span("y", figure.value, figure.low, figure.high)}
        for group in view.panel(task, model)
        if (figure := view.figure(group, name)) is not None
    ]
    rows, constant = ([row for row in drawn if (row["at"] is None) == without] for without in (False, True))
    y = alt.Y("y:Q", title=_axis_title(view, name), scale=alt.Scale(zero=False, padding=16))
    spans = [row for row in rows if row["y_low"] is not None]
    tooltip = [*_tooltip("y"), alt.Tooltip("at:N", title=view.axis)]
    if all(isinstance(row["at"], (int, float)) for row in rows):
        x = _number_axis(view, sorted({row["at"] for row in rows}))
        layers = [
            chart_of(spans).mark_area(opacity=0.16).encode(x=x, y="y_low:Q", y2="y_high:Q", color=_colour(view)),
            chart_of(rows).mark_line(strokeWidth=2).encode(x=x, y=y, color=_colour(view)),
            _dots_of(view, rows, 80, x=x, y=y, tooltip=tooltip),
        ]
    else:
        x = alt.X("at:N", title=view.axis, sort=None, axis=alt.Axis(labelAngle=-35))
        offset = alt.XOffset("arm:N", sort=view.arms)
        layers = [
            chart_of(spans)
            .mark_rule(strokeWidth=2)
            .encode(x=x, xOffset=offset, y="y_low:Q", y2="y_high:Q", color=_colour(view)),
            _dots_of(view, rows, 80, x=x, xOffset=offset, y=y, tooltip=tooltip),
        ]
    dashed = chart_of(constant).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    layers.append(dashed.encode(y=y, color=_colour(view)))
    return layer_charts(layers, f"{_place(task, model)}: {view.title(name)} over {view.axis}", 320)


def answers(view: ResultsView, distribution: TaskDistribution, group_id: str) -> Any:
    """The shares of the answers of one arm as bars, in front of wide bars of the reference if there is one.

    These are the twelve most frequent answers of the reference, or else of all arms, and a bar for the others.
    """
    all_shares = [*distribution.groups.values(), *([distribution.reference] if distribution.reference else [])]
    top = _top_answers([distribution.reference] if distribution.reference else all_shares)
    most = max(max(fold_others(shares, top).values()) for shares in all_shares) or 1.0
    group = view.by_id[group_id]
    rows = [
        {"answer": answer, "share": share, "arm": group.arm}
        for answer, share in fold_others(distribution.groups[group_id], top).items()
    ]
    behind = fold_others(distribution.reference, top) if distribution.reference else {}
    return bars(rows, behind, most, f"Answers of {view.label(group)}", color=_colour(view, legend=None))


def saturations(view: ResultsView) -> list[Figure]:
    """Different answers over the number of responses: a chart for every task and model."""
    charts = []
    for task, model in view.panels:
        entries = [one for one in view.results.richness if view.by_id[one.group] in view.panel(task, model)]
        if entries:
            where = " · ".join(filter(None, (task, model)))
            charts.append(Figure("saturation", where, _SATURATION, _saturation(view, entries, task, model)))
    return charts


_SATURATION = (
    "The mean number of different answers to a prompt over the number of responses, extrapolated beyond the "
    "responses that there are (dashed). Bands are 95 % intervals. A line that flattens has shown what it reaches; "
    "two that rise to one height only differ in speed."
)


def _saturation(view: ResultsView, entries: Sequence[ArmRichness], task: str, model: str) -> Any:
    """A line and a band for each arm, dashed beyond its responses."""
    rows = [
        {
            "arm": view.by_id[one.group].arm,
            "line": one.group,
            "draws": point.draws,
            "beyond": point.draws > one.draws + 0.5,
        }
        | span("y", point.distinct, point.low, point.high)
        for one in entries
        for point in one.curve
    ]
    # The dashed part begins where the other one ends.
    last = {row["line"]: row for row in rows if not row["beyond"]}
    beyond = [*({**row, "beyond": True} for row in last.values()), *(row for row in rows if row["beyond"])]
    x = alt.X("draws:Q", title="responses to a prompt")
    y = alt.Y("y:Q", title="different answers")
    detail = alt.Detail("line:N")
    layers = [
        chart_of(rows)
        .mark_area(opacity=0.14)
        .encode(x=x, y="y_low:Q", y2="y_high:Q", color=_colour(view), detail=detail),
        chart_of([row for row in rows if not row["beyond"]])
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, color=_colour(view), detail=detail),
        chart_of(beyond)
        .mark_line(strokeWidth=2, strokeDash=[5, 4])
        .encode(x=x, y=y, color=_colour(view), detail=detail),
        _dots_of(view, list(last.values()), 60, x=x, y=y, tooltip=_tooltip("y")),
    ]
    return layer_charts(layers, f"{_place(task, model)}: different answers over the number of responses", 300)


def reliabilities(view: ResultsView) -> list[Figure]:
    """Stated against observed probabilities: a chart for every task, model, value of the axis and source."""
    charts = []
    for (task, model, value, source), entries in view.calibrations().items():
        where = "" if value is None else f"{view.axis} = {value}"
        title = " · ".join(filter(None, (task, model, where, f"against {SOURCES[source]}")))
        charts.append(Figure("reliability", title, "", _reliability(view, entries)))
    return charts


def _reliability(view: ResultsView, entries: Sequence[ArmCalibration]) -> Any:
    """A line for each arm with a point for each bin, larger for more answers, and the dashed diagonal of equality.

    Both axes end at the largest value.
    """
    bins = [(view.by_id[entry.group].arm, part) for entry in entries for part in entry.bins]
    rows = [
        {"arm": arm, **part.to_dict(), "stated_text": f"{part.stated:.2%} ({part.low:.2%} to {part.high:.2%})"}
        for arm, part in bins
    ]
    most = max((max(part.stated, part.observed) for _, part in bins), default=0) or 1.0
    scale, axis = alt.Scale(domain=[0, most]), alt.Axis(format="%", tickCount=4)
    x = alt.X("stated:Q", title="stated", scale=scale, axis=axis)
    y = alt.Y("observed:Q", title="observed", scale=scale, axis=axis)
    size = alt.Size(
        "count:Q",
        legend=None,
        scale=alt.Scale(domain=[0, max((part.count for _, part in bins), default=1)], range=[30, 150]),
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


def pareto_front(points: Mapping[str, Point]) -> list[str]:
    """The names of the points that no other point dominates, by rising first coordinate; higher is better in both.

    A point dominates another if no coordinate is lower and one is higher. Equal points do not dominate each other.
    """
    best = -float("inf")
    names: list[str] = []
    last: Point | None = None
    for name, (x, y) in sorted(points.items(), key=lambda entry: (-entry[1][0], -entry[1][1])):
        if y > best or (x, y) == last:
            best, last = y, (x, y)
            names.append(name)
    return names[::-1]


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """The area that the points dominate above and to the right of `reference`; higher is better in both.

    A sweep from the highest first coordinate down: each point adds the strip by which its second coordinate
    exceeds all before it (Zitzler & Thiele 1998, in two dimensions). 0 if no point exceeds the reference.
    """
    area, top = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        if x > reference[0] and y > top:
            area += (x - reference[0]) * (y - top)
            top = y
    return area


def _points(view: ResultsView, task: str, model: str) -> dict[str, _Figures]:
    return {
        group.id: (x, y)
        for group in view.panel(task, model)
        if (x := view.figure(group, view.primary)) is not None
        and (y := view.figure(group, view.quality)) is not None
    }


def _front(view: ResultsView, points: Mapping[str, _Figures]) -> tuple[list[str], Point]:
    """The ids on the front, and the reference point: the worse of 0 and the worst arm, in each direction."""
    oriented = _oriented(view, points)
    x, y = (min(0.0, *(point[side] for point in oriented.values())) for side in (0, 1))
    return pareto_front(oriented), (x, y)


def _oriented(view: ResultsView, points: Mapping[str, _Figures]) -> dict[str, Point]:
    across, up = view.sign(view.primary), view.sign(view.quality or view.primary)
    return {key: (x.value * across, y.value * up) for key, (x, y) in points.items()}


def _front_caption(view: ResultsView, points: Mapping[str, _Figures]) -> str:
    best, reference = _front(view, points)
    oriented = _oriented(view, points)
    names = ", ".join(view.label(view.by_id[key]) for key in best)
    corner = ", ".join(number(abs(side)) for side in reference)
    text = f"On the Pareto front, by their figures alone: {names}. "
    text += f"Hypervolume {number(hypervolume(oriented.values(), reference))} over the point ({corner})"
    alone = [point for key, point in oriented.items() if view.by_id[key].arm == view.baseline]
    return text + (f"; of {view.baseline} alone {number(hypervolume(alone, reference))}." if alone else ".")


def _top_answers(all_shares: Iterable[Mapping[str, float]]) -> list[str]:
    totals: dict[str, float] = {}
    for shares in all_shares:
        for answer, share in shares.items():
            totals[answer] = totals.get(answer, 0.0) + share
    return sorted(totals, key=lambda answer: -totals[answer])[:_TOP]


def _place(task: str, model: str) -> str:
    return f"{task}, {model}" if model else task


def _colour(view: ResultsView, **options: Any) -> Any:
    return alt.Color("arm:N", scale=alt.Scale(domain=view.arms), **options)


def _shape(view: ResultsView) -> Any:
    return alt.Shape("arm:N", scale=alt.Scale(domain=view.arms))


def _dots_of(view: ResultsView, rows: Sequence[Row], size: int, **encodings: Any) -> Any:
    points = chart_of(rows).mark_point(filled=True, size=size, opacity=1)
    return points.encode(color=_colour(view), shape=_shape(view), **encodings)


def _tooltip(*axes: str) -> list[Any]:
    return [alt.Tooltip("arm:N"), *(alt.Tooltip(f"{axis}_text:N", title=f"{axis} (95 %)") for axis in axes)]


def _axis_title(view: ResultsView, name: str) -> str:
    measure = view.measures[name]
    return measure.title + (f" ({measure.better} is better)" if measure.better else "")


def _number_axis(view: ResultsView, values: list[float]) -> Any:
    """An axis that is logarithmic if the values span more than a factor of thirty, as those of tau do."""
    wide = bool(values) and values[0] > 0 and values[-1] / values[0] > 30
    scale = alt.Scale(**({"type": "log"} if wide else {"zero": False}), nice=False, padding=12)
    axis = alt.Axis(values=values, format="~g", grid=False, labelOverlap="greedy")
    return alt.X("at:Q", title=view.axis, scale=scale, axis=axis)
