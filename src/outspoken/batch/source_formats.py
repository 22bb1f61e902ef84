"""The formats of files with prompts, read one record at a time.

An unreadable record becomes an `Unreadable`. `CutOffError` is raised if no further record can be read.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from jiter import from_json

from outspoken._imports import need
from outspoken.chat import Message
from outspoken.errors import UsageError
from outspoken.io.atomic import reason_of

__all__ = [
    "LONE",
    "ColumnSource",
    "CutOffError",
    "Records",
    "Unreadable",
    "has_lone_surrogate",
    "listed",
    "open_source",
    "why_not_json",
]

LONE = "lone surrogate: half of a character, which UTF-8 cannot encode"
_MAX_JSON_ARRAY = 64 * 2**20
_MAX_CSV_FIELD = 16 * 2**20
_BATCH = 256


class CutOffError(Exception):
    """Nothing can be read from here on; the message says why."""


class Unreadable(str):
    """The reason why a row cannot be read, instead of its value."""

    __slots__ = ()


Records = Iterator[tuple[int, Any]]
"""1-based positions (lines or rows), each with the value of its row: a dict, a str or an `Unreadable`."""

_Lines = Iterator[tuple[int, bytes]]
_File = IO[bytes] | gzip.GzipFile


class ColumnSource:
    """A source of records, and the names of its `columns`; the path "-" is standard input.

    Errors name a record by `name`, `between` and its position. With `one_object`, a JSON file may hold one
    object instead of an array.
    """

    one_object = False

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.between = ":"
        self.columns: list[str] = []

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        """Receives the names of the columns; `open_ended` if later rows may have others."""
        self.columns = list(names)

    def where(self, position: int) -> str:
        """The name of a record in messages."""
        return f"{self.name}{self.between}{position}"


def open_source(path: str | Path, source: ColumnSource, stack: ExitStack) -> Records:
    """The records of a file, whose suffix determines the format, or of standard input ("-").

    Opened files are closed with `stack`. Raises `UsageError` for a file that is missing or unreadable.
    """
    if str(path) == "-":
        lines = _lines(sys.stdin.buffer, source.name)
        head = next(((at, line) for at, line in lines if line.strip()), (1, b""))
        parse = _json_lines if head[1].lstrip().startswith(b"{") else _plain_lines
        return parse(chain([head], lines), source)
    path = Path(path)
    name = path.name.lower()
    packed, suffix = name.endswith(".gz"), Path(name.removesuffix(".gz")).suffix
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a file in it")
    if suffix == ".parquet" and not packed:
        return _parquet(path, source, stack)
    try:
        raw = stack.enter_context(path.open("rb"))
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from error
    file: _File = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
    if suffix == ".json":
        return _json_array(file, source)
    return _BY_LINES.get(suffix, _plain_lines)(_lines(file, source.name), source)


def _lines(file: _File, name: str) -> _Lines:
    """The lines with their numbers from 1, without a byte-order mark; only "\\n" ends a line."""
    with _cut_off_at(OSError, EOFError, zlib.error):
        for number, line in enumerate(file, 1):
            yield number, _checked_start(line, name) if number == 1 else line


@contextmanager
def _cut_off_at(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors in the block into a `CutOffError`."""
    try:
        yield
    except errors as error:
        raise CutOffError(reason_of(error)) from error


def _checked_start(data: bytes, name: str) -> bytes:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{name} is UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in data:
        raise UsageError(f"{name} contains NUL bytes and is not UTF-8 text: convert it to UTF-8 JSON lines")
    return data.removeprefix(b"\xef\xbb\xbf")


def _json_lines(lines: Iterable[tuple[int, bytes]], source: ColumnSource) -> Records:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = from_json(line.rstrip())
        except ValueError as error:
            # The parser counts lines, and sees only this one.
            value = Unreadable(why_not_json(line, error).replace(" at line 1 column ", " at column "))
        yield number, value


def _plain_lines(lines: Iterable[tuple[int, bytes]], source: ColumnSource) -> Records:
    for number, line in lines:
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            yield number, Unreadable("not UTF-8")
        else:
            if text and not text.isspace():
                yield number, text


def _json_array(file: _File, source: ColumnSource) -> Records:
    source.between = ": row "
    name = source.name
    with _cut_off_at(OSError, EOFError, zlib.error):
        data = _checked_start(file.read(_MAX_JSON_ARRAY + 1), name)
    if len(data) > _MAX_JSON_ARRAY:
        raise UsageError(
            f"{name} is one JSON array of more than {_MAX_JSON_ARRAY // 2**20} MiB, which cannot be streamed: "
            "make it JSON lines (jq -c '.[]' prompts.json > prompts.jsonl)"
        )
    try:
        values = from_json(data)
    except ValueError as error:
        # A lone surrogate in one entry does not invalidate the others.
        reason = why_not_json(data, error)
        if reason != LONE:
            raise UsageError(f"{name} is {reason}; one object per line belongs in a .jsonl file") from error
        values = json.loads(data)
    if source.one_object and isinstance(values, dict):
        values = [values]
    if not isinstance(values, list):
        raise UsageError(f"{name} must contain a JSON array of objects or strings, not a single value")
    for position, value in enumerate(values, 1):
        yield position, Unreadable(LONE) if has_lone_surrogate(value) else value


