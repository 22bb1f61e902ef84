"""Charts: building them, adding them to a page, and writing them as pictures."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.io.atomic import write_bytes
from outspoken.report.format import number

__all__ = [
    "DARK",
    "LIGHT",
    "OTHERS",
    "SHAPES",
    "Figure",
    "LabelledPoint",
    "add_chart",
    "alt",
    "bars",
    "chart_of",
    "fold_others",
    "label_layers",
    "label_places",
    "layer_charts",
    "span",
    "spec",
    "theme",
    "title_lines",
    "vega_script",
    "write_pictures",
]

# The colours of Okabe & Ito, which colour-blind readers can distinguish, adjusted to a contrast of at least 3 to 1
# with the background. The first, grey, is for the baseline.
LIGHT = ("#6b7078", "#0072b2", "#d55e00", "#00875f", "#b85c93", "#a97400", "#2b8cc4", "#7a4fa3")
DARK = ("#a3a9b3", "#4aa3df", "#f0803c", "#2fc096", "#e39bc6", "#e6b040", "#8fd0f5", "#b693dc")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)

_LEGEND_COLUMNS, _LEGEND_WIDTH = 4, 72


def theme(dark: bool = False, *, legend: bool = True) -> dict[str, object]:
    """A Vega configuration with a colour and a shape for each arm, in the order of the arms, baseline first.

    With a `legend` it is for pictures on white, without one for a page that has its own legend.
    """
    colours = DARK if dark else LIGHT
    ink, soft, line = ("#e8e6e1", "#a9adb5", "#2b2f36") if dark else ("#22252a", "#5c626b", "#dfe1e4")
    text = {
        "labelColor": soft,
        "titleColor": ink,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
    }
    return {
        "background": "#ffffff" if legend else None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": line, "domainColor": soft, "tickColor": soft, "labelLimit": 150},
        "legend": {
            **text,
            "disable": not legend,
            "orient": "bottom",
            "columns": _LEGEND_COLUMNS,
            "labelLimit": 0,
            "title": None,
            "symbolOpacity": 1,
            "symbolSize": 90,
        },
        "title": {"color": ink, "fontSize": 14, "fontWeight": 600, "anchor": "start", "offset": 12},
        "range": {"category": list(colours), "symbol": list(SHAPES)},
        "text": {"color": ink, "fontSize": 12},
        "style": {
            "quiet": {"stroke": soft, "color": soft},
            "reference": {"color": "#4c535d" if dark else "#d3d6da"},
            "accent": {"color": colours[1]},
            "ink": {"color": ink},
            "soft": {"color": soft},
        },
    }


Row = Mapping[str, object]
"""One row of a chart's data: its values by name."""
Spec = dict[str, object]
"""A chart in Vega-Lite's JSON."""

