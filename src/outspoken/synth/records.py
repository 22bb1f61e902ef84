"""Records in Parquet files, their fields, and templates for these."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

from outspoken._imports import need
from outspoken.batch.sources import BadRow, read
from outspoken.errors import OutputError, UnknownNameError, UsageError
from outspoken.io.atomic import output_errors, owner_only, put_in_place, reason_of, temporary_name
from outspoken.io.text import plural

__all__ = [
    "PendingFile",
    "Record",
    "RecordWriter",
    "batches",
    "count",
    "fields_of",
    "fill",
    "import_records",
    "names_in",
    "rows_in",
    "table_of",
    "with_columns",
]

pa = need("pyarrow", "synthetic data", "synth")
pq = need("pyarrow.parquet", "synthetic data", "synth")

Record = dict[str, object]
"""One record: its columns by name."""

_BATCH_ROWS = 8192


def batches(
    path: Path, columns: Sequence[str] | None = None, rows: int = _BATCH_ROWS, groups: Sequence[int] | None = None
) -> Iterator[Any]:
    """The records of a Parquet file in order, as Arrow tables of at most `rows`; at least one, perhaps empty.

    With `groups` only those of these row groups. Raises `UsageError` if the file is not Parquet or lacks a column.
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
            for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=selected):
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


class PendingFile:
    """A file that appears only if rows were written and the block ends without an error.

    `rows` is their number. A `private` file can be read by its owner only. Raises `OutputError` if the file cannot
    be written.
    """

    def __init__(self, path: Path, *, private: bool) -> None:
        self.path = path
        self._private = private
        self.rows = 0
        self._file: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        if kind is None:
            with output_errors(self.path):
                self._finish()
                put_in_place(self._file, self.path)
            return
        with contextlib.suppress(OSError, pa.ArrowException):
            self._finish()
        self._file.close()
        with contextlib.suppress(OSError):
            temporary_name(self.path).unlink()

    def write(self, rows: Any) -> None:
        """Add rows."""
        raise NotImplementedError

    def _open(self) -> None:
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(temporary_name(self.path), "wb", opener=owner_only if self._private else None)  # noqa: SIM115

    def _finish(self) -> None:
        """Write the end of the file."""


class RecordWriter(PendingFile):
    """Writes tables into one Parquet file; with a `schema` the file appears even without a table."""

    def __init__(self, path: Path, schema: Any = None, *, private: bool = True) -> None:
        super().__init__(path, private=private)
        self._schema = schema
        self._writer: Any = None

    def write(self, rows: Any) -> None:
        if self._writer is None:
            self._open_writer(self._schema or rows.schema)
        with output_errors(self.path):
            self._writer.write_table(rows.select(self._schema.names).cast(self._schema))
        self.rows += rows.num_rows

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._writer is None and self._schema is not None:
            self._open_writer(self._schema)
        super().__exit__(kind)

    def _open_writer(self, schema: Any) -> None:
        self._schema = schema.remove_metadata()
        self._open()
        with output_errors(self.path):
            try:
                self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
            except pa.ArrowException as error:
                raise OutputError(
                    f"{self.path} cannot be written: Parquet has no such column ({error})"
                ) from error

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _unreadable(path: Path, error: Exception) -> UsageError:
    """The error for a damaged file, naming the step that writes it."""
    name = path.parent.name if path.name.startswith(("round-", "answers", "negatives", "chosen")) else path.name
    step = name.partition(".")[0].partition("-")[2] or "generate"
    return UsageError(f"{path} cannot be read as Parquet ({reason_of(error)}): make it again with --from {step}")


_NAME = r"[^\W\d]\w*"
_FIELD = re.compile(
    rf"\{{\{{\{{(?P<braced>{_NAME})\}}\}}\}}|\{{\{{(?P<literal>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}"
)


def fields_of(row: Mapping[str, object]) -> dict[str, object]:
    """The fields of a record by name: its columns, and the fields of its `value` if that is a JSON object."""
    value = row.get("value")
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    columns = {name: entry for name, entry in row.items() if name != "value"}
    return {**value, **columns} if isinstance(value, dict) else columns


