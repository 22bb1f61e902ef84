"""Tables of separated values, in the forms that spreadsheets and databases write."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from outspoken.batch.source_text import NUL, CutOffError, Lines, not_utf8, undecodable
from outspoken.errors import UsageError
from outspoken.io.text import plural

__all__ = ["SeparatedRow", "SeparatedTable", "read_table"]

_SEPARATORS = ",;\t|"
_NAMED = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_MAX_FIELD = 16 * 2**20
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 100, 2**16


@dataclass(frozen=True, slots=True)
class SeparatedRow:
    """The number of the line where a row begins, and its cells, or why it cannot be read."""

    line: int
    cells: list[str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SeparatedTable:
    """The names of the columns, without blanks around them, and the rows below."""

    names: list[str]
    rows: Iterator[SeparatedRow]


def read_table(lines: Lines, name: str, separator: str) -> SeparatedTable | None:
    """The table in these lines; None if they are blank.

    A line `sep=;` before the header names the separator, otherwise it is the one of comma, semicolon, tab and bar
    with which the rows are as long as the header, `separator` in doubt. Empty lines, rows of empty cells and empty
    cells beyond the header do not count. Raises `UsageError`, which calls the file `name`, if the header cannot be
    read or the first lines are in another encoding than UTF-8.
    """
    # The csv module has one limit for the whole process, and 128 KiB are too few for a long prompt.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
    sample, rest = _sample(lines)
    broken = [line for line in sample if undecodable(line)]
    if broken and all(line.isascii() or undecodable(line) for line in sample):
        raise UsageError(f"{name} is {not_utf8(broken[0])}")
    skipped = next((at for at, line in enumerate(sample) if line.strip()), 0)
    named = _NAMED.fullmatch(sample[skipped]) if sample else None
    skipped += named is not None
    del sample[:skipped]
    if named is not None:
        separator = named[1]
    else:
        separator = max(_SEPARATORS, key=lambda each: _rating(each, sample, preferred=each == separator))
    return _Reader(chain(sample, rest), separator, skipped, spaced=_is_spaced(sample, separator)).table(name)


def _sample(lines: Lines) -> tuple[list[str], Iterator[str]]:
    """The first lines, and an iterator over the others, which raises what ended the sample."""
    sample: list[str] = []
    size = 0
    try:
        for _, line in lines:
            sample.append(line)
            size += len(line)
            if len(sample) >= _SAMPLE_LINES or size >= _SAMPLE_CHARACTERS:
                break
    except CutOffError as error:
        return sample, _raising(error)
    return sample, (line for _, line in lines)


def _raising(error: CutOffError) -> Iterator[str]:
    raise error
    yield


def _rating(separator: str, sample: list[str], *, preferred: bool) -> tuple[float, int, bool]:
    """How well a separator fits: the share of rows that are as long as the header, and the header's length."""
    lengths: list[int] = []
    with suppress(csv.Error):
        table = csv.reader(sample, delimiter=separator, strict=True)
        lengths.extend(len(cells) for cells in table if any(map(str.strip, cells)))
    header, *rows = lengths or [0]
    if header < 2:
        return 0.0, 0, preferred
    if len(sample) >= _SAMPLE_LINES and len(rows) > 1:
        rows.pop()  # the sample may end within it
    same = sum(length == header for length in rows) / len(rows) if rows else 1.0
    return 1.0 + same, header, preferred


def _is_spaced(sample: list[str], separator: str) -> bool:
    """Whether blanks follow the separators, as in `id, prompt`."""
    with suppress(csv.Error):
        header = next((cells for cells in csv.reader(sample, delimiter=separator) if cells), [])
        return any(cell.startswith(" ") for cell in header[1:])
    return False


class _Reader:
    """Reads the rows of lines; `skipped` lines came before."""

    def __init__(self, lines: Iterator[str], separator: str, skipped: int, *, spaced: bool) -> None:
        self._lines = lines
        self._separator = separator
        self._skipped = skipped
        self._problem = ""
        self._table = csv.reader(self._watched(), delimiter=separator, strict=True, skipinitialspace=spaced)

    def table(self, name: str) -> SeparatedTable | None:
        try:
            header = next((cells for cells in self._table if any(map(str.strip, cells))), None)
        except csv.Error as error:
            raise UsageError(f"{name} is not CSV: {error}") from error
        if header is None:
            return None
        if self._problem:
            raise UsageError(f"the header of {name} is {self._problem}")
        while not header[-1].strip():
            header.pop()
        names = [cell.strip() or f"column_{at}" for at, cell in enumerate(header, 1)]
        return SeparatedTable(names, self._rows(len(names)))

    def _watched(self) -> Iterator[str]:
        for line in self._lines:
            if "\0" in line:
                self._problem = NUL
            elif undecodable(line):
                self._problem = not_utf8(line)
            yield line

    def _rows(self, width: int) -> Iterator[SeparatedRow]:
        table = self._table
        while True:
            line = self._skipped + table.line_num + 1
            self._problem, cells = "", []
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as error:
                self._problem = f"not CSV: {error}"
                if str(error) == "unexpected end of data":
                    lines = plural(self._skipped + table.line_num - line + 1, "line")
                    self._problem = f"not CSV: a quotation mark is never closed, so {lines} cannot be read"
            if not self._problem:
                while len(cells) > width and not cells[-1].strip():
                    cells.pop()
                if not any(map(str.strip, cells)) and (width > 1 or not cells):
                    continue
                if len(cells) != width:
                    self._problem = f"{plural(len(cells), 'cell')}, and the header has {width}"
                    if len(cells) > width:
                        self._problem += f": a cell with {self._separator!r} in it needs quotation marks"
            yield SeparatedRow(line, cells, self._problem)
