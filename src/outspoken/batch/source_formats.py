"""The formats of files with prompts, read one record at a time.

An unreadable record becomes an `Unreadable`. `CutOffError` is raised if no further record can be read.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from jiter import from_json

from outspoken._imports import need
from outspoken.batch.source_csv import read_table
from outspoken.batch.source_text import (
    NUL,
    BinaryFile,
    Lines,
    check_text,
    cut_off_at,
    lines_of,
    not_utf8,
    undecodable,
)
from outspoken.chat import Message
from outspoken.errors import UsageError
from outspoken.io.atomic import reason_of
from outspoken.io.text import decoded

__all__ = [
    "LONE",
    "ColumnSource",
    "Records",
    "Unreadable",
    "has_lone_surrogate",
    "listed",
    "open_source",
    "why_not_json",
]

LONE = "lone surrogate: half of a character, which UTF-8 cannot encode"
_MAX_JSON_ARRAY = 64 * 2**20
_BATCH = 256


class Unreadable(str):
    """The reason why a row cannot be read, instead of its value."""

    __slots__ = ()


Records = Iterator[tuple[int, Any]]
"""1-based positions (lines or rows), each with the value of its row: a dict, a str or an `Unreadable`."""


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
        lines = lines_of(cast(BinaryFile, sys.stdin.buffer), source.name)
        head = next(((at, line) for at, line in lines if line.strip()), (1, ""))
        parse = _json_lines if re.match(r"\s*(\{|\[\s*(\{|$))", head[1]) else _plain_lines
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
    file: BinaryFile = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
    if suffix == ".json":
        return _json_array(file, source)
    return _BY_LINES.get(suffix, _plain_lines)(lines_of(file, source.name), source)


def _json_lines(lines: Lines, source: ColumnSource) -> Records:
    filled = ((number, line.strip()) for number, line in lines if not line.isspace())
    head = list(islice(filled, 1))
    for number, line in head:
        value, error = _value_in(line)
        if error.startswith("EOF while parsing") and "string" not in error:
            # The line ends between two tokens: the value goes on in the next one.
            yield from _over_lines(number, f"{line}\n", lines, source)
            return
        if line[0] == "[" and not _is_chat(value):
            head += islice(filled, 1)
            if len(head) == 1:
                yield from _array(line.encode("utf-8", "surrogateescape"), source)
                return
    for number, line in chain(head, filled):
        value, _ = _value_in(line)
        if isinstance(value, list) and not _is_chat(value):
            value = Unreadable("a JSON array: a line holds one object or one text")
        yield number, value


def _value_in(line: str) -> tuple[Any, str]:
    """The value of a line of JSON, and the parser's message if it cannot be read."""
    data = line.encode("utf-8", "surrogateescape")
    try:
        return from_json(data), ""
    except ValueError as error:
        # The parser counts lines, and sees only this one.
        return Unreadable(why_not_json(data, error).replace(" at line 1 column ", " at column ")), str(error)


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) and "role" in each for each in value)


def _over_lines(number: int, first: str, lines: Lines, source: ColumnSource) -> Records:
    """The values of a file that begins with one over several lines: an array, or objects one after the other."""
    text = first
    for _, line in lines:
        text += line
        if len(text) > _MAX_JSON_ARRAY:
            raise UsageError(
                f"{source.name} has JSON over several lines and more than {_MAX_JSON_ARRAY // 2**20} MiB: "
                "write each object on one line (jq -c . FILE)"
            )
    if text.lstrip().startswith("["):
        yield from _array(text.strip().encode("utf-8", "surrogateescape"), source)
        return
    decoder, at = json.JSONDecoder(), len(text) - len(text.lstrip())
    while at < len(text):
        position = number + text.count("\n", 0, at)
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"the JSON that line {position} of {source.name} opens cannot be read ({error}): write each "
                "object on one line (jq -c . FILE)"
            ) from error
        yield position, Unreadable(LONE) if has_lone_surrogate(value) else value
        at += len(text[at:]) - len(text[at:].lstrip())


def _plain_lines(lines: Lines, source: ColumnSource) -> Records:
    for number, line in lines:
        text = line.rstrip("\r\n")
        if undecodable(text):
            yield number, Unreadable(not_utf8(text))
        elif "\0" in text:
            yield number, Unreadable(NUL)
        elif text and not text.isspace():
            yield number, text


def _json_array(file: BinaryFile, source: ColumnSource) -> Records:
    name = source.name
    with cut_off_at(OSError, EOFError, zlib.error):
        data = file.read(_MAX_JSON_ARRAY + 1)
    if len(data) > _MAX_JSON_ARRAY:
        raise UsageError(
            f"{name} is one JSON array of more than {_MAX_JSON_ARRAY // 2**20} MiB, which cannot be streamed: "
            "make it JSON lines (jq -c '.[]' prompts.json > prompts.jsonl)"
        )
    check_text(data, name)
    yield from _array(decoded(data, name).encode(), source)


def _array(data: bytes, source: ColumnSource) -> Records:
    """The entries of a JSON array."""
    source.between = ": row "
    name = source.name
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


def _csv(lines: Lines, source: ColumnSource, separator: str = ",") -> Records:
    table = read_table(lines, source.name, separator)
    if table is None:
        return
    _refuse_repeated(table.names, source)
    source.settle(table.names, open_ended=False)
    for row in table.rows:
        yield row.line, Unreadable(row.problem) if row.problem else dict(zip(table.names, row.cells, strict=True))


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
    with cut_off_at(OSError, arrow.ArrowException):
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
    ".tsv": partial(_csv, separator="\t"),
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
