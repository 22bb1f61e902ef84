"""Reading benchmarks: the questions of a file, each with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.batch.source_formats import CutOffError, Unreadable, listed, open_source
from outspoken.batch.sources import SourceReader
from outspoken.errors import UsageError

__all__ = ["COLUMNS", "BenchmarkQuestion", "read"]

COLUMNS = ("question", "problem", "prompt", "text")
"""Where a question stands, where nobody says: GSM8K's column, MATH's, and two common ones."""


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """What a benchmark asks, and where it stands: the name of the `file` and "test.jsonl:12"."""

    text: str
    file: str
    where: str


def read(paths: Sequence[str], column: str = "") -> tuple[BenchmarkQuestion, ...]:
    """The questions of these files, from `column` or the first of `COLUMNS` that a file has.

    The suffix tells the format: .jsonl, .ndjson, .json (an array), .csv, .tsv, .parquet, else a question a line;
    all but Parquet may be followed by .gz. A question is text, or a chat, of which the user's messages count.

    Raises `UsageError` for a file that is not there, has no such column, or holds a row that cannot be read or
    asks nothing: what is not read cannot be looked for.
    """
    paths = list(dict.fromkeys(paths))
    questions: list[BenchmarkQuestion] = []
    for path, name in zip(paths, _names(paths), strict=True):
        found = list(_questions(path, name, column))
        if not found:
            raise UsageError(f"the benchmark {path} holds no rows: leave it out, or name the right file")
        questions += found
    return tuple(questions)


class _Source(SourceReader):
    """Tells the formats what a file is called, and keeps its columns."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(path, None, None)
        self.short = name
        self.columns: list[str] = []

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        self.columns = list(names)


def _questions(path: str, name: str, column: str) -> Iterator[BenchmarkQuestion]:
    if Path(path).is_dir():
        raise UsageError(f"the benchmark {path} is a folder: name the files in it")
    source = _Source(path, name)
    chosen = ""
    with ExitStack() as stack:
        try:
            for position, value in open_source(path, source, stack):
                where = f"{path}{source.between}{position}"
                if type(value) is Unreadable:
                    raise UsageError(f"{where}: {value}; mend that row, or remove it")
                if type(value) is dict:
                    chosen = chosen or _column(path, source.columns or list(value), column)
                    value = value.get(chosen)
                text = _text(value)
                if not text.strip():
                    what = f"no text in the column {chosen!r}" if chosen else "no text"
                    raise UsageError(f"{where}: {what}; mend that row, or remove it")
                yield BenchmarkQuestion(text, name, f"{name}{source.between}{position}")
        except CutOffError as error:
            raise UsageError(f"the benchmark {path} cannot be read to its end: {error}") from error


def _column(path: str, columns: Sequence[str], wanted: str) -> str:
    for name in (wanted,) if wanted else COLUMNS:
        if name in columns:
            return name
    missing = repr(wanted) if wanted else f"{', '.join(map(repr, COLUMNS[:-1]))} or {COLUMNS[-1]!r}"
    raise UsageError(
        f"the benchmark {path} has no column {missing}: the columns are {listed(columns)}; say which one holds "
        'the questions with column = "NAME"'
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return "\n".join(
            entry["content"]
            for entry in value
            if entry.get("role") == "user" and isinstance(entry.get("content"), str)
        )
    return ""


def _names(paths: Sequence[str]) -> list[str]:
    """What each file is called for short: its name, or with as many folders as tell it from the others."""
    parts = [Path(path).parts for path in paths]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names
