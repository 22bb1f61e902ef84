"""Marking: which answers are right, and the figures that come of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.checking.final_answer import find_final
from outspoken.checking.maths import groups, same_answer
from outspoken.measure.statistics import Estimate, mean_estimate, wilson
from outspoken.training.answer_files import StudentAnswer
from outspoken.training.questions import EvalQuestion

__all__ = ["Grade", "Grades", "mark"]

Floats = NDArray[np.float64]
_SURE = ("boxed", "####", "stated")


@dataclass(frozen=True, slots=True)
class Grade:
    """Of one answer: its final answer (None where there is none), and whether that is right."""

    final: str | None
    right: bool
    cut_off: bool
    late: bool = False


@dataclass(slots=True)
class Grades:
    """Those of one student on one file of questions: `greedy` a mark a question, `sampled` a list of them; None
    where there is no answer yet."""

    questions: Sequence[EvalQuestion]
    greedy: list[Grade | None]
    sampled: list[list[Grade] | None]

    def right(self) -> Floats:
        """1 and 0 for the greedy answer to each question, nan where there is none."""
        return np.array([np.nan if each is None else each.right for each in self.greedy], dtype=np.float64)

    def shares(self) -> Floats:
        """The share of right ones among the sampled answers to each question, nan where there are none."""
        return self._of_sampled(lambda marks: float(np.mean([each.right for each in marks])))

    def to_dict(self, samples: int) -> dict[str, Any]:
        right = self.right()
        known = right[~np.isnan(right)]
        entry: dict[str, Any] = {"questions": len(right), "answered": len(known)}
        if len(known):
            low, high = wilson(int(known.sum()), len(known))
            figure = Estimate(float(known.mean()), low, high, len(known), "question")
            entry["greedy"] = {"accuracy": figure.to_dict(), **_counts([each for each in self.greedy if each])}
        if samples and not np.isnan(shares := self.shares()).all():
            any_right = self._of_sampled(lambda marks: float(any(each.right for each in marks)))
            entry["sampled"] = {
                "samples": samples,
                "accuracy": _mean(shares),
                f"pass@{samples}": _mean(any_right),
                "majority": _mean(self._of_sampled(_majority)),
                **_counts([each for marks in self.sampled if marks for each in marks]),
            }
        return entry

    def _of_sampled(self, figure: Callable[[list[Grade]], float]) -> Floats:
        return np.array([np.nan if marks is None else figure(marks) for marks in self.sampled], dtype=np.float64)


def mark(question: EvalQuestion, answer: StudentAnswer) -> Grade:
    r"""Compare the final answer of a text with the right one.

    An answer that was cut off counts only where it had already said its final answer (`\boxed{}`, `####`, "the
    answer is"): otherwise the last number in it is one of its steps. A comparison that takes too long counts as
    wrong.
    """
    found = find_final(answer.text)
    cut_off = answer.finish == "length"
    if found is None or (cut_off and found.how not in _SURE):
        return Grade(None, False, cut_off)
    same = same_answer(question.answer, found.text)
    return Grade(found.text, bool(same), cut_off, late=same is None)


def _majority(marks: list[Grade]) -> float:
    """Whether the most frequent final answer is right; of several that are equally frequent, the share that
    are."""
    given = [each for each in marks if each.final is not None]
    if not given:
        return 0.0
    texts = sorted({str(each.final) for each in given})
    group_of = dict(zip(texts, groups(texts), strict=True))
    votes: dict[int, list[bool]] = {}
    for each in given:
        votes.setdefault(group_of[str(each.final)], []).append(each.right)
    most = max(map(len, votes.values()))
    return float(np.mean([any(rights) for rights in votes.values() if len(rights) == most]))


def _mean(values: Floats) -> dict[str, Any]:
    return mean_estimate(values[~np.isnan(values)], unit="question").to_dict()


def _counts(marks: Sequence[Grade]) -> dict[str, int]:
    return {
        "answers": len(marks),
        "right": sum(each.right for each in marks),
        "without_final": sum(each.final is None for each in marks),
        "cut_off": sum(each.cut_off for each in marks),
        "too_slow_to_check": sum(each.late for each in marks),
    }
