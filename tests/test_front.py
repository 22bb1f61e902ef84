"""The Pareto front and the hypervolume, against their definitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numpy")

from outspoken.experiment.charts import hypervolume, pareto_front

coordinates = st.integers(-6, 6)
point_lists = st.lists(st.tuples(coordinates, coordinates), max_size=12)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a != b


@given(point_lists)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    named = {f"arm {at}": point for at, point in enumerate(points)}
    wanted = {name for name, point in named.items() if not any(dominates(other, point) for other in points)}
    front = pareto_front(named)
    assert set(front) == wanted
    assert len(front) == len(wanted)
    assert [named[name][0] for name in front] == sorted(named[name][0] for name in front)


@given(point_lists, st.tuples(coordinates, coordinates))
def test_the_hypervolume_counts_the_unit_squares_below_a_point(
    points: list[tuple[int, int]], reference: tuple[int, int]
) -> None:
    squares = sum(
        any(x > i and y > j for x, y in points) for i in range(reference[0], 7) for j in range(reference[1], 7)
    )
    assert hypervolume(points, reference) == squares


@given(point_lists, st.tuples(coordinates, coordinates))
def test_only_the_front_adds_to_the_hypervolume(points: list[tuple[int, int]], reference: tuple[int, int]) -> None:
    named = {str(at): point for at, point in enumerate(points)}
    front = [named[name] for name in pareto_front(named)]
    assert hypervolume(front, reference) == hypervolume(points, reference)


def test_known_area() -> None:
    assert hypervolume([(1.0, 3.0), (2.0, 2.0), (3.0, 0.5)], (0.0, 0.0)) == pytest.approx(3 + 2 + 0.5)
    assert hypervolume([], (0.0, 0.0)) == 0
    assert hypervolume([(1.0, 1.0)], (1.0, 0.0)) == 0
    assert pareto_front({}) == []
    assert pareto_front({"a": (1.0, 1.0), "b": (1.0, 1.0)}) in (["a", "b"], ["b", "a"])
