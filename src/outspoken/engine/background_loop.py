"""One event loop in a background thread, for callers without one: scripts, threads, notebooks."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["iterate", "run"]

T = TypeVar("T")

_END = object()

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_pid = 0
_closing: set[asyncio.Future[None]] = set()  # the loop itself holds tasks weakly


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop and wait for it; Ctrl-C cancels it and is raised."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _background())
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
            with suppress(CancelledError, Exception):
                future.result(timeout=5)
        raise


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Iterate an async generator from synchronous code; leaving the loop early closes it."""

    async def advance() -> T | object:
        return await anext(items, _END)

    try:
        while (item := run(advance())) is not _END:
            yield item  # type: ignore[misc]
    finally:
        _close(items)


def _close(items: AsyncGenerator[Any, None]) -> None:
    """Close an async generator. The garbage collector may do so in the loop's thread, which cannot wait for it."""
    if threading.current_thread() is _thread:
        closing = asyncio.ensure_future(items.aclose())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
    else:
        run(items.aclose())


def _background() -> asyncio.AbstractEventLoop:
    global _loop, _thread, _pid
    with _lock:
        # A forked child has the object of the loop, but not its thread.
        if _loop is None or _loop.is_closed() or _pid != os.getpid():
            runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            _loop = runner.get_loop()
            _thread = threading.Thread(target=_serve, args=(runner,), name="outspoken", daemon=True)
            _pid = os.getpid()
            _thread.start()
        return _loop


def _serve(runner: asyncio.Runner) -> None:
    with runner:  # cancels the remaining tasks in the end
        runner.get_loop().run_forever()


def _forget() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _stop() -> None:
    if _loop is not None and _thread is not None and _pid == os.getpid() and not _loop.is_closed():
        _loop.call_soon_threadsafe(_loop.stop)
        _thread.join(timeout=5)
