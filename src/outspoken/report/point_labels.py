"""Where the names of points stand in a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.report.charts import over

__all__ = ["named", "placed"]

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


def named(rows: Sequence[Mapping[str, Any]], spots: Sequence[Mapping[str, Any]] | None = None) -> list[Any]:
    """The names of the points as layers of a chart; `placed` says what a row has, and which name is left out.

    `spots` are the rows with their values as the axes space them, where the axes are not linear.
    """
    made = []
    for row, place in zip(rows, placed(spots or rows), strict=True):
        if place is None or not row["label"]:
            continue
        dx, dy, align = place
        text = over([dict(row)]).mark_text(dx=dx, dy=dy, align=align, baseline="middle")
        made.append(text.encode(x="x:Q", y="y:Q", text="label:N"))
    return made


def placed(rows: Sequence[Mapping[str, Any]]) -> list[Place | None]:
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
