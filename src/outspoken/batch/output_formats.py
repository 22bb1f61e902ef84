"""The columns of responses as JSON lines, CSV and Parquet: writing a part, and merging parts."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice, repeat
from json.encoder import encode_basestring
from pathlib import Path
from types import NoneType
from typing import Any

from jiter import from_json

from outspoken._imports import need
from outspoken.errors import OutputError
from outspoken.io.atomic import reason_of, write_file
from outspoken.io.dataclass_json import finite

__all__ = [
    "COLUMNS",
    "arrow_array",
    "join_lines",
    "join_table",
    "json_lines",
    "merge_parquet",
    "rename_carried",
    "unify_schemas",
    "write_parquet",
]

Columns = Mapping[str, list[Any]]
"""Values by column; all lists have the same length."""

COLUMNS = {
    "prompt_id": "string",
    "prompt": "string",
    "text": "string",
    "stated": "double",
    "probability": "double",
    "method": "string",
    "template": "string",
    "model": "string",
    "k": "int64",
    "tau": "double",
    "words": "int64",
    "temperature": "double",
    "top_p": "double",
    "settings": "string",
    "rank": "int64",
    "call": "int64",
    "request_key": "string",
    "repairs": "list<string>",
    "value": "string",
}
"""The columns of every output, with their types in Arrow."""

_JSON_TEXT = {b"outspoken": b"json"}
_MAX_FIELDS = 256
_BLOCK = 256
_GROUP_ROWS = 20_000
_GROUP_BYTES = 16 * 2**20


def rename_carried(carried: Columns) -> dict[str, list[Any]]:
    """The columns of the input, with the prefix `input_` if their name is one of `COLUMNS`."""
    renamed: dict[str, list[Any]] = {}
    for name, values in carried.items():
        free = name
        while free in COLUMNS or (free != name and free in carried):
            free = "input_" + free
        renamed[free] = values
    return renamed


def json_lines(columns: Columns) -> Iterator[bytes]:
    """One line of JSON per row, joined column by column, which is several times as fast as a dict per row."""
    pieces: list[Iterable[str]] = []
    for name, values in columns.items():
        pieces += [repeat(f"{', ' if pieces else '{'}{_json(name)}: "), _json_column(values)]
    lines = zip(*pieces, repeat("}\n"), strict=False)
    while block := list(islice(lines, _BLOCK)):
        yield "".join(chain.from_iterable(block)).encode()


def _json_column(values: list[Any]) -> list[str]:
    kinds = set(map(type, values))
    if kinds <= {str, NoneType}:
        return ["null" if value is None else encode_basestring(value) for value in values]
    if kinds == {int}:
        return list(map(repr, values))
    if kinds <= {float, NoneType}:
        return ["null" if value is None or value - value else repr(value) for value in values]
    if kinds == {list}:
        return [_json(value) if value else "[]" for value in values]
    return list(map(_json, values))


def _json(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(finite(value))


def _as_json(value: Any) -> str:
    """Values of Parquet files that JSON has no type for."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_as_json)


def join_lines(paths: list[Path], file: Any) -> None:
    """Write the parts as one file of JSON lines."""
    for path in paths:
        with path.open("rb") as part:
            shutil.copyfileobj(part, file, 2**20)


def join_table(paths: list[Path], file: Any, *, separator: str) -> None:
    """Write parts of JSON lines as one table of separated values in UTF-8, in the form of RFC 4180.

    It has the columns of all parts. Nothing is an empty cell; lists and objects are JSON.
    """
    names: dict[str, None] = {}
    for path in paths:
        with path.open("rb") as part:
            # All rows of a part have the same columns.
            names |= dict.fromkeys(from_json(part.readline() or b"{}"))
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    table = csv.writer(text, delimiter=separator, lineterminator="\r\n")
    table.writerow(names or COLUMNS)
    for path in paths:
        with path.open("rb") as part:
            for line in part:
                row = from_json(line)
                table.writerow([_cell(row.get(name)) for name in names])
    text.detach()


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, (bool, list, dict)) else value


def _arrow() -> tuple[Any, Any]:
    purpose = "writing Parquet"
    return need("pyarrow", purpose, "tables"), need("pyarrow.parquet", purpose, "tables")


def _schema(arrow: Any) -> Any:
    kinds = {
        "string": arrow.string(),
        "double": arrow.float64(),
        "int64": arrow.int64(),
        "list<string>": arrow.list_(arrow.string()),
    }
    return arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def write_parquet(columns: Columns, file: Any) -> None:
    """Write the columns as a Parquet file; values without a common type become JSON text."""
    _arrow()[1].write_table(_table(columns), file, compression="zstd")


def _table(columns: Columns) -> Any:
    arrow, _ = _arrow()
    schema = _schema(arrow)
    arrays = []
    for name, values in columns.items():
        if name in COLUMNS:
            arrays.append(arrow.array(values, schema.field(name).type))
            continue
        array = _inferred(values, arrow)
        metadata = _JSON_TEXT if array is None else None
        arrays.append(_json_text(values, arrow) if array is None else array)
        schema = schema.append(arrow.field(name, arrays[-1].type, metadata=metadata))
    return arrow.Table.from_arrays(arrays, schema=schema)


