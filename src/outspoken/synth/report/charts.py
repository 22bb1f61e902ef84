"""The charts of a pipeline's report. Colours come from the page's theme."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from outspoken.io.text import shorten
from outspoken.report.charts import Figure, alt, chart_of, layer_charts, span
from outspoken.report.format import NONE, count, share
from outspoken.synth.report.document import (
    CoverageMap,
    DiversityTable,
    MeasureInfo,
    PipelineReport,
    RecordCluster,
    StepEntry,
)
from outspoken.synth.report.samples import KEPT, LOST

__all__ = ["figures", "legend"]

_MAX_LABEL = 20
# The palette's colour at this place looks like that of kept records, and is skipped.
_SKIPPED_COLOUR = 6


def figures(report: PipelineReport) -> list[Figure]:
    """Every chart: the steps, each measure of diversity, the map."""
    result = [Figure("steps", "What each step kept", "", funnel(report))]
    for measure in report.diversity.measures:
        caption = f"{measure.better.capitalize()} is more diverse."
        result.append(Figure("diversity", measure.title, caption, measure_chart(report.diversity, measure)))
    if report.map:
        result.append(Figure("map", "Where the records lie", "", coverage(report.map, report.clusters)))
    return result


def funnel(report: PipelineReport) -> Any:
    """A bar for each step, kept records followed by removed ones; the figures above it as text, to fit a phone."""
    rows = []
    labels = []
    for entry in report.steps:
        removed = sum(entry.removed.values())
        reasons = "; ".join(f"{reason}: {count(lost)}" for reason, lost in entry.removed.items())
        for at, what, records, why in ((0, "kept", entry.kept, NONE), (1, "removed", removed, reasons)):
            if records:
                rows.append({"step": entry.step, "what": what, "at": at, "records": records, "why": why})
        labels.append({"step": entry.step, "text": _funnel_label(entry)})
    order = [entry.step for entry in report.steps]
    y = alt.Y("step:N", title=None, sort=order, axis=None, scale=alt.Scale(domain=order, padding=0))
    layers = [
        chart_of(rows)
        .mark_bar(size=12, yOffset=9)
        .encode(
            x=alt.X("records:Q", title=None, axis=None, stack="zero"),
            y=y,
            color=alt.Color("what:N", scale=alt.Scale(domain=[LOST, "kept", "removed"])),
            order=alt.Order("at:Q"),
            tooltip=[
                alt.Tooltip("step:N"),
                alt.Tooltip("what:N", title=" "),
                alt.Tooltip("records:Q", format=","),
                alt.Tooltip("why:N", title="reasons"),
            ],
        ),
        chart_of(labels)
        .mark_text(align="left", baseline="middle", dy=-7, fontSize=13, limit=alt.ExprRef("width"))
        .encode(x=alt.value(0), y=y, text="text:N"),
    ]
    return layer_charts(layers, "How many records each step kept and removed", 44 * len(order))


def _funnel_label(entry: StepEntry) -> str:
    text = f"{shorten(entry.label, _MAX_LABEL)}: {count(entry.kept)}"
    if entry.records and entry.kept != entry.records:
        text += f" of {count(entry.records)} ({share(entry.kept, entry.records)})"
    return text + (", not finished" if entry.partly else "")


def measure_chart(diversity: DiversityTable, measure: MeasureInfo) -> Any:
    """A measure of each step: a point, and a line over the range of random choices of as many records."""
    rows: list[dict[str, float | str | None]] = []
    for row in diversity.steps:
        if spread := row.measures.get(measure.name):
            low, high = (None if end is None else measure.scale * end for end in (spread.low, spread.high))
            columns = span("x", measure.scale * spread.value, low, high)
            rows.append({"step": shorten(row.label, 16), **columns})
    axis = alt.Axis(tickCount=4, labelOverlap="greedy", labelSeparation=8)
    x = alt.X("x:Q", title=None, scale=alt.Scale(zero=False, padding=14), axis=axis)
    axis = alt.Axis(labelLimit=110, ticks=False, domain=False)
    y = alt.Y("step:N", title=None, sort=[row["step"] for row in rows], axis=axis)
    tooltip = [alt.Tooltip("step:N"), alt.Tooltip("x_text:N", title=measure.title)]
    layers = [
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=2, style="accent")
        .encode(x="x_low:Q", x2="x_high:Q", y=y, tooltip=tooltip),
        chart_of(rows)
        .mark_point(filled=True, size=80, opacity=1, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
    ]
    return layer_charts(layers, f"{measure.title} after each step", 26 * len(rows))


def coverage(drawn: CoverageMap, clusters: tuple[RecordCluster, ...]) -> Any:
    """The records on the map, coloured by their fate, and the numbers of the clusters."""
    points = [
        {**asdict(point), "became": point.fate if point.fate in (KEPT, LOST) else f"removed by {point.fate}"}
        for point in sorted(drawn.points, key=lambda point: point.fate == KEPT)
    ]
    centres = []
    for cluster in clusters:
        kept = f"{count(cluster.kept)} of {count(cluster.generated)}"
        terms = ", ".join(cluster.words) or NONE
        centres.append({"x": cluster.x, "y": cluster.y, "number": cluster.number, "known": terms, "kept": kept})
    fates = alt.Scale(domain=_palette(drawn))
    x, y = (each.axis(None).scale(zero=False, padding=10) for each in (alt.X("x:Q"), alt.Y("y:Q")))
    size = 70 if len(points) <= 300 else 40 if len(points) <= 1000 else 24
    of_point = [alt.Tooltip("text:N", title="record"), alt.Tooltip("became:N"), alt.Tooltip("cluster:O")]
    number, known = alt.Tooltip("number:O", title="cluster"), alt.Tooltip("known:N", title="words")
    of_centre = [number, known, alt.Tooltip("kept:N")]
    color, shape = alt.Color("fate:N", scale=fates), alt.Shape("fate:N", scale=fates)
    layers = [
        chart_of(points)
        .mark_point(filled=True, size=size, opacity=0.75)
        .encode(x=x, y=y, color=color, shape=shape, tooltip=of_point),
        chart_of(centres)
        .mark_point(filled=True, size=420, opacity=0.9, style="reference")
        .encode(x=x, y=y, tooltip=of_centre),
        chart_of(centres)
        .mark_text(fontSize=13, fontWeight=700)
        .encode(x=x, y=y, text="number:N", tooltip=of_centre),
    ]
    return layer_charts(layers, "The records by their embeddings, and what became of each", 440)


def _palette(drawn: CoverageMap) -> list[str]:
    """The fates in the order of the palette, whose first colour is grey; "" for the colour that is skipped."""
    fates = [LOST, *(fate for fate in drawn.fates if fate != LOST)]
    skipped = [""] if len(fates) > _SKIPPED_COLOUR else []
    return [*fates[:_SKIPPED_COLOUR], *skipped, *fates[_SKIPPED_COLOUR:]]


def legend(drawn: CoverageMap) -> list[tuple[int, str, int]]:
    """The legend of the map: for each fate its place in the palette, its name, and the number of points."""
    counts = [
        (at, fate, sum(point.fate == fate for point in drawn.points)) for at, fate in enumerate(_palette(drawn))
    ]
    return [entry for entry in counts if entry[2]]
