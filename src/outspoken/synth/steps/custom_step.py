"""A custom step: a function in the user's Python file that takes records and returns records."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from outspoken.batch.output_formats import arrow_array
from outspoken.engine.concurrency import in_thread
from outspoken.errors import StoppedError, UsageError
from outspoken.synth.records import Record, RecordWriter, pa, rows_in
from outspoken.synth.steps.base import Step, StepOutcome

__all__ = ["load_function", "run"]

_LEFT_OUT = "left out by the function"


def load_function(name: str) -> Callable[..., object]:
    """The function that FILE.py:FUNCTION names; the file can import modules beside it.

    Raises `UsageError` if there is no such function, or its file cannot be imported.
    """
    file, _, function_name = name.rpartition(":")
    path = Path(file).resolve()
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None or not path.is_file():
        raise UsageError(f"there is no Python file {file}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(module_spec)
    # Dataclasses look up their module.
    sys.modules.setdefault(module_spec.name, module)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file} fails when it is imported ({_describe(error, path)})") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UsageError(f"{file} has no function {function_name!r}; it has: {', '.join(known) or 'none'}")
    return function  # type: ignore[no-any-return]


async def run(name: str, step: Step) -> StepOutcome:
    """Call the function with an iterator of the records (dicts), and write those that it returns.

    A record keeps its `id`; one without an id gets a new one. Records whose id is not returned are removed. What
    the function prints goes to standard error.
    """
    function = load_function(name)
    source = step.needed_source()
    stage = f"running {name.rpartition(':')[2]}"
    step.progress.update(stage, 0)

    def records(check: Callable[[], None]) -> Iterator[Record]:
        for number, row in enumerate(rows_in(source)):
            check()
            step.progress.update(stage, number)
            yield row

    def work(check: Callable[[], None]) -> list[Record]:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                returned = function(records(check))
                if not isinstance(returned, Iterable):
                    getattr(returned, "close", int)()  # a coroutine that is never awaited prints a warning
                    raise TypeError(f"it returned {type(returned).__name__}, not a list or an iterator of records")
                return [dict(row) for row in returned]
        except SystemExit as error:  # it would end this process
            raise RuntimeError(f"it called sys.exit({error.code!r})").with_traceback(
                error.__traceback__
            ) from error

    try:
        rows = await in_thread(work, wait=False)
    except StoppedError:
        raise
    except Exception as error:
        problem = _describe(error, Path(name.rpartition(":")[0]).resolve())
        raise UsageError(f"{name} failed ({problem}): correct it and give the same command") from error
    table = _table(rows, name, step.name)
    with RecordWriter(step.out, table.schema) as writer:
        writer.write(table)
    kept_ids = {row["id"] for row in rows}
    removed = [{**row, "reason": _LEFT_OUT} for row in rows_in(source) if row["id"] not in kept_ids]
    if removed:
        with RecordWriter(step.removed) as writer:
            writer.write(pa.Table.from_pylist(removed))
    return StepOutcome(table.num_rows, {_LEFT_OUT: len(removed)} if removed else {})


def _describe(error: BaseException, file: Path) -> str:
    """The error with the line of the user's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    where = f", line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _table(rows: list[Record], name: str, step: str) -> Any:
    """The records as an Arrow table; records without an id get one."""
    ids: set[str] = set()
    new = itertools.count(1)
    for row in rows:
        if not isinstance(row.get("text"), str):
            raise UsageError(f"{name} returned a record without text: each needs at least a `text`")
        given = row.get("id")
        if given == "" or isinstance(given, bool) or not isinstance(given, str | int | None):
            raise UsageError(f"{name} returned a record with the id {given!r}: an id is a text, and not empty")
        row["id"] = record_id = f"{step}-{next(new)}" if given is None else str(given)
        if record_id in ids:
            raise UsageError(
                f"{name} returned two records with the id {record_id!r}: leave out the id of new ones"
            )
        ids.add(record_id)
    columns = {}
    for column in dict.fromkeys(["id", "text", *(column for row in rows for column in row)]):
        values = [row.get(column) for row in rows]
        try:
            columns[column] = pa.array(values, pa.string()) if column in ("id", "text") else arrow_array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{name} returned values for {column} that cannot form a column ({type(error).__name__}: {error})"
            ) from error
    return pa.table(columns)
