"""The questions of an evaluation, read from files, and the students' answers, kept in files as they arrive."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from outspoken.batch.source_formats import Unreadable, listed
from outspoken.checking.answer_extraction import find_final
from outspoken.errors import UsageError
from outspoken.io import atomic
from outspoken.io.dataclass_json import from_json
from outspoken.io.text import json_bytes
from outspoken.training.evaluation_result import EvalFileEntry
from outspoken.training.training_data import digest, read_rows

__all__ = ["GREEDY", "AnswerFile", "EvalQuestion", "QuestionFile", "StudentAnswer", "read_questions"]

_COLUMNS = ("question", "problem", "prompt")


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """A question and the right answer. `key` identifies the question in all files, `where` is its place."""

    key: str
    text: str
    answer: str
    where: str


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The questions to ask from a file, and the file's `entry` in the result."""

    entry: EvalFileEntry
    questions: tuple[EvalQuestion, ...]


def read_questions(paths: list[Path], *, limit: int | None = None, seed: int | None = None) -> list[QuestionFile]:
    """The questions of these files: with `limit` the first ones of each, with a `seed` random ones, in file order.

    A row has a question ({"question"}, {"problem"} or {"prompt"}) and its "answer". If the answer shows its steps,
    as in GSM8K (`... #### 18`), only the final answer counts. Raises `UsageError` for a file in another shape.
    """
    files = []
    for path, name in zip(paths, _names(paths), strict=True):
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file of questions in it")
        questions = _questions(path)
        chosen = questions[:limit]
        if seed is not None and limit is not None and limit < len(questions):
            chosen = [questions[at] for at in sorted(random.Random(seed).sample(range(len(questions)), limit))]
        entry = EvalFileEntry(name, str(path), digest([path]), len(chosen), len(questions))
        files.append(QuestionFile(entry, tuple(chosen)))
    return files


def _questions(path: Path) -> list[EvalQuestion]:
    seen: Counter[str] = Counter()
    questions = []
    for where, value in read_rows(path):
        text, answer = _read_row(where, value)
        seen[text] += 1
        key = hashlib.sha256(f"{seen[text]}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
        questions.append(EvalQuestion(key, text, answer, where))
    if not questions:
        raise UsageError(f"{path} holds no questions: name the right file")
    return questions


def _read_row(where: str, value: object) -> tuple[str, str]:
    if not isinstance(value, dict):
        reason = value if isinstance(value, Unreadable) else "not a JSON object"
        raise UsageError(f"{where}: {reason}; correct that row")
    column = next((name for name in _COLUMNS if name in value), None)
    if column is None or "answer" not in value:
        raise UsageError(
            f"{where} has the columns {listed(value)}: a question needs a column "
            f"{', '.join(map(repr, _COLUMNS[:-1]))} or {_COLUMNS[-1]!r}, and its right answer a column 'answer'; "
            "rename the columns of the file"
        )
    text, answer = value[column], value["answer"]
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = f"{answer:.15g}"
    for name, content in ((column, text), ("answer", answer)):
        if not isinstance(content, str) or not content.strip():
            raise UsageError(f"{where}: {name!r} holds no text; correct that row, or remove it")
    final = find_final(answer)
    if final is not None and final.how in ("####", "boxed"):
        return text, final.text
    return text, answer.strip()


def _names(paths: list[Path]) -> list[str]:
    """The stem of each file, with its folder if two stems are equal."""
    stems = [path.name.split(".")[0] for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.absolute().parent.name}-{stem}"
        for path, stem in zip(paths, stems, strict=True)
    ]
    if len(set(names)) < len(names):
        raise UsageError(f"the same questions are named twice ({', '.join(map(str, paths))}): name each file once")
    return names


GREEDY = -1
"""The sample number of the greedy answer."""


@dataclass(frozen=True, slots=True)
class StudentAnswer:
    """A student's answer to the question `key`. `sample` numbers sampled answers from 0 and is `GREEDY` for the
    greedy one; `finish` is "length" if the answer was cut off."""

    key: str
    sample: int
    text: str
    tokens: int
    finish: str


class AnswerFile:
    """A growing file of JSON lines. An incomplete line, which a killed process left, is asked for again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        self._complete = content.rfind(b"\n") + 1
        answers = map(_answer, content[: self._complete].split(b"\n"))
        self._known = {(each.key, each.sample): each for each in answers if each is not None}
        self._file: IO[bytes] | None = None

    def get(self, key: str, sample: int) -> StudentAnswer | None:
        """The answer, None if there is none yet."""
        return self._known.get((key, sample))

    def add(self, answers: Iterable[StudentAnswer]) -> None:
        """Write the answers to disk; they survive a crash once this returns. Raises `OutputError`."""
        with atomic.output_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", opener=atomic.owner_only)  # noqa: SIM115
                self._file.truncate(self._complete)
            for answer in answers:
                self._known[answer.key, answer.sample] = answer
                self._file.write(json_bytes(asdict(answer)) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _answer(line: bytes) -> StudentAnswer | None:
    try:
        return from_json(StudentAnswer, json.loads(line))
    except ValueError:
        return None
