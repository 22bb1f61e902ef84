"""The user's own records as the first step gets them: with an id and a text each."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.jobs.rows import BadRow, read
from outspoken.synth.records import Writer, batches, pa, with_columns

__all__ = ["bring"]

_ROWS = 20_000
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("value", pa.string())])


async def bring(source: Path, text: str, out: Path) -> tuple[str, ...]:
    """Write the records of `source` to `out`; returns a line for each of the first that cannot be used.

    A Parquet file keeps its columns. The other columns of .jsonl, .json and .csv become the record's `value`. The
    column `text` holds what a record says, `id` its name; without ids the rows are numbered. Raises `UsageError`
    for a file that cannot be read, lacks the column, or names two records alike.
    """
    if not source.is_file():
        raise UsageError(f"there is no {source}: the spec names it as its input")
    return await asyncio.to_thread(_parquet if source.suffix == ".parquet" else _rows, source, text, out)


def _parquet(source: Path, text: str, out: Path) -> tuple[str, ...]:
    ids: set[str] = set()
    number = 0
    with Writer(out) as writer:
        for table in batches(source):
            if text not in table.column_names:
                raise UnknownNameError(f"column for text in {source.name}:", text, table.column_names)
            texts = table[text].cast(pa.string())
            if "id" in table.column_names:
                names = table["id"].cast(pa.string())
            else:
                names = pa.array([str(number + at + 1) for at in range(table.num_rows)])
            number += table.num_rows
            ids.update(names.to_pylist())
            if texts.null_count or names.null_count or "" in names.to_pylist():
                raise UsageError(f"{source} has records without {text} or id: leave them out")
            writer.write(with_columns(table, {"id": names, "text": texts}))
    if len(ids) < number:
        raise UsageError(
            f"{source} has {number - len(ids):,} ids that stand there twice: give each record its own"
        )
    return ()


def _rows(source: Path, text: str, out: Path) -> tuple[str, ...]:
    rows = read(source, prompt_column=text, remedy='say which one holds the text with text = "COLUMN"')
    problems: list[str] = []
    with Writer(out, _SCHEMA) as writer:
        while some := list(islice(rows, _ROWS)):
            columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
            for row in some:
                if isinstance(row, BadRow):
                    if len(problems) < 5:
                        problems.append(f"left out {row.where}: {row.reason}")
                    continue
                columns["id"].append(row.id)
                columns["text"].append(row.messages[-1].content)
                columns["value"].append(json.dumps(dict(row.columns), ensure_ascii=False, default=str))
            writer.write(pa.table(columns, schema=_SCHEMA))
    if not writer.rows:
        raise UsageError(f"{source} holds no record that can be used: {'; '.join(problems)}")
    return tuple(problems)
