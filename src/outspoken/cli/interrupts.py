"""Ctrl-C, the same in every long command: the first press lets running work finish, the second stops at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from outspoken.cli.common import note
from outspoken.errors import StoppedError
from outspoken.io.signals import INTERRUPTED, on_interrupt

__all__ = ["exit_when_stopped", "run_interruptibly", "run_or_exit", "signals"]

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
    """Run `work` in a new event loop; returns its result, and whether it was interrupted.

    The first Ctrl-C calls `stop`, which asks the work to finish what is under way and returns whether there is
    anything to wait for. A second one, or the first if there is nothing to wait for, cancels the work; the result
    is then None. `show` displays the progress meanwhile.
    """
    import asyncio

    async def watched() -> tuple[T | None, bool]:
        task = asyncio.ensure_future(work())
        pressed = False

        def press() -> None:
            nonlocal pressed
            if not pressed and stop():
                note("finishing what is under way; Ctrl-C again stops at once (replies that arrived are kept)")
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
    work: Callable[[], Awaitable[T]],
    show: Callable[[], Coroutine[Any, Any, None]] | None = None,
    *,
    stopped: str = "interrupted",
) -> T:
    """The result of `work`. Ctrl-C cancels it, shows the message `stopped` and exits.

    `show` displays the progress meanwhile.
    """
    result, interrupted = run_interruptibly(work, lambda: False, show)
    if interrupted or result is None:
        note(stopped)
        raise typer.Exit(INTERRUPTED)
    return result
