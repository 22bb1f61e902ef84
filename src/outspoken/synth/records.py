"""Records in Parquet files: read in batches, written whole or not at all, and the texts that are made of them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from outspoken._extras import need
from outspoken.errors import OutputError, UnknownNameError, UsageError
from outspoken.io.atomic import put_in_place, temporary_name, why, writing

pa = need("pyarrow", "synthetic data", "synth")
pq = need("pyarrow.parquet", "synthetic data", "synth")

__all__ = [
    "RecordWriter",
    "batches",
    "check_room",
    "count",
    "fields_of",
    "fill",
    "names_in",
    "rows_in",
    "table_of",
    "with_columns",
]

_NAME = r"[^\W\d]\w*"
_FIELD = re.compile(
    rf"\{{\{{\{{(?P<braced>{_NAME})\}}\}}\}}|\{{\{{(?P<kept>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}"
)
_BATCH_ROWS = 8192


def batches(path: Path, columns: Sequence[str] | None = None, rows: int = _BATCH_ROWS) -> Iterator[Any]:
    """The records of a Parquet file as tables of at most `rows`, in their order; at least one, perhaps empty.

    Raises `UsageError` where the file is no Parquet file or lacks one of the `columns`.
    """
    try:
        with pq.ParquetFile(path) as file:
            for name in columns or ():
                if name not in file.schema_arrow.names:
                    raise UnknownNameError(f"column in {path.name}:", name, file.schema_arrow.names)
            named = None if columns is None else list(columns)
            if not file.metadata.num_rows:
                empty = file.schema_arrow.empty_table()
                yield empty if named is None else empty.select(named)
            for batch in file.iter_batches(batch_size=rows, columns=named):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{path} cannot be read as Parquet ({why(error)}): make it anew with --from {_step(path)}"
        ) from error


def rows_in(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The records of a Parquet file one by one."""
    for table in batches(path, columns):
        yield from table.to_pylist()


def count(path: Path) -> int:
    """How many records a Parquet file holds."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{path} cannot be read as Parquet ({why(error)}): make it anew with --from {_step(path)}"
        ) from error


def table_of(rows: Iterable[Mapping[str, Any]], schema: Any) -> Any:
    """Rows as a table of this schema; what they lack is null."""
    rows = list(rows)
    return pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)


def with_columns(table: Any, columns: Mapping[str, Any]) -> Any:
    """The table with further columns (arrays of Arrow's); one that is there already is replaced."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    return table


class RecordWriter:
    """Writes tables into one Parquet file, which is there when the block ends without an error, and not before.

    Without any table there is a file only where a `schema` was given. Raises `OutputError` where it cannot write.
    """

    def __init__(self, path: Path, schema: Any = None) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._file: Any = None
        self._writer: Any = None

    def write(self, table: Any) -> None:
        self._open(table.schema)
        with writing(self.path):
            self._writer.write_table(table.select(self._schema.names).cast(self._schema))
        self.rows += table.num_rows

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._schema is not None:
            self._open(self._schema)
            with writing(self.path):
                self._writer.close()
                put_in_place(self._file, self.path)
            return
        if self._file is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                if self._writer is not None:
                    self._writer.close()
            self._file.close()
            with contextlib.suppress(OSError):
                temporary_name(self.path).unlink()

    def _open(self, schema: Any) -> None:
        if self._writer is not None:
            return
        self._schema = (self._schema or schema).remove_metadata()
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = temporary_name(self.path).open("wb")
            try:
                self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
            except pa.ArrowException as error:
                raise OutputError(
                    f"{self.path} cannot be written: Parquet has no such column ({error})"
                ) from error


def _step(path: Path) -> str:
    """The step that made a file."""
    name = path.parent.name if path.name.startswith(("round-", "answers", "negatives", "chosen")) else path.name
    return name.partition(".")[0].partition("-")[2] or "generate"


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says by name: its columns, and the fields of its `value` where that is a JSON object."""
    value = row.get("value")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    return {**(value if isinstance(value, dict) else {}), **{k: v for k, v in row.items() if k != "value"}}


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """The template with `{name}` replaced by that field; `{{name}}` is `{name}` itself, as in Python's formats,
    and `{{{name}}}` the field in braces. Other braces stay as they are.

    Raises `UnknownNameError` for a name that is no field.
    """

    def put(match: re.Match[str]) -> str:
        if match["kept"]:
            return f"{{{match['kept']}}}"
        name = match["name"] or match["braced"]
        if name not in fields:
            raise UnknownNameError("field in a template", name, fields, see=f"write {{{{{name}}}}} for braces")
        value = fields[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return f"{{{text}}}" if match["braced"] else text

    return _FIELD.sub(put, template)


def names_in(template: str) -> set[str]:
    """The names of the fields that a template asks for."""
    found = (match["name"] or match["braced"] for match in _FIELD.finditer(template))
    return {name for name in found if name}


def check_room(folder: Path, wanted: int) -> None:
    """Raise `OutputError` where the disk of `folder` has not `wanted` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OutputError(
            f"the disk of {folder} has {free / 2**20:,.0f} MiB left, and about {wanted / 2**20:,.0f} are needed: "
            "make room, then run the same command again; what is done is kept"
        )
