"""The file of prompts that failed, beside the output."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from outspoken.io.atomic import output_errors, owner_only, put_in_place, temporary_name
from outspoken.io.dataclass_json import from_json, to_json

__all__ = ["FailureFile", "FailureRecord"]

_FIRST = 5


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A prompt without responses, or a bad row (then `id` is ""): its place in the input, the cause, the message.

    `transient` says that the provider failed in a way that may pass: the same request may succeed another time.
    """

    id: str
    where: str
    cause: str
    message: str
    transient: bool = field(default=False, metadata={"key": "passing"})

    @classmethod
    def from_json(cls, line: str) -> FailureRecord:
        """A failure from a line of the file."""
        return from_json(cls, json.loads(line))


class FailureFile:
    """`<output>.failures.jsonl`: `add` failures, then `finish`; without failures there is no file.

    The file may quote prompts and replies: only its owner can read it.

    `first` are the first five, `transient` is the number of failures that may succeed another time.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".failures.jsonl")
        self.first: list[FailureRecord] = []
        self.transient = 0
        self._temporary = temporary_name(self.path)
        self._file: IO[str] | None = None

    def add(self, failure: FailureRecord) -> None:
        """Write a failure. Raises `OutputError`."""
        self.transient += failure.transient
        if len(self.first) < _FIRST:
            self.first.append(failure)
        with output_errors(self.path):
            if self._file is None:
                self._file = open(  # noqa: SIM115
                    self._temporary, "w", encoding="utf-8", errors="backslashreplace", opener=owner_only
                )
            self._file.write(json.dumps(to_json(failure), ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Replace the file of an earlier run. Raises `OutputError`."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        with output_errors(self.path):
            put_in_place(self._file, self.path)
        self._file = None

    def __enter__(self) -> FailureFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
