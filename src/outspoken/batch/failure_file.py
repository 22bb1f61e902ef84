"""The prompts that lack responses, one JSON object a line, beside the output."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import IO, Any

from outspoken.io.atomic import put_in_place, temporary_name, writing

__all__ = ["FailureFile"]

_SHOWN = 5


class FailureFile:
    """`<output>.failures.jsonl`, put in its place by `finish`; where nothing has failed there is none.

    `first` are the first few, for people; `passing` counts those that may go well another time.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".failures.jsonl")
        self.first: list[dict[str, Any]] = []
        self.passing = 0
        self._temporary = temporary_name(self.path)
        self._file: IO[str] | None = None

    def add(self, id: str, where: str, cause: str, message: str, passing: bool = False) -> None:  # noqa: A002
        """`passing` says that the provider failed, and the same request may go well another time.

        Raises `OutputError` where it cannot be written.
        """
        line = {"id": id, "where": where, "cause": cause, "message": message, "passing": passing}
        self.passing += passing
        if len(self.first) < _SHOWN:
            self.first.append(line)
        with writing(self.path):
            if self._file is None:
                self._file = self._temporary.open("w", encoding="utf-8", errors="backslashreplace")
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Put the file of this run in the place of an earlier one's. Raises `OutputError`."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        with writing(self.path):
            put_in_place(self._file, self.path)
        self._file = None

    def told(self) -> dict[str, Any]:
        """For a summary: where the file is (None: nowhere), and the first few failures."""
        return {
            "failures_file": str(self.path) if self.path.is_file() else None,
            "first_failures": self.first,
            "passing_failures": self.passing,
        }

    def __enter__(self) -> FailureFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