def fill(template: str, fields: Mapping[str, object]) -> str:
    """The template with each `{name}` replaced by that field.

    As in Python's formats `{{name}}` gives `{name}` itself, and `{{{name}}}` the field in braces. Other braces
    stay as they are. Raises `UnknownNameError` for a name that is not a field.
    """

    def replacement(match: re.Match[str]) -> str:
        if match["literal"]:
            return f"{{{match['literal']}}}"
        name = match["name"] or match["braced"]
        if name not in fields:
            raise UnknownNameError("field in a template", name, fields, see=f"write {{{{{name}}}}} for braces")
        value = fields[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return f"{{{text}}}" if match["braced"] else text

    return _FIELD.sub(replacement, template)


def names_in(template: str) -> set[str]:
    """The names of the fields in a template."""
    return {match["name"] or match["braced"] for match in _FIELD.finditer(template)} - {None}


_ROWS, _SHOWN = 20_000, 3
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("value", pa.string())])


def import_records(source: Path, text: str, out: Path, check: Callable[[], None]) -> tuple[str, ...]:
    """Write the records of `source` to `out`; returns a warning if rows were unusable, with the first of them.

    The column `text` is the record's text, `id` its id; without ids the rows are numbered. A Parquet file keeps
    its columns. The other columns of .jsonl, .json and .csv become the record's `value`. `check` is called before
    each batch and may end the work by raising.

    Raises `UsageError` for a file that cannot be read, lacks the column, or has an id twice.
    """
    if not source.is_file():
        raise UsageError(f"there is no {source}: the spec names it as its input")
    left_out = (_parquet if source.suffix == ".parquet" else _rows)(source, text, out, check)
    first = "; ".join(left_out[:_SHOWN])
    if not count(out):
        raise UsageError(f"{source} holds no usable record: {first}")
    return (f"{plural(len(left_out), 'row')} of {source.name} left out; the first: {first}",) if left_out else ()


def _parquet(source: Path, text: str, out: Path, check: Callable[[], None]) -> list[str]:
    ids, left_out, start = set[str](), list[str](), 0
    with RecordWriter(out) as writer:
        for table in batches(source):
            check()
            table = _with_id_and_text(table, source, text, start)
            pairs = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
            usable = [bool(name and value and value.strip()) for name, value in pairs]
            left_out += [f"row {start + at + 1}: no {text} or no id" for at, good in enumerate(usable) if not good]
            start += table.num_rows
            table = table.filter(pa.array(usable, pa.bool_()))
            for name in table["id"].to_pylist():
                if name in ids:
                    raise UsageError(f"{source} has the id {name!r} twice: give each record its own")
                ids.add(name)
            writer.write(table)
    return left_out


def _with_id_and_text(table: Any, source: Path, text: str, start: int) -> Any:
    """The table with columns `id` and `text`; rows without ids are numbered from `start` + 1."""
    if text not in table.column_names:
        raise UnknownNameError(f"column for text in {source.name}:", text, table.column_names)
    if text != "text" and "text" in table.column_names:
        raise UsageError(f"{source} has a column text beside {text}: rename one, as text is the text of a record")
    try:
        texts = table[text].cast(pa.string())
        if "id" in table.column_names:
            ids = table["id"].cast(pa.string())
        else:
            ids = pa.array([str(number) for number in range(start + 1, start + table.num_rows + 1)])
        return with_columns(table, {"id": ids, "text": texts})
    except (pa.ArrowException, KeyError) as error:
        raise UsageError(f"{source}: {text} and id must be text, each one column ({error})") from error


def _rows(source: Path, text: str, out: Path, check: Callable[[], None]) -> list[str]:
    rows = read(source, prompt_column=text, remedy='say which one holds the text with text = "COLUMN"')
    left_out: list[str] = []
    with RecordWriter(out, _SCHEMA) as writer:
        while some := list(islice(rows, _ROWS)):
            check()
            records = []
            for row in some:
                if isinstance(row, BadRow):
                    if row.reason.startswith("duplicate id"):
                        raise UsageError(f"{row.where}: {row.reason}: give each record its own, or none at all")
                    left_out.append(f"{row.where}: {row.reason}")
                    continue
                (message, *more) = row.messages
                if more:
                    raise UsageError(
                        f'{row.where}: {text} holds a chat: name a column of text with text = "COLUMN"'
                    )
                value = dict(row.columns) if text == "text" else {text: message.content, **row.columns}
                encoded = json.dumps(value, ensure_ascii=False, default=str)
                records.append({"id": row.id, "text": message.content, "value": encoded})
            writer.write(pa.Table.from_pylist(records, schema=_SCHEMA))
    return left_out