_WHAT = "drawing charts"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with a short `name`, a one-line `title`, and a `caption` that explains how to read it."""

    name: str
    title: str
    caption: str
    chart: Any


class _Altair:
    def __getattr__(self, name: str) -> Any:
        return getattr(need("altair", _WHAT, "measure"), name)


alt: Any = _Altair()
"""Altair, imported by the first use of an attribute, which raises `MissingExtraError` if it is not installed."""


def chart_of(rows: Sequence[Row]) -> Any:
    """A chart of these rows, still without a mark."""
    return alt.Chart(alt.InlineData(values=rows))


def span(
    axis: str, value: float, low: float | None, high: float | None, *, write: Callable[[float], str] = number
) -> dict[str, float | str | None]:
    """The columns of a value with its interval: for the axis "x" these are `x`, `x_low`, `x_high` and `x_text`."""
    limits = "" if low is None or high is None else f" ({write(low)} to {write(high)})"
    return {axis: value, f"{axis}_low": low, f"{axis}_high": high, f"{axis}_text": write(value) + limits}


def layer_charts(layers: Iterable[Any], description: str, height: int) -> Any:
    """One chart of the layers that have data."""
    shown = [layer for layer in layers if layer.data["values"]]
    return alt.layer(*shown).properties(description=description, height=height)


def spec(chart: Any, width: int | str, height: int | None = None, *, legends: bool = True) -> Spec:
    """The chart in Vega-Lite's JSON, without `config`, which the theme provides.

    With `legends` each shows what is drawn; a page has its own. It is not validated against Vega-Lite's schema,
    because that is slow and only this package builds charts.
    """
    document: Spec = chart.to_dict(validate=False)
    document.pop("config", None)
    if legends:
        _limit_legends(document, _rows(document))
    return {**document, "width": width, **({"height": height} if height else {})}


_TITLE_WIDTH, _LONGEST_NAME = 80, 57


def title_lines(title: str, width: int = _TITLE_WIDTH) -> list[str]:
    """The title in lines of at most `width` characters, broken between words; a longer word is broken itself."""
    return textwrap.wrap(title, width) or [""]


def add_chart(specs: dict[str, Spec], chart: Any, square: int | None = None) -> str:
    """Add the chart to the `specs` that a page draws, and return the id of its HTML element.

    The chart takes the width of its element, or is a square of `square` pixels.
    """
    name = f"chart-{len(specs)}"
    specs[name] = spec(chart, square or "container", square, legends=False)
    return name


def _rows(part: object) -> list[Row]:
    """All rows of data in a part of a chart."""
    if isinstance(part, list):
        return [row for each in part for row in _rows(each)]
    if not isinstance(part, dict):
        return []
    own = [row for row in part.get("values", ()) if isinstance(row, dict)] if "values" in part else []
    sets = [row for rows in part.get("datasets", {}).values() for row in rows]
    return [*own, *sets, *(row for name, each in part.items() if name != "datasets" for row in _rows(each))]


def _limit_legends(part: object, rows: Sequence[Row]) -> None:
    """Show in each legend only what is drawn, whole; the colours of the others stay reserved."""
    for each in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
        _limit_legends(each, rows)
    for channel in ("color", "shape"):
        encoding = part.get("encoding", {}).get(channel) if isinstance(part, dict) else None
        scale = encoding.get("scale") if isinstance(encoding, dict) else None
        domain = scale.get("domain") if isinstance(scale, dict) else None
        if isinstance(encoding, dict) and isinstance(domain, list) and encoding.get("legend", {}) is not None:
            drawn = {row.get(encoding.get("field", "")) for row in rows}
            shown = [one for one in domain if one in drawn]
            longest = max((len(str(one)) for one in shown), default=0)
            columns = max(1, min(_LEGEND_COLUMNS, _LEGEND_WIDTH // (longest + 1)))
            encoding["legend"] = {**encoding.get("legend", {}), "values": shown, "columns": columns}


def write_pictures(drawn: Iterable[tuple[str, str, Spec]], folder: Path) -> None:
    """Write charts as numbered SVG and PNG files. `drawn` holds the name, the title and the `spec` of each."""
    convert = need("vl_convert", _WHAT, "measure")
    for index, (name, title, document) in enumerate(drawn, start=1):
        words = re.findall(r"[\w.]+", f"{name} {title}")
        while len("-".join(words)) > _LONGEST_NAME and len(words) > 1:
            words.pop()
        stem = f"{index:02d}-{'-'.join(words)}"[: _LONGEST_NAME + 3].rstrip("-.")
        titled = {**document, "title": title_lines(title)}
        svg = convert.vegalite_to_svg(titled, vl_version=_vega_lite(), config=theme())
        write_bytes(folder / f"{stem}.svg", svg.encode())
        write_bytes(folder / f"{stem}.png", convert.svg_to_png(svg, scale=2))


@cache
def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, escaped so that it can stand inside a script element."""
    convert = need("vl_convert", _WHAT, "measure")
    bundle: str = convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite())
    return re.sub(r"</(?=script)", r"<\\/", bundle, flags=re.IGNORECASE)


def _vega_lite() -> str:
    """The version of Vega-Lite that the charts use, in the form of `vl_convert`: `6.4`."""
    version: str = alt.SCHEMA_VERSION
    return ".".join(version.removeprefix("v").split(".")[:2])


OTHERS = "all others"


def fold_others(shares: Mapping[str, float], top: Sequence[str]) -> dict[str, float]:
    """The shares of the `top` answers, and the remaining share under `OTHERS`."""
    kept = {key: shares.get(key, 0.0) for key in top}
    return {**kept, OTHERS: max(0.0, 1 - sum(kept.values()))}


def bars(rows: Sequence[Row], behind: Mapping[str, float], most: float, description: str, **encodings: Any) -> Any:
    """A bar for each row, in the order of the rows, on a scale from 0 to `most`.

    A row has `answer`, `share` and the columns that `encodings` use. `behind` holds the shares of wide bars behind
    them, by answer; it may be empty.
    """
    x = alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(domain=[0, most]))
    y = alt.Y(
        "answer:N",
        title=None,
        sort=[row["answer"] for row in rows],
        axis=alt.Axis(labelLimit=120, ticks=False, domain=False),
    )
    tooltip = [alt.Tooltip("answer:N"), alt.Tooltip("share:Q", format=".2%")]
    wide = [{"answer": key, "share": share} for key, share in behind.items()]
    layers = [
        chart_of(wide).mark_bar(size=15, style="reference").encode(x=x, y=y, tooltip=tooltip),
        chart_of(rows).mark_bar(size=7 if wide else 12).encode(x=x, y=y, tooltip=tooltip, **encodings),
    ]
    return layer_charts(layers, description, 19 * len(rows))


