"""`evaluate`: students answer questions, and their accuracies are compared."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack

from outspoken._options import EvalOptions
from outspoken._version import __version__
from outspoken.errors import StoppedError, UsageError
from outspoken.io import atomic
from outspoken.io.lock import FolderLock
from outspoken.io.signals import stop_on_interrupt
from outspoken.io.text import json_bytes, plural
from outspoken.settings import read_options
from outspoken.training import base_models
from outspoken.training.accuracy import Grade, Grades, compare_students, grade
from outspoken.training.evaluation_result import KIND, Evaluation, StudentResult
from outspoken.training.questions import GREEDY, AnswerFile, QuestionFile, read_questions
from outspoken.training.settings import EvalSettings
from outspoken.training.students import AnswerRequest, Student, answer_path, find_student

__all__ = ["Progress", "evaluate"]

Source = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
"""Called with the step ("asking a", "grading a"), the number of answers done in it, and their total."""

_AnswerFiles = Mapping[bool, AnswerFile]  # the files of greedy (True) and of sampled answers
_RESULTS, _ANSWERS, _LEDGER = "results.json", "answers", "ledger.sqlite"


def evaluate(
    questions: Source | Sequence[Source],
    *,
    students: Mapping[str, Source] | Sequence[Source] = (),
    arms: Mapping[str, Sequence[Source]] | None = None,
    out: Source,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
    **options: Unpack[EvalOptions],
) -> Evaluation:
    r"""Ask students the questions of files, and compare how many each of them answers right.

    `questions` are files in the shape of GSM8K ({"question", "answer": "... #### 18"}), of MATH ({"problem",
    "answer"}) or {"prompt", "answer"}. `students` are what `train` wrote, folders that transformers reads, names
    of the hub, `local/smollm2`, or any other model of this package; a mapping names them. `arms` are groups of
    students that differ only by their seed: names of students, or further students. `offline` forbids downloads.

    The result has the accuracy of greedy answers with Wilson's interval; for sampled answers the mean, pass@n and
    the majority vote, with intervals by question; the scores of arms; and the comparisons of each pair of arms and
    of students in no arm, paired by question and corrected by Holm's method over all of one measure. The folder
    `out` gets the result as `results.json`, and the answers in `answers/` as they arrive: the same call continues
    where it stopped. `overwrite` removes earlier answers, except those in the ledger.

    Raises `UsageError` for invalid files, students or settings and for a folder with other results, `StoppedError`
    on Ctrl-C or if `stopped` returns True.

    Options:
        limit: Number of questions from each file: the first ones, or with --random random ones. Default: None.
        random: With --limit, choose the questions at random, by --seed. Default: False.
        samples: Sampled answers to each question, in addition to the greedy one. Default: 0.
        temperature: Temperature of the sampled answers. Default: 1.0.
        top_p: Nucleus of the sampled answers. Default: 1.0.
        max_tokens: Most tokens of an answer; longer ones are cut off. Default: 512.
        batch_size: Answers computed together. Default: 32.
        plain: Ask the plain question, without the chat template. Default: False.
        question_format: Ask this text, with {question} in it, without the chat template: "Q: {question}\nA:".
            Default: None.
        instruction: Text after each question, such as how to end the answer. Default: None.
        stop: Texts at which an answer ends. Default: ().
        seed: Seed of the sampled answers and of --random. Default: 0.
        dtype: Precision of the computation: bfloat16, float32, or auto, the faster one on this machine. Default:
            'auto'.
        threads: CPU threads. Default: one per core.
    """
    settings = read_options(EvalSettings, options)
    folder = Path(out)
    paths = [Path(questions)] if isinstance(questions, (str, os.PathLike)) else [Path(each) for each in questions]
    with FolderLock(folder), stop_on_interrupt(stopped) as should_stop:
        _check_owner(folder)
        named, groups = _named(students, arms or {})
        files = read_questions(paths, limit=settings.limit, seed=settings.seed if settings.random else None)
        selected = [find_student(name, source, settings, offline=offline) for name, source in named.items()]
        if overwrite:
            shutil.rmtree(folder / _ANSWERS, ignore_errors=True)
            (folder / _RESULTS).unlink(missing_ok=True)
        begun = time.monotonic()
        examination = _Examination(folder, settings, files, progress or (lambda *_: None), should_stop)
        grades = {student.name: examination.grades(student) for student in selected}
        scores = {
            name: {file.entry.name: each.score(settings.samples) for file, each in zip(files, own, strict=True)}
            for name, own in grades.items()
        }
        arm_results, comparisons = compare_students(
            [file.entry.name for file in files], grades, groups, sampled=settings.samples > 0
        )
        result = Evaluation(
            version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings.to_dict(),
            files=tuple(file.entry for file in files),
            students=tuple(
                StudentResult(each.name, named[each.name], each.identity, scores[each.name]) for each in selected
            ),
            arms=arm_results,
            comparisons=comparisons,
            unanswered=sum(examination.missing.values()),
            tokens=examination.tokens,
            seconds=round(time.monotonic() - begun, 3),
            versions=base_models.versions(),
            warnings=tuple(
                f"{name} lacks {plural(count, 'answer')}, which its figures leave out; the same command asks again"
                for name, count in examination.missing.items()
            ),
        )
        atomic.write_bytes(folder / _RESULTS, json_bytes(result.to_dict(), indent=2, allow_nan=False))
        return result


@dataclass
class _Examination:
    """Asks the students for missing answers, and grades all. `missing` counts failed answers by student."""

    folder: Path
    settings: EvalSettings
    files: Sequence[QuestionFile]
    progress: Progress
    should_stop: Callable[[], bool]
    missing: dict[str, int] = field(default_factory=dict)
    tokens: int = 0

    def grades(self, student: Student) -> list[Grades]:
        """The student's grades on each file of questions."""
        samples = range(self.settings.samples)
        by_key = {question.key: question for file in self.files for question in file.questions}
        requests = [(question, sample) for sample in (GREEDY, *samples) for question in by_key.values()]
        with ExitStack() as stack:
            files = {
                greedy: stack.enter_context(
                    AnswerFile(answer_path(self.folder / _ANSWERS, student, self.settings, sampled=not greedy))
                )
                for greedy in (True, False)
            }
            self._ask(student, requests, files)
            graded = self._grade(student, requests, files)
        return [
            Grades(
                file.questions,
                [graded.get((question.key, GREEDY)) for question in file.questions],
                [
                    [graded[question.key, sample] for sample in samples]
                    if samples and all((question.key, sample) in graded for sample in samples)
                    else None
                    for question in file.questions
                ],
            )
            for file in self.files
        ]

    def _ask(self, student: Student, requests: Sequence[AnswerRequest], files: _AnswerFiles) -> None:
        missing = [
            (question, sample)
            for question, sample in requests
            if files[sample == GREEDY].get(question.key, sample) is None
        ]
        if not missing:
            return
        what, done, total = f"asking {student.name}", len(requests) - len(missing), len(requests)
        self.progress(what, done, total)
        with closing(student.answers(missing, self.settings, self.folder / _LEDGER)) as batches:
            for batch in batches:
                for greedy, file in files.items():
                    if part := [answer for answer in batch if (answer.sample == GREEDY) is greedy]:
                        file.add(part)
                done += len(batch)
                self.progress(what, done, total)
                if self.should_stop() and done < total:
                    raise StoppedError(
                        f"stopped while {what}, {done:,} of {total:,}; the answers are kept in {self.folder}, "
                        "and the same command continues from there"
                    )
        if done < total:
            self.missing[student.name] = total - done

    def _grade(
        self, student: Student, requests: Sequence[AnswerRequest], files: _AnswerFiles
    ) -> dict[tuple[str, int], Grade]:
        graded = {}
        for at, (question, sample) in enumerate(requests):
            if at % 100 == 0:
                self.progress(f"grading {student.name}", at, len(requests))
            answer = files[sample == GREEDY].get(question.key, sample)
            if answer is not None:
                self.tokens += answer.tokens
                graded[question.key, sample] = grade(question, answer)
        self.progress(f"grading {student.name}", len(requests), len(requests))
        return graded