def _csv(lines: _Lines, source: ColumnSource, delimiter: str = ",") -> Records:
    # The csv module has one limit for the whole process, and 128 KiB are too few for a long prompt.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CSV_FIELD))
    undecodable: list[int] = []
    table = csv.reader(_decoded(lines, undecodable), delimiter=delimiter, strict=True)
    try:
        header = next((cells for cells in table if cells), None)
    except csv.Error as error:
        raise UsageError(f"{source.name} is not CSV: {error}") from error
    if header is None:
        return
    if undecodable:
        raise UsageError(f"the header of {source.name} is not UTF-8: convert the file to UTF-8")
    _refuse_repeated(header, source)
    source.settle(header, open_ended=False)
    while True:
        position = table.line_num + 1
        value: Any
        try:
            cells = next(table, None)
        except csv.Error as error:
            value = Unreadable(f"not CSV: {error}")
        else:
            if cells is None:
                return
            if not cells:
                continue
            value = dict(zip(header, cells, strict=False))
            if len(cells) != len(header):
                value = Unreadable(f"{len(cells)} cells, and the header has {len(header)}")
        if undecodable:
            undecodable.clear()
            value = Unreadable("not UTF-8")
        yield position, value


def _decoded(lines: _Lines, undecodable: list[int]) -> Iterator[str]:
    for number, line in lines:
        try:
            yield line.decode()
        except UnicodeDecodeError:
            undecodable.append(number)
            yield line.decode(errors="replace")


def _parquet(path: Path, source: ColumnSource, stack: ExitStack) -> Records:
    source.between = ": row "
    arrow = need("pyarrow", "reading Parquet", "tables")
    parquet = need("pyarrow.parquet", "reading Parquet", "tables")
    try:
        file = stack.enter_context(parquet.ParquetFile(path))
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}") from error
    except (OSError, arrow.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    _refuse_repeated(file.schema_arrow.names, source)
    source.settle(file.schema_arrow.names, open_ended=False)
    with _cut_off_at(OSError, arrow.ArrowException):
        batches = (_in_microseconds(batch, arrow) for batch in file.iter_batches(batch_size=_BATCH))
        yield from enumerate((value for batch in batches for value in _values(batch)), 1)


def _values(batch: Any) -> Iterator[Any]:
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for at in range(batch.num_rows):
            try:
                value = batch.slice(at, 1).to_pylist()[0]
            except UnicodeDecodeError:
                value = Unreadable("not UTF-8")
            except (ValueError, OverflowError) as error:
                value = Unreadable(f"a value that Python cannot represent: {error}")
            yield value


def _in_microseconds(batch: Any, arrow: Any) -> Any:
    """The batch with times in microseconds: pandas writes nanoseconds, which Python's types cannot represent."""
    for at, field in enumerate(batch.schema):
        if arrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = arrow.timestamp("us", field.type.tz)
        elif arrow.types.is_duration(field.type) and field.type.unit == "ns":
            kind = arrow.duration("us")
        elif arrow.types.is_time64(field.type) and field.type.unit == "ns":
            kind = arrow.time64("us")
        else:
            continue
        batch = batch.set_column(at, field.name, batch.column(at).cast(kind, safe=False))
    return batch


_BY_LINES: dict[str, Callable[[Any, ColumnSource], Records]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
}


def _refuse_repeated(names: list[str], source: ColumnSource) -> None:
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(f"{source.name} has several columns named {listed(repeated)}: rename them")


def why_not_json(data: bytes, error: ValueError) -> str:
    """Why `data` is not JSON, if the parser raised `error`."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    reason = "not JSON: " + re.sub(r"\bline 1 column\b", "column", str(error))
    try:
        return LONE if has_lone_surrogate(json.loads(data)) else reason
    except (ValueError, RecursionError):
        return reason


def has_lone_surrogate(value: Any) -> bool:
    """Whether a text in the value has half of a surrogate pair, which UTF-8 cannot encode."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, Message):
        return has_lone_surrogate(value.content)
    if isinstance(value, Mapping):
        return any(has_lone_surrogate(name) or has_lone_surrogate(entry) for name, entry in value.items())
    return isinstance(value, (list, tuple)) and any(map(has_lone_surrogate, value))


def listed(names: Iterable[str]) -> str:
    """The names for an error message, at most 20 of them."""
    names = list(names)
    shown = ", ".join(names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"
