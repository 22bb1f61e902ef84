"""The Pareto front of arms that are judged by two figures, and the area that they dominate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["hypervolume", "pareto_front"]

Point = tuple[float, float]


def pareto_front(points: Mapping[str, Point]) -> list[str]:
    """The names of the points that no other one dominates, by rising first coordinate; higher is better in both.

    A point dominates another that it is nowhere below and somewhere above; equal points stand side by side.
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

    One sweep from the highest first coordinate down: each point adds the strip by which its second coordinate
    exceeds all before it (Zitzler & Thiele 1998, in two dimensions). 0 where no point exceeds the reference.
    """
    area, top = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        if x > reference[0] and y > top:
            area += (x - reference[0]) * (y - top)
            top = y
    return area
