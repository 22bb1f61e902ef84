"""The result of an evaluation, as `evaluate` returns it and `results.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from outspoken.io.dataclass_json import to_json
from outspoken.measure.estimates import Estimate

__all__ = [
    "KIND",
    "AnswerCounts",
    "ArmResult",
    "ArmScore",
    "Difference",
    "EvalFileEntry",
    "Evaluation",
    "GreedyScore",
    "Measure",
    "SampledScore",
    "StudentComparison",
    "StudentResult",
    "StudentScore",
]

KIND = "evaluation"
"""The value of "kind" in `results.json`."""

Measure = Literal["greedy", "sampled"]


@dataclass(frozen=True, slots=True)
class EvalFileEntry:
    """A file of questions: `questions` of its `of` questions were asked."""

    name: str
    source: str
    sha256: str
    questions: int
    of: int


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Numbers of answers: all, right ones, those without a final answer, and those cut off at the longest length.

    `too_slow_to_check` counts those whose comparison took too long; they count as wrong.
    """

    answers: int
    right: int
    without_final: int
    cut_off: int
    too_slow_to_check: int


@dataclass(frozen=True, slots=True)
class GreedyScore:
    """The share of right greedy answers, with Wilson's interval."""

    accuracy: Estimate
    counts: AnswerCounts


@dataclass(frozen=True, slots=True)
class SampledScore:
    """Sampled answers: the mean `accuracy` and the accuracy of the `majority` vote, with intervals by question.

    `pass_at_n` (in JSON "pass@n") is the share of questions with any right answer among `samples`.
    """

    samples: int
    accuracy: Estimate
    pass_at_n: Estimate
    majority: Estimate
    counts: AnswerCounts


@dataclass(frozen=True, slots=True)
class StudentScore:
    """A student on one file: the numbers of questions and of `answered` ones, those with a greedy answer.

    `greedy` and `sampled` are None without such answers.
    """

    questions: int
    answered: int
    greedy: GreedyScore | None = None
    sampled: SampledScore | None = None

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        entry: dict[str, object] = {"questions": self.questions, "answered": self.answered}
        if (greedy := self.greedy) is not None:
            entry["greedy"] = {"accuracy": greedy.accuracy.to_dict(), **to_json(greedy.counts)}
        if (sampled := self.sampled) is not None:
            entry["sampled"] = {
                "samples": sampled.samples,
                "accuracy": sampled.accuracy.to_dict(),
                f"pass@{sampled.samples}": sampled.pass_at_n.to_dict(),
                "majority": sampled.majority.to_dict(),
                **to_json(sampled.counts),
            }
        return entry


@dataclass(frozen=True, slots=True)
class StudentResult:
    """One student: its source, the identity of its weights or its model, and its scores by the file's name."""

    name: str
    source: str
    identity: str
    results: Mapping[str, StudentScore]


@dataclass(frozen=True, slots=True)
class ArmScore:
    """The mean accuracy of an arm over its seeds and the questions.

    `seed_sd` is the standard deviation of the seeds' accuracies, None for one seed.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int
    questions: int
    seed_sd: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Students that differ only by their seed, with their scores by the file's name and the measure."""

    name: str
    students: tuple[str, ...]
    results: Mapping[str, Mapping[str, ArmScore]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of a minus accuracy of b on the same questions; `p` is two-sided.

    `only_a` counts the questions that only a answered right (for greedy answers of two students, else None).
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    questions: int
    test: str
    only_a: int | None = None
    only_b: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentComparison(Difference):
    """The difference between two students or arms on one file, in JSON the "paper".

    `p_holm` is p corrected for all comparisons of the measure.
    """

    file: str = field(metadata={"key": "paper"})
    measure: Measure
    a: str
    b: str
    p_holm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluation. `files` are "papers" in JSON.

    `unanswered` counts failed answers, `tokens` are those of all answers, `seconds` is the time of this call.
    """

    version: str
    created: str
    settings: Mapping[str, object]
    files: tuple[EvalFileEntry, ...] = field(metadata={"key": "papers"})
    students: tuple[StudentResult, ...]
    arms: tuple[ArmResult, ...]
    comparisons: tuple[StudentComparison, ...]
    unanswered: int
    tokens: int
    seconds: float
    versions: Mapping[str, str | None]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        return {"kind": KIND, **to_json(self, methods=True)}