def arrow_array(values: list[Any]) -> Any:
    """The values as an Arrow array that Parquet can store: JSON text if they have no common type."""
    arrow, _ = _arrow()
    array = _inferred(values, arrow)
    return _json_text(values, arrow) if array is None else array


def _inferred(values: list[Any], arrow: Any) -> Any:
    """The values as an array of one Arrow type, None if they have no common type that Parquet can store."""
    names = {name for value in values if type(value) is dict for name in value}
    if len(names) > _MAX_FIELDS:
        return None
    try:
        array = arrow.array(values)
    except (arrow.ArrowException, OverflowError, TypeError):
        return None
    return array if _storable(array.type, arrow) else None


def _storable(kind: Any, arrow: Any) -> bool:
    """Whether Parquet can store the type: a struct needs fields, and should not have very many."""
    if arrow.types.is_struct(kind):
        return 0 < kind.num_fields <= _MAX_FIELDS and all(
            _storable(kind.field(at).type, arrow) for at in range(kind.num_fields)
        )
    return not arrow.types.is_list(kind) or _storable(kind.value_type, arrow)


def _json_text(values: Iterable[Any], arrow: Any) -> Any:
    return arrow.array([None if value is None else _json(value) for value in values], arrow.string())


def _unified(paths: list[Path], as_text: set[str]) -> Any:
    """The common schema of all parts, with the carried columns in order of appearance; `as_text` are JSON text."""
    arrow, parquet = _arrow()
    fields: dict[str, Any] = {field.name: field for field in _schema(arrow)}
    for path in paths:
        try:
            schema = parquet.read_schema(path)
        except (OSError, arrow.ArrowException) as error:
            raise OutputError(
                f"the part {path} cannot be read ({reason_of(error)}): delete it and give the same command again"
            ) from error
        for field in schema:
            # Reading adds Parquet's own metadata.
            bare = field.with_metadata(_JSON_TEXT if _is_json(field) else None)
            known = fields.setdefault(field.name, bare)
            if not known.equals(bare, check_metadata=True):
                fields[field.name] = _common(known, bare, arrow)
    text = {name: arrow.field(name, arrow.string(), metadata=_JSON_TEXT) for name in as_text}
    return arrow.schema([text.get(name, field) for name, field in fields.items()])


def _common(one: Any, other: Any, arrow: Any) -> Any:
    text = arrow.field(one.name, arrow.string(), metadata=_JSON_TEXT)
    if _is_json(one) or _is_json(other):
        return text
    pair = [arrow.schema([field.remove_metadata()]) for field in (one, other)]
    try:
        field = arrow.unify_schemas(pair, promote_options="permissive").field(0)
    except arrow.ArrowException:
        return text
    return field if _storable(field.type, arrow) else text


def _is_json(field: Any) -> bool:
    return bool(field.metadata) and _JSON_TEXT.items() <= field.metadata.items()


class _ConversionError(Exception):
    """A value cannot be converted to the common type of its column, whose name is the message."""


def _converted(table: Any, schema: Any) -> Any:
    """The table with the columns of the schema. Raises `_ConversionError`."""
    arrow, _ = _arrow()
    arrays = []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(arrow.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if _is_json(field) and not _is_json(table.schema.field(field.name)):
            column = _json_text(column.to_pylist(), arrow)
        elif column.type != field.type:
            try:
                column = column.cast(field.type)
            except (arrow.ArrowException, OverflowError) as error:
                raise _ConversionError(field.name) from error
        arrays.append(column)
    return arrow.Table.from_arrays(arrays, schema=schema)


def merge_parquet(paths: list[Path], file: Any) -> None:
    """Write the parts as one Parquet file, with one row group at a time in memory."""
    as_text: set[str] = set()
    while True:
        try:
            return _merge_as(_unified(paths, as_text), paths, file)
        except _ConversionError as error:
            # For example an integer that no float represents. This is rare enough to start again.
            as_text.add(str(error))
            file.seek(0)
            file.truncate()


def _merge_as(schema: Any, paths: list[Path], file: Any) -> None:
    arrow, parquet = _arrow()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for tables in _grouped(_converted(table, schema) for path in paths for table in _row_groups(path)):
            writer.write_table(arrow.concat_tables(tables), row_group_size=_GROUP_ROWS)


def _row_groups(path: Path) -> Iterator[Any]:
    with _arrow()[1].ParquetFile(path) as part:
        for at in range(part.num_row_groups):
            yield part.read_row_group(at)


def _grouped(tables: Iterable[Any]) -> Iterator[list[Any]]:
    """The tables in lists for one row group each, because a file of many small groups is slow to read."""
    group: list[Any] = []
    rows = size = 0
    for table in tables:
        group.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def unify_schemas(paths: list[Path]) -> None:
    """Give all parts of a folder the same schema; parts with another one are written again."""
    _, parquet = _arrow()
    as_text: set[str] = set()
    while True:
        schema = _unified(paths, as_text)
        try:
            for path in paths:
                if not _same(parquet.read_schema(path), schema):
                    write_file(path, partial(_merge_as, schema, [path]))
            return
        except _ConversionError as error:
            as_text.add(str(error))


def _same(one: Any, other: Any) -> bool:
    """Whether two schemas are equal, including which columns are JSON text."""
    return bool(one.equals(other)) and [_is_json(field) for field in one] == [_is_json(field) for field in other]
