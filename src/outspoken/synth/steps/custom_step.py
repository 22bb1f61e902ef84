"""A step that is the user's own: a function in a Python file that takes records and gives records."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from outspoken.batch.table_columns import array_of
from outspoken.errors import StoppedError, UsageError
from outspoken.synth.records import RecordWriter, pa, rows_in
from outspoken.synth.steps.base import Step, StepOutcome

__all__ = ["function_of", "run"]

_LEFT_OUT = "left out by the function"


def function_of(named: str) -> Callable[..., Any]:
    """The function that FILE.py:FUNCTION names; what stands beside its file can be imported in it.

    Raises `UsageError` where there is none, or its file fails.
    """
    file, _, name = named.rpartition(":")
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
        raise UsageError(f"{file} fails when it is imported ({_told(error, path)})") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UsageError(f"{file} has no function {name!r}; it has: {', '.join(known) or 'none'}")
    return function  # type: ignore[no-any-return]


async def run(named: str, step: Step) -> StepOutcome:
    """Give the function an iterator of the records (dicts), and write those that it gives back.

    A record keeps its `id`; one without gets a new one. Those whose id does not come back are removed. What the
    function prints goes to standard error.
    """
    function = function_of(named)
    source = step.needed()
    step.watch.tell(f"running {function.__name__}", 0)
    ended = threading.Event()

    def records() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows_in(source)):
            if ended.is_set():
                raise StoppedError("the step was stopped")
            step.watch.tell(f"running {function.__name__}", number)
            yield row

    def work() -> list[dict[str, Any]]:
        with contextlib.redirect_stdout(sys.stderr):
            made = function(records())
            if not isinstance(made, Iterable):
                getattr(made, "close", int)()  # a coroutine complains where nobody awaits it
                raise TypeError(f"it gave {type(made).__name__}, which is no list and no iterator of records")
            return [dict(row) for row in made]

    try:
        made = await _in_thread(work)
    except StoppedError:
        raise
    except (Exception, SystemExit) as error:
        file = Path(named.rpartition(":")[0]).resolve()
        raise UsageError(f"{named} failed ({_told(error, file)}): mend it and give the same command") from error
    finally:
        ended.set()
    table = _table(made, named, step.name)
    with RecordWriter(step.out, table.schema) as writer:
        writer.write(table)
    there = {row["id"] for row in made}
    gone = [row for row in rows_in(source) if row["id"] not in there]
    if gone:
        removed = pa.Table.from_pylist(gone)
        with RecordWriter(step.removed) as writer:
            writer.write(removed.append_column("reason", pa.array([_LEFT_OUT] * len(gone))))
    return StepOutcome(table.num_rows, {_LEFT_OUT: len(gone)} if gone else {})


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns; where that is not waited for any longer, the process may end before it does."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if came.done():
            return
        if error is None:
            came.set_result(result)
        else:
            came.set_exception(error)

    def target() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = work()
        except SystemExit as left:
            error = RuntimeError(f"it called sys.exit({left.code!r})")
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # nobody waits any longer
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=target, name="outspoken-own", daemon=True).start()
    return await came


def _told(error: BaseException, file: Path) -> str:
    """What went wrong, and in which line of the user's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    where = f", line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _table(made: list[dict[str, Any]], named: str, step: str) -> Any:
    seen: set[str] = set()
    fresh = 0
    for row in made:
        if not isinstance(row.get("text"), str):
            raise UsageError(f"{named} gave a record without text: each needs at least a `text`")
        name = row.get("id")
        if name is None:
            fresh += 1
            name = f"{step}-{fresh}"
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise UsageError(f"{named} gave a record with the id {name!r}: an id is a text that is not empty")
        row["id"] = str(name)
        if row["id"] in seen:
            raise UsageError(f"{named} gave two records with the id {row['id']!r}: leave the id of a new one out")
        seen.add(row["id"])
    names = {"id": None, "text": None} | dict.fromkeys(name for row in made for name in row)
    columns = {}
    for column in names:
        values = [row.get(column) for row in made]
        try:
            columns[column] = pa.array(values, pa.string()) if column in ("id", "text") else array_of(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{named} gave values for {column} that make no column ({type(error).__name__}: {error})"
            ) from error
    return pa.table(columns)
