"""One of a thing for each event loop: sessions and clients belong to the loop that they were made in."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")
Close: TypeAlias = Callable[[T], Coroutine[Any, Any, None]]
Held: TypeAlias = dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None]]]


class PerLoop(Generic[T]):
    """Makes a `T` for each event loop that asks, and closes it when the loop ends or the owner goes.

    Loops come and go (`asyncio.run`, a notebook, a background thread) and nobody tells a model about it. An open
    asynchronous generator is told: its loop closes it when the loop shuts down, and when nobody holds it anymore.
    """

    def __init__(self, make: Callable[[], T], close: Close[T]) -> None:
        self._make = make
        self._close = close
        self._held: Held[T] = {}
        weakref.finalize(self, _let_go, self._held, close)

    async def get(self) -> T:
        """The thing of the running loop."""
        loop = asyncio.get_running_loop()
        if held := self._held.get(loop):
            return held[0]
        _let_go({old: self._held.pop(old) for old in list(self._held) if old.is_closed()}, self._close)
        thing = self._make()
        lifetime = _lifetime(weakref.ref(self), loop, thing, self._close)
        self._held[loop] = thing, lifetime
        await anext(lifetime)
        return thing

    async def aclose(self) -> None:
        """Close all of them, each in its own loop; waits for the one of the running loop."""
        own = self._held.pop(asyncio.get_running_loop(), None)
        _let_go(self._held, self._close)
        if own is not None:
            await own[1].aclose()

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        self._held.pop(loop, None)


async def _lifetime(
    owner: weakref.ref[PerLoop[T]], loop: asyncio.AbstractEventLoop, thing: T, close: Close[T]
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if holder := owner():
            holder.forget(loop)
        await close(thing)


def _let_go(held: Held[T], close: Close[T]) -> None:
    while held:
        loop, (thing, _) = held.popitem()
        if loop.is_closed():
            # Nobody is left to close it: do so up to the first wait, which frees what it holds.
            closing = close(thing)
            with suppress(StopIteration, RuntimeError):
                closing.send(None)
            closing.close()
