"""Answers on disk: written as they arrive, and read by the next run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from outspoken.io import atomic

__all__ = ["GREEDY", "AnswerFile", "StudentAnswer"]

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
    """A growing file of JSON lines. An incomplete line, left by a killed process, is dropped and asked for
    again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = {(each.key, each.sample): each for each in _read(path)}
        self._file: IO[bytes] | None = None

    def get(self, key: str, sample: int) -> StudentAnswer | None:
        """The answer, None if there is none yet."""
        return self._known.get((key, sample))

    def add(self, answers: Iterable[StudentAnswer]) -> None:
        """Write the answers to disk; they survive a crash once this returns. Raises `OutputError`."""
        with atomic.output_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _cut_off_half_line(self.path)
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
        entry = json.loads(line)
        return StudentAnswer(**{name: entry[name] for name in StudentAnswer.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None


def _cut_off_half_line(path: Path) -> None:
    """Remove an incomplete line at the end, so that the next line starts a new one."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
