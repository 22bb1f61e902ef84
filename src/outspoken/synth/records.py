"""Records in Parquet files: read in batches, written completely or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from outspoken._imports import need
from outspoken.errors import OutputError, UnknownNameError, UsageError
from outspoken.io.atomic import output_errors, put_in_place, reason_of, temporary_name

pa = need("pyarrow", "synthetic data", "synth")
pq = need("pyarrow.parquet", "synthetic data", "synth")

__all__ = ["Record", "RecordWriter", "batches", "count", "rows_in", "table_of", "with_columns"]

Record = dict[str, object]
"""One record: its columns by name."""

_BATCH_ROWS = 8192


def batches(path: Path, columns: Sequence[str] | None = None, rows: int = _BATCH_ROWS) -> Iterator[Any]:
    """The records of a Parquet file in order, as Arrow tables of at most `rows`; at least one, perhaps empty.

    Raises `UsageError` if the file is not Parquet or lacks one of the `columns`.
    """
    try:
        with pq.ParquetFile(path) as file:
            for name in columns or ():
                if name not in file.schema_arrow.names:
                    raise UnknownNameError(f"column in {path.name}:", name, file.schema_arrow.names)
            selected = None if columns is None else list(columns)
            if not file.metadata.num_rows:
                empty = file.schema_arrow.empty_table()
                yield empty if selected is None else empty.select(selected)
            for batch in file.iter_batches(batch_size=rows, columns=selected):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def rows_in(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """The records of a Parquet file one by one."""
    for table in batches(path, columns):
        yield from table.to_pylist()


def count(path: Path) -> int:
    """The number of records in a Parquet file. Raises `UsageError` if the file cannot be read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def table_of(rows: Iterable[Mapping[str, object]], schema: Any) -> Any:
    """Rows as an Arrow table of this schema; missing values are null."""
    rows = list(rows)
    return pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)


def with_columns(table: Any, columns: Mapping[str, Any]) -> Any:
    """The table with further columns (Arrow arrays); an existing column is replaced."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    return table


class RecordWriter:
    """Writes tables into one Parquet file, which appears only when the block ends without an error.

    If no table is written, a file appears only if a `schema` was given. Raises `OutputError` if it cannot write.
    """

    def __init__(self, path: Path, schema: Any = None) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._file: Any = None
        self._writer: Any = None

    def write(self, table: Any) -> None:
        self._open(table.schema)
        with output_errors(self.path):
            self._writer.write_table(table.select(self._schema.names).cast(self._schema))
        self.rows += table.num_rows

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._schema is not None:
            self._open(self._schema)
            with output_errors(self.path):
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
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = temporary_name(self.path).open("wb")
            try:
                self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
            except pa.ArrowException as error:
                raise OutputError(
                    f"{self.path} cannot be written: Parquet has no such column ({error})"
                ) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    """The error for a damaged file, naming the step that writes it."""
    is_part = path.name.startswith(("round-", "answers", "negatives", "chosen"))
    name = path.parent.name if is_part else path.name
    step = name.partition(".")[0].partition("-")[2] or "generate"
    return UsageError(f"{path} cannot be read as Parquet ({reason_of(error)}): make it again with --from {step}")
