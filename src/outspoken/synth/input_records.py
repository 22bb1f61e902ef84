"""The user's own records as the first step gets them: with an id and a text each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from outspoken.batch.sources import BadRow, read
from outspoken.errors import UnknownNameError, UsageError
from outspoken.synth.records import RecordWriter, batches, pa, with_columns

__all__ = ["bring"]

_ROWS, _SHOWN = 20_000, 3
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("value", pa.string())])


async def bring(source: Path, text: str, out: Path) -> tuple[str, ...]:
    """Write the records of `source` to `out`; returns how many rows could not be used, and the first of them.

    A Parquet file keeps its columns. The other columns of .jsonl, .json and .csv become the record's `value`. The
    column `text` holds what a record says, `id` its name; without ids the rows are numbered. Raises `UsageError`
    for a file that cannot be read, lacks the column, or calls two records the same.
    """
    if not source.is_file():
        raise UsageError(f"there is no {source}: the spec names it as its input")
    left_out = await asyncio.to_thread(_parquet if source.suffix == ".parquet" else _rows, source, text, out)
    if not left_out:
        return ()
    return (f"{len(left_out):,} rows of {source.name} were left out; the first: {'; '.join(left_out[:_SHOWN])}",)


def _parquet(source: Path, text: str, out: Path) -> list[str]:
    ids: set[str] = set()
    number = 0
    left_out: list[str] = []
    with RecordWriter(out) as writer:
        for table in batches(source):
            if text not in table.column_names:
                raise UnknownNameError(f"column for text in {source.name}:", text, table.column_names)
            if text != "text" and "text" in table.column_names:
                raise UsageError(
                    f"{source} has a column text beside {text}: rename one, for text is what records say"
                )
            try:
                texts = table[text].cast(pa.string())
                names = table["id"].cast(pa.string()) if "id" in table.column_names else None
                numbers = [str(number + at + 1) for at in range(table.num_rows)]
                table = with_columns(table, {"id": pa.array(numbers) if names is None else names, "text": texts})
            except (pa.ArrowException, KeyError) as error:
                raise UsageError(f"{source}: {text} and id must be text, each one column ({error})") from error
            usable = [bool(name and said and said.strip()) for name, said in _pairs(table)]
            left_out += [
                f"row {number + at + 1}: no {text} or no id" for at, good in enumerate(usable) if not good
            ]
            number += table.num_rows
            table = table.filter(pa.array(usable, pa.bool_()))
            for name in table["id"].to_pylist():
                if name in ids:
                    raise UsageError(f"{source} has the id {name!r} twice: give each record its own")
                ids.add(name)
            writer.write(table)
    if not ids:
        raise UsageError(f"{source} holds no record that can be used: {'; '.join(left_out[:_SHOWN])}")
    return left_out


def _pairs(table: Any) -> Iterator[tuple[str | None, str | None]]:
    return zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)


def _rows(source: Path, text: str, out: Path) -> list[str]:
    rows = read(source, prompt_column=text, remedy='say which one holds the text with text = "COLUMN"')
    left_out: list[str] = []
    with RecordWriter(out, _SCHEMA) as writer:
        while some := list(islice(rows, _ROWS)):
            columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
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
                columns["id"].append(row.id)
                columns["text"].append(message.content)
                columns["value"].append(json.dumps(value, ensure_ascii=False, default=str))
            writer.write(pa.table(columns, schema=_SCHEMA))
    if not writer.rows:
        raise UsageError(f"{source} holds no record that can be used: {'; '.join(left_out[:_SHOWN])}")
    return left_out
