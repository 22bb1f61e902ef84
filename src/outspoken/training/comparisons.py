"""What is compared with what: every two arms, and students that are in none, on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.statistics import holm
from outspoken.training import accuracy
from outspoken.training.grading import Floats, Marks

__all__ = ["compared"]


def compared(
    papers: Sequence[str], marks: Mapping[str, list[Marks]], arms: Mapping[str, list[str]], *, sampled: bool
) -> dict[str, Any]:
    """The figures of arms, and the comparisons of every two of what can be compared."""
    in_arms = {name for names in arms.values() for name in names}
    sides = {**arms, **{name: [name] for name in marks if name not in in_arms}}
    results: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
    comparisons: list[dict[str, Any]] = []
    for measure in ("greedy", "sampled") if sampled else ("greedy",):
        family: list[dict[str, Any]] = []
        for at, paper in enumerate(papers):
            tables: dict[str, Floats] = {
                side: np.array([_figures(marks[name][at], measure) for name in names])
                for side, names in sides.items()
            }
            for arm in arms:
                if (known := _known(tables[arm])).any():
                    score = accuracy.arm_score(tables[arm][:, known])
                    results[arm].setdefault(paper, {})[measure] = score.to_dict()
            for a, b in combinations(sides, 2):
                known = _known(tables[a]) & _known(tables[b])
                if not known.any():
                    continue
                one, other = tables[a][:, known], tables[b][:, known]
                if a in arms or b in arms:
                    found = accuracy.arm_difference(one, other)
                else:
                    found = accuracy.student_difference(one[0], other[0], greedy=measure == "greedy")
                family.append({"paper": paper, "measure": measure, "a": a, "b": b, **found.to_dict()})
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            comparisons.append({**entry, "p_holm": p})
    told = [{"name": arm, "students": names, "results": results[arm]} for arm, names in arms.items()]
    return {"arms": told, "comparisons": comparisons}


def _figures(marks: Marks, measure: str) -> Floats:
    return marks.right() if measure == "greedy" else marks.shares()


def _known(table: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(table).any(axis=0), dtype=np.bool_)
