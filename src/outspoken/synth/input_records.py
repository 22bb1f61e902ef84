"""The user's own records as the input of the first step: each with an id and a text."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

from outspoken.batch.sources import BadRow, read
from outspoken.errors import UnknownNameError, UsageError
from outspoken.synth.records import RecordWriter, batches, pa, with_columns

__all__ = ["import_records"]

_ROWS, _SHOWN = 20_000, 3
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("value", pa.string())])


async def import_records(source: Path, text: str, out: Path) -> tuple[str, ...]:
    """Write the records of `source` to `out`; returns a warning if rows were unusable, with the first of them.

    The column `text` is the record's text, `id` its id; without ids the rows are numbered. A Parquet file keeps
    its columns. The other columns of .jsonl, .json and .csv become the record's `value`. Raises `UsageError` for a
    file that cannot be read, lacks the column, or has an id twice.
    """
    if not source.is_file():
        raise UsageError(f"there is no {source}: the spec names it as its input")
    left_out = await asyncio.to_thread(_parquet if source.suffix == ".parquet" else _rows, source, text, out)
    if not left_out:
        return ()
    return (f"{len(left_out):,} rows of {source.name} were left out; the first: {'; '.join(left_out[:_SHOWN])}",)


def _parquet(source: Path, text: str, out: Path) -> list[str]:
    ids: set[str] = set()
    start = 0
    left_out: list[str] = []
    with RecordWriter(out) as writer:
        for table in batches(source):
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
    if not ids:
        raise UsageError(f"{source} holds no usable record: {'; '.join(left_out[:_SHOWN])}")
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


def _rows(source: Path, text: str, out: Path) -> list[str]:
    rows = read(source, prompt_column=text, remedy='say which one holds the text with text = "COLUMN"')
    left_out: list[str] = []
    with RecordWriter(out, _SCHEMA) as writer:
        while some := list(islice(rows, _ROWS)):
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
                record = {
                    "id": row.id,
                    "text": message.content,
                    "value": json.dumps(value, ensure_ascii=False, default=str),
                }
                records.append(record)
            writer.write(pa.Table.from_pylist(records, schema=_SCHEMA))
    if not writer.rows:
        raise UsageError(f"{source} holds no usable record: {'; '.join(left_out[:_SHOWN])}")
    return left_out
