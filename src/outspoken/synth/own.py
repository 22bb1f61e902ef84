"""A step that is the user's own: a function in a Python file that takes records and gives records."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from outspoken.errors import OutspokenError, UsageError
from outspoken.synth.records import Writer, pa, rows_in
from outspoken.synth.step import Outcome, Step

__all__ = ["function_of", "run"]

_LEFT_OUT = "left out by the function"


def function_of(named: str) -> Callable[..., Any]:
    """The function that FILE.py:FUNCTION names. Raises `UsageError` where there is none, or its file fails."""
    file, _, name = named.rpartition(":")
    module_spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if module_spec is None or module_spec.loader is None or not Path(file).is_file():
        raise UsageError(f"there is no Python file {file}")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} fails when it is imported ({type(error).__name__}: {error})") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UsageError(f"{file} has no function {name!r}; it has: {', '.join(known) or 'none'}")
    return function  # type: ignore[no-any-return]


async def run(named: str, step: Step) -> Outcome:
    """Give the function an iterator of the records (dicts), and write those that it gives back.

    A record keeps its `id`; one without gets a new one. Those whose id does not come back are removed.
    """
    function = function_of(named)
    source = step.needed()
    step.watch.tell(f"running {function.__name__}", 0)
    given: dict[str, None] = {}

    def records() -> Iterator[dict[str, Any]]:
        for row in rows_in(source):
            given[row["id"]] = None
            yield row

    def work() -> tuple[Any, set[str]]:
        try:
            made = [dict(row) for row in function(records())]
        except OutspokenError:
            raise
        except Exception as error:
            raise UsageError(f"{named} failed ({type(error).__name__}: {error}): mend it and run again") from error
        return _table(made, named, given), {row["id"] for row in made}

    table, there = await asyncio.to_thread(work)
    with Writer(step.out, table.schema) as writer:
        writer.write(table)
    gone = [row for row in rows_in(source) if row["id"] not in there]
    if gone:
        removed = pa.Table.from_pylist(gone)
        with Writer(step.removed) as writer:
            writer.write(removed.append_column("reason", pa.array([_LEFT_OUT] * len(gone))))
    return Outcome(table.num_rows, {_LEFT_OUT: len(gone)} if gone else {})


def _table(made: list[dict[str, Any]], named: str, given: dict[str, None]) -> Any:
    seen: set[str] = set()
    fresh = 0
    for row in made:
        if not isinstance(row.get("text"), str):
            raise UsageError(f"{named} gave a record without text: each needs at least a `text`")
        if row.get("id") is None:
            fresh += 1
            row["id"] = f"own-{fresh}"
        row["id"] = str(row["id"])
        if row["id"] in seen:
            raise UsageError(f"{named} gave two records with the id {row['id']!r}: leave the id of a new one out")
        seen.add(row["id"])
    try:
        names = list(dict.fromkeys(name for row in made for name in row))
        table = pa.table({name: [row.get(name) for row in made] for name in names})
    except (pa.ArrowException, TypeError) as error:
        raise UsageError(f"{named} gave records that make no table ({error}): give all the same types") from error
    if not made:
        return pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    return table
