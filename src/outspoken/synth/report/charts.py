"""The charts of a pipeline's report. Colours come from the page's theme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outspoken.io.text import shorten
from outspoken.report.charts import Figure, altair, chart_of, layer_charts, span
from outspoken.report.format import number
from outspoken.synth.report.samples import KEPT, LOST
from outspoken.synth.report.text import count, share

__all__ = ["figures", "funnel", "measured", "plane"]

_LONGEST = 20
_ALIKE = 6
_Row = dict[str, Any]
Document = Mapping[str, Any]


def figures(document: Document) -> list[Figure]:
    """Every chart: the steps, each measure of diversity, the map."""
    diversity = document["diversity"]
    made = [Figure("steps", "What each step kept", "", funnel(document))]
    for measure in diversity["measures"]:
        caption = f"{measure['better'].capitalize()} is more diverse."
        made.append(Figure("diversity", measure["title"], caption, measured(diversity, measure)))
    if document["map"]:
        made.append(Figure("map", "Where the records lie", "", plane(document)))
    return made


def funnel(document: Document) -> Any:
    """A bar a step: what it kept, then what it removed; above it the figures in words, so that it fits a phone."""
    alt = altair()
    rows: list[_Row] = []
    labels: list[_Row] = []
    for entry in document["steps"]:
        gone = sum(entry["removed"].values())
        why = "; ".join(f"{reason}: {count(lost)}" for reason, lost in entry["removed"].items())
        for at, what, many, tip in ((0, "kept", entry["kept"], "–"), (1, "removed", gone, why)):
            if many:
                rows.append({"step": entry["step"], "what": what, "at": at, "records": many, "why": tip})
        text = f"{shorten(entry['label'], _LONGEST)}: {count(entry['kept'])}"
        if entry["records"] and entry["kept"] != entry["records"]:
            text += f" of {count(entry['records'])} ({share(entry['kept'], entry['records'])})"
        labels.append({"step": entry["step"], "text": text + (", not finished" if entry["partly"] else "")})
    order = [entry["step"] for entry in document["steps"]]
    y = alt.Y("step:N", title=None, sort=order, axis=None, scale=alt.Scale(domain=order, padding=0))
    x = alt.X("records:Q", title=None, axis=None, stack="zero")
    layers = [
        chart_of(rows)
        .mark_bar(size=12, yOffset=9)
        .encode(
            x=x,
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


def measured(diversity: Document, measure: Document) -> Any:
    """A measure of each step: a point, and a line over what random choices of as many records give."""
    alt = altair()
    name, scale = measure["name"], measure["scale"]
    rows = []
    for row in diversity["steps"]:
        if found := row["measures"].get(name):
            value, low, high = (None if found[k] is None else scale * found[k] for k in ("value", "low", "high"))
            rows.append({"step": shorten(row["label"], 16), **span("x", value or 0.0, low, high)})
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(zero=False, padding=14),
        axis=alt.Axis(tickCount=4, labelOverlap="greedy", labelSeparation=8),
    )
    y = alt.Y(
        "step:N",
        title=None,
        sort=[row["step"] for row in rows],
        axis=alt.Axis(labelLimit=110, ticks=False, domain=False),
    )
    tooltip = [alt.Tooltip("step:N"), alt.Tooltip("x_text:N", title=measure["title"])]
    layers = [
        chart_of([row for row in rows if row["x_low"] is not None])
        .mark_rule(strokeWidth=2, style="accent")
        .encode(x="x_low:Q", x2="x_high:Q", y=y, tooltip=tooltip),
        chart_of(rows)
        .mark_point(filled=True, size=80, opacity=1, style="accent")
        .encode(x=x, y=y, tooltip=tooltip),
    ]
    return layer_charts(layers, f"{measure['title']} after each step", 26 * len(rows))


def plane(document: Document) -> Any:
    """The records on their plane, coloured by what became of each; clusters by their numbers."""
    alt = altair()
    drawn = document["map"]
    domain = fates(document)
    points = [
        {**point, "became": point["fate"] if point["fate"] in (KEPT, LOST) else f"removed by {point['fate']}"}
        for point in sorted(drawn["points"], key=lambda point: bool(point["fate"] == KEPT))
    ]
    x, y = (
        alt.X("x:Q", axis=None, scale=alt.Scale(zero=False, padding=10)),
        alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False, padding=10)),
    )
    centres = [
        {
            **{name: cluster[name] for name in ("x", "y", "number")},
            "known": ", ".join(cluster["words"]) or "–",
            "kept": f"{count(cluster['kept'])} of {count(cluster['generated'])}",
        }
        for cluster in document["clusters"]
    ]
    size = 70 if len(points) <= 300 else 40 if len(points) <= 1000 else 24
    tooltip = [
        alt.Tooltip("text:N", title="record"),
        alt.Tooltip("became:N"),
        alt.Tooltip("cluster:O"),
    ]
    about = [
        alt.Tooltip("number:O", title="cluster"),
        alt.Tooltip("known:N", title="words"),
        alt.Tooltip("kept:N"),
    ]
    layers = [
        chart_of(points)
        .mark_point(filled=True, size=size, opacity=0.75)
        .encode(
            x=x,
            y=y,
            color=alt.Color("fate:N", scale=alt.Scale(domain=domain)),
            shape=alt.Shape("fate:N", scale=alt.Scale(domain=domain)),
            tooltip=tooltip,
        ),
        chart_of(centres)
        .mark_point(filled=True, size=420, opacity=0.9, style="reference")
        .encode(x=x, y=y, tooltip=about),
        chart_of(centres).mark_text(fontSize=13, fontWeight=700).encode(x=x, y=y, text="number:N", tooltip=about),
    ]
    return layer_charts(layers, "The records by their embeddings, and what became of each", 440)


def fates(document: Document) -> list[str]:
    """What may have become of a record, each at the place of its colour: the first is grey, and the one that is
    like that of the kept is nobody's."""
    found = [LOST, *(fate for fate in document["map"]["fates"] if fate != LOST)]
    return [*found[:_ALIKE], *([""] if len(found) > _ALIKE else []), *found[_ALIKE:]]


def lines(document: Document) -> list[tuple[int, str, int]]:
    """The legend of the map: place of the colour, what became, how many of the points."""
    points = document["map"]["points"]
    counted = [
        (at, fate, sum(point["fate"] == fate for point in points)) for at, fate in enumerate(fates(document))
    ]
    return [entry for entry in counted if entry[2]]


def axes(document: Document) -> str:
    first, second = (number(100 * value) for value in document["map"]["explained"])
    return f"{first} % and {second} %"
