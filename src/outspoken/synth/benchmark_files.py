"""Reading benchmarks: the questions of a file, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from outspoken.batch.source_formats import CutOffError, Unreadable, listed, open_source
from outspoken.errors import UsageError

__all__ = ["COLUMNS", "BenchmarkQuestion", "read"]

COLUMNS = ("question", "problem", "prompt", "text")
"""The default columns of questions: GSM8K's, MATH's, and two common ones."""


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """A question of a benchmark, the short name of its `file`, and its place, such as "test.jsonl:12"."""

    text: str
    file: str
    where: str


def read(paths: Sequence[str], column: str = "") -> tuple[BenchmarkQuestion, ...]:
    """The questions of these files, from `column` or the first of `COLUMNS` that a file has.

    The suffix tells the format: .jsonl, .ndjson, .json (an array), .csv, .tsv, .parquet, else a question a line;
    all but Parquet may be followed by .gz. A question is text, or a chat, of which the user's messages count.

    Raises `UsageError` for a file that is missing, lacks such a column, or holds a row that is unreadable or
    empty: a question that is not read cannot be searched for.
    """
    paths = list(dict.fromkeys(paths))
    questions: list[BenchmarkQuestion] = []
    for path, name in zip(paths, _short_names(paths), strict=True):
        before = len(questions)
        questions += _questions(path, name, column)
        if len(questions) == before:
            raise UsageError(f"the benchmark {path} holds no rows: leave it out, or name the right file")
    return tuple(questions)


class _BenchmarkSource:
    """A `RecordSource` that remembers the names of its columns."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.between = ":"
        self.columns: list[str] = []

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        self.columns = list(names)


def _questions(path: str, name: str, column: str) -> Iterator[BenchmarkQuestion]:
    if Path(path).is_dir():
        raise UsageError(f"the benchmark {path} is a folder: name the files in it")
    source = _BenchmarkSource(path)
    chosen = ""
    with ExitStack() as stack:
        try:
            for position, value in open_source(path, source, stack):
                where = f"{path}{source.between}{position}"
                if type(value) is Unreadable:
                    raise UsageError(f"{where}: {value}; correct that row, or remove it")
                if type(value) is dict:
                    chosen = chosen or _column(path, source.columns or list(value), column)
                    value = value.get(chosen)
                text = _text(value)
                if not text.strip():
                    problem = f"no text in the column {chosen!r}" if chosen else "no text"
                    raise UsageError(f"{where}: {problem}; correct that row, or remove it")
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


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        contents = [message.get("content") for message in value if message.get("role") == "user"]
        return "\n".join(content for content in contents if isinstance(content, str))
    return ""


def _short_names(paths: Sequence[str]) -> list[str]:
    """For each file its name, preceded by as many folders as distinguish it from the others."""
    all_parts = [Path(path).parts for path in paths]
    names = []
    for parts in all_parts:
        length = 1
        while length < len(parts) and sum(other[-length:] == parts[-length:] for other in all_parts) > 1:
            length += 1
        names.append("/".join(parts[-length:]))
    return names
