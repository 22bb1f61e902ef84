"""Ctrl-C, in one way for every long command: the first press ends the work in good order, the second at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from outspoken.cli.common import note
from outspoken.errors import StoppedError
from outspoken.io.signals import on_interrupt

__all__ = ["INTERRUPTED", "exit_when_stopped", "run_interruptibly", "run_or_exit", "signals"]

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""

T = TypeVar("T")


@contextmanager
def exit_when_stopped() -> Iterator[None]:
    """Show the message of a `StoppedError` raised in the block, and exit."""
    try:
        yield
    except StoppedError as error:
        note(str(error))
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def signals(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` in the running loop for each SIGINT and SIGTERM."""
    import asyncio

    loop = asyncio.get_running_loop()
    with on_interrupt(lambda: loop.call_soon_threadsafe(handle)):
        yield


def run_interruptibly(
    work: Callable[[], Awaitable[T]],
    stop: Callable[[], bool],
    show: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> tuple[T | None, bool]:
    """Run `work` in an event loop of its own; returns its result and whether it was interrupted.

    The first Ctrl-C calls `stop`, which asks the work to end after what is under way and returns whether there is
    something to wait for. A second one, or the first where there is nothing to wait for, cancels the work, and the
    result is None. `show` displays the progress meanwhile.
    """
    import asyncio

    async def watched() -> tuple[T | None, bool]:
        task = asyncio.ensure_future(work())
        pressed = False

        def press() -> None:
            nonlocal pressed
            if not pressed and stop():
                note("finishing what is under way; Ctrl-C again stops at once (nothing that came back is lost)")
            else:
                task.cancel()
            pressed = True

        with signals(press):
            showing = None if show is None else asyncio.create_task(show())
            try:
                return await task, pressed
            except asyncio.CancelledError:
                return None, True
            finally:
                if showing is not None:
                    showing.cancel()
                    await asyncio.gather(showing, return_exceptions=True)

    return asyncio.run(watched())


def run_or_exit(
    work: Callable[[], Awaitable[T]], show: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> T:
    """The result of `work`; Ctrl-C cancels it, and ends the command. `show` displays the progress meanwhile."""
    result, _ = run_interruptibly(work, lambda: False, show)
    if result is None:
        note("interrupted")
        raise typer.Exit(INTERRUPTED)
    return result
