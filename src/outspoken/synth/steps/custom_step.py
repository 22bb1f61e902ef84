"""A custom step: a function in the user's Python file that takes records and returns records."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from outspoken.batch.output_formats import arrow_array
from outspoken.errors import StoppedError, UsageError
from outspoken.synth.records import Record, RecordWriter, pa, rows_in
from outspoken.synth.steps.base import Step, StepOutcome

__all__ = ["load_function", "run"]

_LEFT_OUT = "left out by the function"


def load_function(name: str) -> Callable[..., object]:
    """The function that FILE.py:FUNCTION names; the file can import modules beside it.

    Raises `UsageError` if there is no such function, or its file fails.
    """
    file, _, function_name = name.rpartition(":")
    path = Path(file).resolve()
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None or not path.is_file():
        raise UsageError(f"there is no Python file {file}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(module_spec)
    # Dataclasses look their module up.
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

    A record keeps its `id`; one without gets a new one. Records whose id is not returned are removed. The output
    of the function goes to standard error.
    """
    function = load_function(name)
    source = step.needed_source()
    stage = f"running {name.rpartition(':')[2]}"
    step.progress.update(stage, 0)
    cancelled = threading.Event()

    def records() -> Iterator[Record]:
        for number, row in enumerate(rows_in(source)):
            if cancelled.is_set():
                raise StoppedError("the step was stopped")
            step.progress.update(stage, number)
            yield row

    def work() -> list[Record]:
        with contextlib.redirect_stdout(sys.stderr):
            returned = function(records())
            if not isinstance(returned, Iterable):
                getattr(returned, "close", int)()  # a coroutine that is never awaited prints a warning
                raise TypeError(f"it returned {type(returned).__name__}, not a list or an iterator of records")
            return [dict(row) for row in returned]

    try:
        rows = await _in_daemon_thread(work)
    except StoppedError:
        raise
    except (Exception, SystemExit) as error:
        file = Path(name.rpartition(":")[0]).resolve()
        raise UsageError(
            f"{name} failed ({_describe(error, file)}): correct it and give the same command"
        ) from error
    finally:
        cancelled.set()
    table = _table(rows, name, step.name)
    with RecordWriter(step.out, table.schema) as writer:
        writer.write(table)
    kept_ids = {row["id"] for row in rows}
    removed = [row for row in rows_in(source) if row["id"] not in kept_ids]
    if removed:
        removed_table = pa.Table.from_pylist(removed)
        with RecordWriter(step.removed) as writer:
            writer.write(removed_table.append_column("reason", pa.array([_LEFT_OUT] * len(removed))))
    return StepOutcome(table.num_rows, {_LEFT_OUT: len(removed)} if removed else {})


async def _in_daemon_thread(work: Callable[[], list[Record]]) -> list[Record]:
    """The result of `work`. After a cancellation the process can end before the thread does."""
    future: Future[list[Record]] = Future()
    future.set_running_or_notify_cancel()

    def target() -> None:
        try:
            future.set_result(work())
        except SystemExit as exit_:
            future.set_exception(RuntimeError(f"it called sys.exit({exit_.code!r})"))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=target, name="outspoken-custom-step", daemon=True).start()
    return await asyncio.wrap_future(future)


def _describe(error: BaseException, file: Path) -> str:
    """The error, and the line of the user's file where it was raised."""
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
        record_id = row.get("id")
        if record_id is None:
            record_id = f"{step}-{next(new)}"
        if not isinstance(record_id, str | int) or isinstance(record_id, bool) or record_id == "":
            raise UsageError(f"{name} returned a record with the id {record_id!r}: an id is a text, and not empty")
        row["id"] = str(record_id)
        if row["id"] in ids:
            raise UsageError(
                f"{name} returned two records with the id {row['id']!r}: leave out the id of a new one"
            )
        ids.add(str(record_id))
    names = dict.fromkeys(["id", "text", *(column for row in rows for column in row)])
    columns = {}
    for column in names:
        values = [row.get(column) for row in rows]
        try:
            columns[column] = pa.array(values, pa.string()) if column in ("id", "text") else arrow_array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{name} returned values for {column} that cannot form a column ({type(error).__name__}: {error})"
            ) from error
    return pa.table(columns)
