"""Concurrent work with its results in order, in bounded memory, and work in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from outspoken.errors import StoppedError

__all__ = ["in_thread", "ordered"]

T = TypeVar("T")
R = TypeVar("R")


async def ordered(
    items: AsyncIterator[T] | Iterator[T], work: Callable[[T], Awaitable[R]], *, tasks: int, window: int
) -> AsyncGenerator[R]:
    """`work` on each item, at most `tasks` at a time; yields the results in the order of the items.

    At most `window` items are taken ahead of the awaited result. An error of `items` is raised after the results
    of the items before it. An iterator that is not asynchronous must not block.
    """
    started: deque[asyncio.Future[R]] = deque()
    running = 0
    changed, room = asyncio.Event(), asyncio.Event()

    def ended(_: object) -> None:
        nonlocal running
        running -= 1
        changed.set()
        room.set()

    def start(item: T) -> bool:
        """Start the work on an item; returns whether there is room for another one."""
        nonlocal running
        task = asyncio.ensure_future(work(item))
        task.add_done_callback(ended)
        started.append(task)
        running += 1
        return running < tasks and len(started) < window

    async def feed() -> None:
        async def wait() -> None:
            while running >= tasks or len(started) >= window:
                room.clear()
                await room.wait()

        if isinstance(items, AsyncIterator):
            async for item in items:
                if not start(item):
                    await wait()
        else:
            for item in items:
                if not start(item):
                    await wait()

    feeding = asyncio.create_task(feed())
    feeding.add_done_callback(lambda _: changed.set())
    try:
        while True:
            changed.clear()
            while started and started[0].done():
                yield started.popleft().result()
                room.set()
            if not started and feeding.done():
                break
            if not (started and started[0].done()):
                await changed.wait()
        feeding.result()
    finally:
        unfinished: list[asyncio.Future[Any]] = [feeding, *started]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


async def in_thread(work: Callable[[Callable[[], None]], T], *, wait: bool = True) -> T:
    """The result of `work` in a thread; it gets a function that raises `StoppedError` after a cancellation.

    A cancellation waits for the thread, so that nothing writes any longer. Without `wait` it does not, and the
    process can end before the thread does.
    """
    future: Future[T] = Future()
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise StoppedError("it was stopped")

    def target() -> None:
        try:
            future.set_result(work(check))
        except StopIteration as error:  # a future cannot carry it
            future.set_exception(
                RuntimeError("it called next() without a record").with_traceback(error.__traceback__)
            )
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=target, name="outspoken-work", daemon=True).start()
    ended = asyncio.wrap_future(future)
    try:
        await asyncio.wait([ended])
    except asyncio.CancelledError:
        cancelled.set()
        ended.add_done_callback(asyncio.Future.exception)  # fetched, so that it is not reported as lost
        if wait:
            await asyncio.wait([ended])
        raise
    return ended.result()