def _check_owner(folder: Path) -> None:
    """Raise `UsageError` if the folder holds other results than those of an evaluation."""
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
        named = _short_names([os.fspath(source) for source in students])
    members = {arm: [os.fspath(each) for each in group] for arm, group in arms.items()}
    given = {*named, *named.values()}
    further = [each for group in members.values() for each in group if each not in given]
    for name, source in _short_names(further).items():
        if name in named:
            raise UsageError(f"two students are called {name!r} ({named[name]}, {source}): name them NAME=SOURCE")
        named[name] = source
    by_source = {source: name for name, source in named.items()}
    groups = {
        arm: [each if each in named else by_source[each] for each in group] for arm, group in members.items()
    }
    for arm, names in groups.items():
        if not names:
            raise UsageError(f"the arm {arm!r} has no students: give at least one")
        if arm in named:
            raise UsageError(f"an arm and a student are called {arm!r}: give one of them another name")
    every = [name for names in groups.values() for name in names]
    if repeated := sorted({name for name in every if every.count(name) > 1}):
        raise UsageError(f"{', '.join(repeated)} appears in the arms twice: each student is one seed of one arm")
    if not named:
        raise UsageError("there is no student: name at least one")
    return named, groups


def _short_names(sources: Sequence[str]) -> dict[str, str]:
    """The sources by short names: the last part of a path, with as many parts before it as make it unique."""
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
