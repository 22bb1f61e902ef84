"""Grading: which answers are right, and a student's scores on a file of questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outspoken.checking.answer_extraction import find_final
from outspoken.checking.maths import answer_groups, same_answer
from outspoken.measure.statistics import Estimate, mean_estimate, wilson
from outspoken.training.evaluation_result import AnswerCounts, GreedyScore, SampledScore, StudentScore
from outspoken.training.questions import EvalQuestion, StudentAnswer

__all__ = ["Grade", "Grades", "grade"]

Floats = NDArray[np.float64]
_SURE = ("boxed", "####", "stated")


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one answer: its final answer (None if it has none), and whether that is right.

    `late`: the comparison took too long.
    """

    final: str | None
    right: bool
    cut_off: bool
    late: bool = False


@dataclass(slots=True)
class Grades:
    """The grades of one student on one file: one per question in `greedy`, a list per question in `sampled`; None
    for a question that is not answered yet."""

    questions: Sequence[EvalQuestion]
    greedy: list[Grade | None]
    sampled: list[list[Grade] | None]

    def right(self) -> Floats:
        """1 or 0 for the greedy answer to each question, nan without one."""
        return np.array([np.nan if each is None else each.right for each in self.greedy], dtype=np.float64)

    def shares(self) -> Floats:
        """The share of right sampled answers to each question, nan without any."""
        return self._of_sampled(lambda grades: float(np.mean([each.right for each in grades])))

    def score(self, samples: int) -> StudentScore:
        """The scores, with those of sampled answers if there are `samples` for each question."""
        right = self.right()
        known = right[~np.isnan(right)]
        greedy = sampled = None
        if len(known):
            low, high = wilson(int(known.sum()), len(known))
            accuracy = Estimate(float(known.mean()), low, high, len(known), "question")
            greedy = GreedyScore(accuracy, _counts([each for each in self.greedy if each]))
        if samples and not np.isnan(shares := self.shares()).all():
            any_right = self._of_sampled(lambda grades: float(any(each.right for each in grades)))
            sampled = SampledScore(
                samples,
                accuracy=_mean(shares),
                pass_at_n=_mean(any_right),
                majority=_mean(self._of_sampled(_majority)),
                counts=_counts([each for grades in self.sampled if grades for each in grades]),
            )
        return StudentScore(len(right), len(known), greedy, sampled)

    def _of_sampled(self, figure: Callable[[list[Grade]], float]) -> Floats:
        return np.array(
            [np.nan if grades is None else figure(grades) for grades in self.sampled], dtype=np.float64
        )


def grade(question: EvalQuestion, answer: StudentAnswer) -> Grade:
    r"""Compare the final answer in a text with the right one.

    An answer that was cut off counts only if it had already stated its final answer (`\boxed{}`, `####`, "the
    answer is"): otherwise the last number in it belongs to one of its steps. A comparison that takes too long
    counts as wrong.
    """
    final = find_final(answer.text)
    cut_off = answer.finish == "length"
    if final is None or (cut_off and final.how not in _SURE):
        return Grade(None, False, cut_off)
    same = same_answer(question.answer, final.text)
    return Grade(final.text, bool(same), cut_off, late=same is None)


def _majority(grades: list[Grade]) -> float:
    """Whether the most frequent final answer is right; if several are equally frequent, the share of right
    ones."""
    with_final = [each for each in grades if each.final is not None]
    if not with_final:
        return 0.0
    texts = sorted({str(each.final) for each in with_final})
    group_of = dict(zip(texts, answer_groups(texts), strict=True))
    votes: dict[int, list[bool]] = {}
    for each in with_final:
        votes.setdefault(group_of[str(each.final)], []).append(each.right)
    most = max(map(len, votes.values()))
    return float(np.mean([any(rights) for rights in votes.values() if len(rights) == most]))


def _mean(values: Floats) -> Estimate:
    return mean_estimate(values[~np.isnan(values)], unit="question")


def _counts(grades: Sequence[Grade]) -> AnswerCounts:
    return AnswerCounts(
        answers=len(grades),
        right=sum(each.right for each in grades),
        without_final=sum(each.final is None for each in grades),
        cut_off=sum(each.cut_off for each in grades),
        too_slow_to_check=sum(each.late for each in grades),
    )
