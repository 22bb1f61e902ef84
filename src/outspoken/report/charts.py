"""Charts: how they are put together, how a page shows them, and pictures of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.io.atomic import put
from outspoken.report.format import number
from outspoken.report.theme import theme

__all__ = [
    "OTHERS",
    "Figure",
    "add_chart",
    "altair",
    "bars",
    "chart_of",
    "fold_others",
    "label_layers",
    "label_places",
    "layer_charts",
    "span",
    "spec",
    "vega_script",
    "write_pictures",
]

_WHAT = "drawing charts"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, what it shows in a line, and what must be known to read it."""

    name: str
    title: str
    caption: str
    chart: Any


def altair() -> Any:
    """The library that charts are written with. Raises `MissingExtraError` where it is absent."""
    return need("altair", _WHAT, "measure")


def chart_of(rows: list[dict[str, Any]]) -> Any:
    """A chart of these rows, still without a mark."""
    alt = altair()
    return alt.Chart(alt.InlineData(values=rows))


def span(
    axis: str, value: float, low: float | None, high: float | None, *, write: Callable[[float], str] = number
) -> dict[str, Any]:
    """A figure and its interval as a chart's row has them; for the axis "x": `x`, `x_low`, `x_high`, `x_text`."""
    within = "" if low is None or high is None else f" ({write(low)} to {write(high)})"
    return {axis: value, f"{axis}_low": low, f"{axis}_high": high, f"{axis}_text": write(value) + within}


def layer_charts(layers: Iterable[Any], description: str, height: int) -> Any:
    """One chart of the layers that have something to show."""
    shown = [layer for layer in layers if layer.data["values"]]
    return altair().layer(*shown).properties(description=description, height=height)


def spec(chart: Any, width: int | str, height: int | None = None) -> dict[str, Any]:
    """Vega-Lite as JSON. Its `config` is left to the theme. It was made by us, so it is not validated again."""
    made: dict[str, Any] = chart.to_dict(validate=False)
    made.pop("config", None)
    return {**made, "width": width, **({"height": height} if height else {})}


def add_chart(specs: dict[str, Any], chart: Any, square: int | None = None) -> str:
    """Put the chart among those that the page draws, as wide as its place or a square; the name of its place."""
    name = f"chart-{len(specs)}"
    specs[name] = spec(chart, square or "container", square)
    return name


def write_pictures(drawn: Iterable[tuple[str, str, Mapping[str, Any]]], folder: Path) -> None:
    """Write each chart (its name, its title and `spec`) as SVG and as PNG, numbered in this order."""
    convert = need("vl_convert", _WHAT, "measure")
    for at, (name, title, made) in enumerate(drawn, start=1):
        words = re.findall(r"[\w.]+", f"{name} {title}")
        stem = f"{at:02d}-{'-'.join(words)}"[:60].rstrip("-.")
        svg = convert.vegalite_to_svg({**made, "title": title}, vl_version=_vega_lite(), config=theme())
        put(folder / f"{stem}.svg", svg.encode())
        put(folder / f"{stem}.png", convert.svg_to_png(svg, scale=2))