@dataclass(frozen=True, slots=True)
class LabelledPoint:
    """A point with the ends of its intervals, if it has any, and its label ("": none)."""

    label: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None


Box = tuple[float, float, float, float]
Place = tuple[int, int, str]

# Positions of a label beside its point: horizontal and vertical shift in pixels, and alignment.
_PLACES: tuple[Place, ...] = (
    (7, -11, "left"),
    (-7, -11, "right"),
    (7, 12, "left"),
    (-7, 12, "right"),
    (7, -24, "left"),
    (-7, -24, "right"),
    (7, 25, "left"),
    (-7, 25, "right"),
)
# The size of the drawn chart is unknown here. Labels that fit a narrow chart also fit a wide one.
_WIDTH, _HEIGHT = 280.0, 300.0
_LETTER_WIDTH, _LINE_HEIGHT = 6.6, 13.0
_MAX_OVERLAP = 0.2


def label_layers(points: Sequence[LabelledPoint], positions: Sequence[LabelledPoint] | None = None) -> list[Any]:
    """The labels of the points as layers of a chart; `label_places` decides which are left out.

    `positions` are the same points on linear axes, if the axes of the chart are not.
    """
    layers = []
    for point, place in zip(points, label_places(positions or points), strict=True):
        if place is None or not point.label:
            continue
        dx, dy, align = place
        text = chart_of([{"x": point.x, "y": point.y, "label": point.label}])
        mark = text.mark_text(dx=dx, dy=dy, align=align, baseline="middle")
        layers.append(mark.encode(x="x:Q", y="y:Q", text="label:N"))
    return layers


def label_places(points: Sequence[LabelledPoint]) -> list[Place | None]:
    """The position of each label beside its point: shift to the right and down in pixels, and alignment.

    A label is left out (None) if at least a fifth of it would cover points, intervals or earlier labels.
    """
    columns = _to_pixels([(point.x_low, point.x, point.x_high) for point in points], _WIDTH)
    rows = [
        [_HEIGHT - y for y in ends]
        for ends in _to_pixels([(point.y_low, point.y, point.y_high) for point in points], _HEIGHT)
    ]
    taken: list[Box] = []
    for (left, x, right), (bottom, y, top) in zip(columns, rows, strict=True):
        taken += [(x - 6, y - 6, x + 6, y + 6), (left, y - 1, right, y + 1), (x - 1, top, x + 1, bottom)]
    places: list[Place | None] = []
    for point, (_, x, _), (_, y, _) in zip(points, columns, rows, strict=True):
        width = _LETTER_WIDTH * len(point.label)
        boxes = [_label_box(x, y, width, place) for place in _PLACES]
        overlaps = [_overlap(box, taken) for box in boxes]
        best = overlaps.index(min(overlaps))
        if overlaps[best] > _MAX_OVERLAP * width * _LINE_HEIGHT:
            places.append(None)
        else:
            taken.append(boxes[best])
            places.append(_PLACES[best])
    return places


def _label_box(x: float, y: float, width: float, place: Place) -> Box:
    left = x + place[0] - (width if place[2] == "right" else 0)
    return (left, y + place[1] - _LINE_HEIGHT / 2, left + width, y + place[1] + _LINE_HEIGHT / 2)


def _to_pixels(values: Sequence[tuple[float | None, float, float | None]], size: float) -> list[list[float]]:
    """Values between the ends of their intervals, scaled to 0 to `size`; the value replaces a missing end."""
    filled = [[value if end is None else end for end in (low, value, high)] for low, value, high in values]
    least = min(map(min, filled))
    extent = max(map(max, filled)) - least or 1
    return [[(each - least) / extent * size for each in ends] for ends in filled]


def _overlap(box: Box, taken: Sequence[Box]) -> float:
    """The area of the box that is already taken, plus what lies outside of the chart."""
    outside = max(0.0, -box[0]) + max(0.0, box[2] - _WIDTH)
    shared = (
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
        for b in taken
    )
    return sum(shared) + _LINE_HEIGHT * outside
