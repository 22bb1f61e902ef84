"""Answers on disk: written as they come, and found there by the next run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from outspoken.io import atomic

__all__ = ["GREEDY", "AnswerFile", "StudentAnswer"]

GREEDY = -1
"""The number of the answer that was not sampled."""


@dataclass(frozen=True, slots=True)
class StudentAnswer:
    """What a student answered to the question `key`. `sample` numbers its sampled answers from 0, and is `GREEDY`
    for the other; `finish` is "length" where it was cut off."""

    key: str
    sample: int
    text: str
    tokens: int
    finish: str


class AnswerFile:
    """A file of JSON lines that grows. A line that a killed process left half is dropped, and asked for again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = {(each.key, each.sample): each for each in _read(path)}
        self._file: IO[bytes] | None = None

    def get(self, key: str, sample: int) -> StudentAnswer | None:
        return self._known.get((key, sample))

    def add(self, answers: Iterable[StudentAnswer]) -> None:
        """Keep these, safe from a killed process once this returns. Raises `OutputError`."""
        with atomic.output_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _mend(self.path)
                self._file = self.path.open("ab")
            for answer in answers:
                self._known[answer.key, answer.sample] = answer
                line = json.dumps(asdict(answer), ensure_ascii=False)
                self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(path: Path) -> Iterator[StudentAnswer]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            return
        for line in file:
            if line.endswith(b"\n") and (answer := _answer(line)) is not None:
                yield answer


def _answer(line: bytes) -> StudentAnswer | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        return StudentAnswer(**{name: entry[name] for name in StudentAnswer.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None


def _mend(path: Path) -> None:
    """Cut off the half line at the end, so that the next one does not join it."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