@cache
def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that nothing in it can end."""
    convert = need("vl_convert", _WHAT, "measure")
    bundle: str = convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite())
    return re.sub(r"</(?=script)", r"<\\/", bundle, flags=re.IGNORECASE)


def _vega_lite() -> str:
    """The version that the charts are written in, as `vl_convert` names it: `6.4`."""
    version: str = altair().SCHEMA_VERSION
    return ".".join(version.removeprefix("v").split(".")[:2])


OTHERS = "all others"


def fold_others(shares: Mapping[str, float], top: Sequence[str]) -> dict[str, float]:
    """The shares of the top answers, and what is left of 1 for all others."""
    label_layers = {key: shares.get(key, 0.0) for key in top}
    return {**label_layers, OTHERS: max(0.0, 1 - sum(label_layers.values()))}


def bars(
    rows: list[dict[str, Any]], behind: Mapping[str, float], most: float, description: str, **encodings: Any
) -> Any:
    """A bar for each row (`answer`, `share`, and what `encodings` need), in their order, on a scale up to `most`.

    `behind` are the shares of the wide bars, empty for none.
    """
    alt = altair()
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


Box = tuple[float, float, float, float]
Place = tuple[int, int, str]

# Where a label may stand beside its point: horizontal and vertical shift in pixels, and alignment.
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
# How large a chart is drawn is not known here. What does not touch in a narrow one does not in a wide one.
_WIDTH, _HEIGHT = 280.0, 300.0
_LETTER, _LINE = 6.6, 13.0
_TOUCHING = 0.2


def label_layers(rows: Sequence[Mapping[str, Any]], spots: Sequence[Mapping[str, Any]] | None = None) -> list[Any]:
    """The names of the points as layers of a chart; `add_chart` says what a row has, and which name is left out.

    `spots` are the rows with their values as the axes space them, where the axes are not linear.
    """
    made = []
    for row, place in zip(rows, label_places(spots or rows), strict=True):
        if place is None or not row["label"]:
            continue
        dx, dy, align = place
        text = chart_of([dict(row)]).mark_text(dx=dx, dy=dy, align=align, baseline="middle")
        made.append(text.encode(x="x:Q", y="y:Q", text="label:N"))
    return made


def label_places(rows: Sequence[Mapping[str, Any]]) -> list[Place | None]:
    """Where the label of each row's point stands: shift to the right and down in pixels, and alignment.

    A row has `label`, `x`, `y` and their ends `x_low`, `x_high`, `y_low`, `y_high` (or None). A label of which a
    fifth would cover a point, an interval or an earlier label is left out: its place is None.
    """
    spots = _pixels(rows, "x", "y")
    starts, ends = _pixels(rows, "x_low", "y_low"), _pixels(rows, "x_high", "y_high")
    taken: list[Box] = []
    for (x, y), (left, bottom), (right, top) in zip(spots, starts, ends, strict=True):
        taken += [(x - 6, y - 6, x + 6, y + 6), (left, y - 1, right, y + 1), (x - 1, top, x + 1, bottom)]
    places: list[Place | None] = []
    for row, (x, y) in zip(rows, spots, strict=True):
        width = _LETTER * len(row["label"])
        boxes = [_box(x, y, width, place) for place in _PLACES]
        costs = [_cost(box, taken) for box in boxes]
        at = costs.index(min(costs))
        if costs[at] > _TOUCHING * width * _LINE:
            places.append(None)
        else:
            taken.append(boxes[at])
            places.append(_PLACES[at])
    return places


def _box(x: float, y: float, width: float, place: Place) -> Box:
    left = x + place[0] - (width if place[2] == "right" else 0)
    return (left, y + place[1] - _LINE / 2, left + width, y + place[1] + _LINE / 2)


def _pixels(rows: Sequence[Mapping[str, Any]], *names: str) -> list[tuple[float, float]]:
    """Where the rows' values of x and y fall; an end that there is not falls on the point."""
    sides = []
    for axis, name, size in zip("xy", names, (_WIDTH, _HEIGHT), strict=True):
        ends = [row[key] for row in rows for key in (f"{axis}_low", axis, f"{axis}_high") if row[key] is not None]
        low, high = min(ends), max(ends)
        values = [row[axis] if row[name] is None else row[name] for row in rows]
        sides.append([(value - low) / ((high - low) or 1) * size for value in values])
    return [(x, _HEIGHT - y) for x, y in zip(*sides, strict=True)]


def _cost(box: Box, taken: Sequence[Box]) -> float:
    """The area that is already taken, and what sticks out of the chart in its whole height."""
    out = max(0.0, -box[0]) + max(0.0, box[2] - _WIDTH)
    both = (
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
        for b in taken
    )
    return sum(both) + _LINE * out
