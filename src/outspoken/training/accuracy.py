"""How sure an accuracy is, and a difference between two: of students, and of arms whose students differ by their
seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from scipy.stats import t as student

from outspoken.errors import UndefinedError
from outspoken.measure.statistics import FEW, compare, holm
from outspoken.training.grading import Grades

__all__ = [
    "ArmScore",
    "Difference",
    "arm_difference",
    "arm_score",
    "compared",
    "mcnemar",
    "student_difference",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmScore:
    """The mean accuracy of an arm over its seeds and the questions. `seed_sd` is the standard deviation between
    the seeds' accuracies, None for one seed."""

    value: float
    low: float | None
    high: float | None
    seeds: int
    questions: int
    seed_sd: float | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of a minus accuracy of b on the same questions. `only_a` counts the questions that only a answered
    right (of two students' greedy answers; None elsewhere). `p` is two-sided."""

    difference: float
    low: float | None
    high: float | None
    p: float | None
    questions: int
    test: str
    only_a: int | None = None
    only_b: int | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact test of McNemar (1947): were a and b equally good, either would win each question on which they
    differ with probability 1/2. It is the test that swaps their answers within questions, with every swap."""
    both = only_a + only_b
    return float(binomtest(only_a, both).pvalue) if both else 1.0


def student_difference(a: Floats, b: Floats, *, greedy: bool) -> Difference:
    """Two students; `a` and `b` are their figures for each question, nan where there is none.

    The interval resamples questions. The test of greedy answers is McNemar's, that of shares of sampled ones swaps
    the students within questions (`outspoken.measure.statistics.compare`).
    """
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if not len(a):
        raise UndefinedError("they have no question in common: answer the rest first")
    found = compare(a, b, unit="question")
    if not greedy:
        return Difference(found.difference, found.low, found.high, found.p, len(a), "permutation", note=found.note)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    p = mcnemar(wins, losses)
    note = found.note if wins + losses else "they agree on every question"
    return Difference(found.difference, found.low, found.high, p, len(a), "McNemar, exact", wins, losses, note)


def arm_score(table: Floats, level: float = 0.95) -> ArmScore:
    """The mean of a table (seeds, questions) with an interval for other seeds and other questions.

    Both were drawn from many, so both count: the variance is s²(seeds' means) / seeds + s²(questions' means) /
    questions, with the degrees of freedom of Satterthwaite (1946). What is neither the seed's nor the question's
    is in both terms, which makes up for how little a few seeds tell: simulated with 200 questions at 95 %, it
    covered the truth in 92 to 98 % of samples (89 to 98 % with two seeds).
    """
    seeds, questions = table.shape
    half, note = _half([*_seed_term(table), _question_term(table.mean(axis=0), 0.0)], seeds, level)
    value = float(table.mean())
    sd = float(table.mean(axis=1).std(ddof=1)) if seeds > 1 else None
    if half is None:
        return ArmScore(value, None, None, seeds, questions, sd, note)
    return ArmScore(value, max(0.0, value - half), min(1.0, value + half), seeds, questions, sd, note)


def arm_difference(a: Floats, b: Floats, level: float = 0.95) -> Difference:
    """Two tables (seeds, questions) of the same questions; the seeds are those of each arm alone.

    The test is Welch's over the seeds' means, s²(a) / seeds + s²(b) / seeds, to which comes what the arms differ
    from question to question beyond chance: s²(questions' paired differences) / questions, less the part of it
    that is in the first two already (the residuals of both tables, at least 0). Simulated with 200 questions at 95
    %, the interval covered the truth in 94 to 97 % of samples with three seeds or five, in 93 to 97 % with two.
    """
    difference = a.mean(axis=0) - b.mean(axis=0)
    terms = [*_seed_term(a), *_seed_term(b), _question_term(difference, _residual(a) + _residual(b))]
    value, test = float(difference.mean()), "Welch's t over seeds and questions"
    half, note = _half(terms, min(len(a), len(b)), level)
    if half is None:
        return Difference(value, None, None, None, len(difference), test, note=note)
    variance, freedom = _joined(terms)
    p = float(2 * student.sf(abs(value) / math.sqrt(variance), freedom)) if variance > 0 else float(value == 0)
    return Difference(value, value - half, value + half, p, len(difference), test, note=note)


def _seed_term(table: Floats) -> list[tuple[float, int]]:
    """The variance of the mean that the seeds give, and its degrees of freedom; nothing is known of one seed."""
    seeds = len(table)
    return [(float(table.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)] if seeds > 1 else []


def _residual(table: Floats) -> float:
    """What is neither the seed's nor the question's, as a variance of the questions' means; 0 where nobody
    knows."""
    seeds, questions = table.shape
    if seeds < 2 or questions < 2:
        return 0.0
    left = table - table.mean(axis=0) - table.mean(axis=1)[:, None] + table.mean()
    return float((left**2).sum()) / float((seeds - 1) * (questions - 1) * seeds)


def _question_term(means: Floats, known: float) -> tuple[float, int]:
    questions = len(means)
    if questions < 2:
        return math.nan, 0
    return max(0.0, float(means.var(ddof=1)) - known) / questions, questions - 1


def _half(terms: Sequence[tuple[float, int]], seeds: int, level: float) -> tuple[float | None, str]:
    notes = []
    if seeds == 1:
        notes.append("one seed: how much seeds differ is not known, and not in the interval")
    elif seeds < FEW:
        notes.append(f"{seeds} seeds: how much they differ is known roughly")
    variance, freedom = _joined(terms)
    if math.isnan(variance):
        return None, "; ".join([*notes, "one question: nothing to compare it with"])
    if variance == 0:
        return 0.0, "; ".join([*notes, "no variation among seeds and questions"])
    return float(student.isf((1 - level) / 2, freedom)) * math.sqrt(variance), "; ".join(notes)


def _joined(terms: Sequence[tuple[float, int]]) -> tuple[float, float]:
    variance = math.fsum(term for term, _ in terms)
    if not variance > 0:
        return variance, math.inf
    return variance, variance**2 / sum(term**2 / freedom for term, freedom in terms if freedom)


def compared(
    papers: Sequence[str], marks: Mapping[str, list[Grades]], arms: Mapping[str, list[str]], *, sampled: bool
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
                    score = arm_score(tables[arm][:, known])
                    results[arm].setdefault(paper, {})[measure] = score.to_dict()
            for a, b in combinations(sides, 2):
                known = _known(tables[a]) & _known(tables[b])
                if not known.any():
                    continue
                one, other = tables[a][:, known], tables[b][:, known]
                if a in arms or b in arms:
                    found = arm_difference(one, other)
                else:
                    found = student_difference(one[0], other[0], greedy=measure == "greedy")
                family.append({"paper": paper, "measure": measure, "a": a, "b": b, **found.to_dict()})
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            comparisons.append({**entry, "p_holm": p})
    told = [{"name": arm, "students": names, "results": results[arm]} for arm, names in arms.items()]
    return {"arms": told, "comparisons": comparisons}


def _figures(marks: Grades, measure: str) -> Floats:
    return marks.right() if measure == "greedy" else marks.shares()


def _known(table: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(table).any(axis=0), dtype=np.bool_)
