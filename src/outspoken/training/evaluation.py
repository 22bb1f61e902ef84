"""`evaluate`: students answer questions, and what they know is compared."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outspoken._version import __version__
from outspoken.errors import StoppedError, UsageError
from outspoken.io import atomic
from outspoken.training import base_models, questions
from outspoken.training.accuracy import compared
from outspoken.training.answer_files import GREEDY, AnswerFile
from outspoken.training.folder import claimed
from outspoken.training.grading import Grade, Grades, mark
from outspoken.training.library_noise import interrupts
from outspoken.training.settings import EvalSettings, read
from outspoken.training.students import Student, Wanted, file_of, find

__all__ = ["KIND", "Progress", "evaluate"]

KIND = "evaluation"
"""What `results.json` calls itself."""

Source = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
"""Called with what is done ("asking a", "marking a"), how much of it, and of how much."""

_RESULTS, _ANSWERS, _LEDGER = "results.json", "answers", "ledger.sqlite"


def evaluate(
    papers: Source | Sequence[Source],
    *,
    students: Mapping[str, Source] | Sequence[Source] = (),
    arms: Mapping[str, Sequence[Source]] | None = None,
    out: Source,
    offline: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
    **options: Any,
) -> dict[str, Any]:
    r"""Ask students the questions of files and return what they know; `options` are those of `EvalSettings`.

    `papers` are files in the shape of GSM8K ({"question", "answer": "... #### 18"}), of MATH ({"problem",
    "answer"}) or {"prompt", "answer"}. `students` are what `train` wrote, folders that transformers reads, names
    of the hub, `local/smollm2`, or any model of Outspoken that answers; a mapping gives them names. `arms` are
    groups of students that differ by their seed alone: names of students, or students of their own.

    The result has `papers`, `students` (accuracy of the greedy answers with Wilson's interval; of sampled ones the
    mean, pass@n and the majority vote with intervals by question), `arms`, `comparisons` (of every two arms, and
    students that are in none: paired by question, corrected by Holm's method over all of one measure) and
    `warnings`. It stands in `out/results.json` too. Answers are kept in `out/answers` as they come: what was
    answered is never asked again.

    Raises `UsageError` for files, students or settings that cannot be, `StoppedError` where it was told to end.
    """
    settings = read(EvalSettings, options)
    folder = Path(out)
    with claimed(folder, "evaluating"), interrupts(stopped) as asked:
        _check(folder)
        named, groups = _named(students, arms or {})
        found = questions.read(
            [Path(papers)] if isinstance(papers, (str, os.PathLike)) else [Path(each) for each in papers],
            limit=settings.limit,
            seed=settings.seed if settings.draw else None,
        )
        people = [find(name, source, settings, offline=offline) for name, source in named.items()]
        begun = time.monotonic()
        work = _Work(folder, settings, found, progress or (lambda *_: None), asked)
        marks = {student.name: work.marks(student) for student in people}
        document = {
            "kind": KIND,
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings.to_dict(),
            "papers": [paper.to_dict() for paper in found],
            "students": [
                {
                    "name": student.name,
                    "source": named[student.name],
                    "identity": student.identity,
                    "results": {
                        paper.name: each.to_dict(settings.samples)
                        for paper, each in zip(found, marks[student.name], strict=True)
                    },
                }
                for student in people
            ],
            **compared([paper.name for paper in found], marks, groups, sampled=settings.samples > 0),
            "unanswered": work.unanswered,
            "tokens": work.tokens,
            "seconds": round(time.monotonic() - begun, 3),
            "versions": base_models.versions(),
            "warnings": work.warnings(),
        }
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        atomic.replace(folder / _RESULTS, lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        return document


class _Work:
    """Asking and marking: what is still to be asked is asked, student by student."""

    def __init__(
        self,
        folder: Path,
        settings: EvalSettings,
        papers: Sequence[questions.QuestionFile],
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        self.folder, self.settings, self.papers = folder, settings, papers
        self.unanswered = self.tokens = 0
        self._progress, self._stopped = progress, stopped
        self._failed: dict[str, int] = {}

    def marks(self, student: Student) -> list[Grades]:
        """Its marks on each file of questions."""
        samples = self.settings.samples
        everything = [question for paper in self.papers for question in paper.questions]
        wanted: list[Wanted] = list(
            {
                (question.key, sample): (question, sample)
                for sample in (GREEDY, *range(samples))
                for question in everything
            }.values()
        )
        with (
            AnswerFile(file_of(self.folder / _ANSWERS, student, self.settings, sampled=False)) as greedy,
            AnswerFile(file_of(self.folder / _ANSWERS, student, self.settings, sampled=True)) as sampled,
        ):
            self._ask(student, wanted, greedy, sampled)
            marked = self._marked(student, wanted, greedy, sampled)
        return [
            Grades(
                paper.questions,
                [marked.get((question.key, GREEDY)) for question in paper.questions],
                [
                    _whole([marked.get((question.key, sample)) for sample in range(samples)])
                    for question in paper.questions
                ],
            )
            for paper in self.papers
        ]

    def warnings(self) -> list[str]:
        return [
            f"{name} lacks {count:,} answers, which are left out of its figures; the same command asks for them"
            for name, count in self._failed.items()
        ]

    def _ask(self, student: Student, wanted: Sequence[Wanted], greedy: AnswerFile, sampled: AnswerFile) -> None:
        missing = [
            (question, sample)
            for question, sample in wanted
            if (greedy if sample == GREEDY else sampled).get(question.key, sample) is None
        ]
        if not missing:
            return
        what, done = f"asking {student.name}", len(wanted) - len(missing)
        self._progress(what, done, len(wanted))
        with closing(student.answers(missing, self.settings, self.folder / _LEDGER)) as batches:
            for batch in batches:
                for store, kind in ((greedy, True), (sampled, False)):
                    if part := [answer for answer in batch if (answer.sample == GREEDY) is kind]:
                        store.add(part)
                done += len(batch)
                self._progress(what, done, len(wanted))
                if self._stopped() and done < len(wanted):
                    raise StoppedError(
                        f"stopped while {what}, {done:,} of {len(wanted):,}; what was answered is kept in "
                        f"{self.folder}, and the same command goes on from there"
                    )
        if done < len(wanted):
            self._failed[student.name] = len(wanted) - done
            self.unanswered += len(wanted) - done

    def _marked(
        self, student: Student, wanted: Sequence[Wanted], greedy: AnswerFile, sampled: AnswerFile
    ) -> dict[tuple[str, int], Grade]:
        found = {}
        for at, (question, sample) in enumerate(wanted):
            if at % 100 == 0:
                self._progress(f"marking {student.name}", at, len(wanted))
            answer = (greedy if sample == GREEDY else sampled).get(question.key, sample)
            if answer is not None:
                self.tokens += answer.tokens
                found[question.key, sample] = mark(question, answer)
        self._progress(f"marking {student.name}", len(wanted), len(wanted))
        return found


def _whole(marks: list[Grade | None]) -> list[Grade] | None:
    known = [each for each in marks if each is not None]
    return known if known and len(known) == len(marks) else None


def _check(folder: Path) -> None:
    """Raise `UsageError` where the folder holds the results of something else, which would be lost."""
    path = folder / _RESULTS
    if not path.exists():
        return
    try:
        kind = json.loads(path.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind != KIND:
        raise UsageError(f"{folder} holds the results of something else: name another folder with --out")


def _named(
    students: Mapping[str, Source] | Sequence[Source], arms: Mapping[str, Sequence[Source]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Each student's source by its name, and the names of each arm's students."""
    if isinstance(students, (str, os.PathLike)):
        students = [students]
    if isinstance(students, Mapping):
        named = {str(name): os.fspath(source) for name, source in students.items()}
    else:
        named = _short([os.fspath(source) for source in students])
    own = [os.fspath(each) for group in arms.values() for each in group if os.fspath(each) not in named]
    added = _short([source for source in own if source not in named.values()])
    for name, source in added.items():
        if name in named:
            raise UsageError(f"two students are called {name!r} ({named[name]}, {source}): name them NAME=SOURCE")
        named[name] = source
    by_source = {source: name for name, source in named.items()}
    groups: dict[str, list[str]] = {}
    for arm, members in arms.items():
        names = [name if (name := os.fspath(each)) in named else by_source[name] for each in members]
        if not names:
            raise UsageError(f"the arm {arm!r} has no students: give at least one")
        if arm in named:
            raise UsageError(f"an arm and a student are called {arm!r}: name one of them otherwise")
        groups[arm] = names
    every = [name for names in groups.values() for name in names]
    if twice := sorted({name for name in every if every.count(name) > 1}):
        raise UsageError(f"{', '.join(twice)} stands in the arms twice: each student is one seed of one arm")
    if not named:
        raise UsageError("there is no student to ask: name at least one")
    return named, groups


def _short(sources: Sequence[str]) -> dict[str, str]:
    """The sources by short names: of paths the last part, with as many before it as tell them apart."""
    names: dict[str, str] = {}
    for source in sources:
        parts = Path(source).parts if Path(source).exists() else (source,)
        others = [Path(other).parts for other in sources if other != source]
        length = 1
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in others):
            length += 1
        name = "/".join(parts[-length:])
        if names.get(name, source) != source:
            raise UsageError(f"two students are called {name!r}: name them NAME=SOURCE")
        if name in names:
            raise UsageError(f"the student {source} is named twice: name each once")
        names[name] = source
    return names
