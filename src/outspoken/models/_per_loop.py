"""One resource for each event loop: sessions and clients belong to the loop in which they were created."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")
Close: TypeAlias = Callable[[T], Coroutine[Any, Any, None]]
Resources: TypeAlias = dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None]]]


class PerLoop(Generic[T]):
    """Creates a `T` for each event loop that needs one, and closes it when the loop ends or the owner is deleted.

    Loops come and go (`asyncio.run`, a notebook, a background thread) without notice to a model. An open
    asynchronous generator gets notice: its loop closes it when the loop shuts down, or when nothing refers to it
    any more.
    """

    def __init__(self, create: Callable[[], T], close: Close[T]) -> None:
        self._create = create
        self._close = close
        self._resources: Resources[T] = {}
        weakref.finalize(self, _release, self._resources, close)

    async def get(self) -> T:
        """The resource of the running loop."""
        loop = asyncio.get_running_loop()
        if known := self._resources.get(loop):
            return known[0]
        _release({old: self._resources.pop(old) for old in list(self._resources) if old.is_closed()}, self._close)
        resource = self._create()
        lifetime = _lifetime(weakref.ref(self), loop, resource, self._close)
        self._resources[loop] = resource, lifetime
        await anext(lifetime)
        return resource

    async def aclose(self) -> None:
        """Close all resources, each in its own loop; waits for that of the running loop."""
        current = self._resources.pop(asyncio.get_running_loop(), None)
        _release(self._resources, self._close)
        if current is not None:
            await current[1].aclose()

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        self._resources.pop(loop, None)


async def _lifetime(
    owner: weakref.ref[PerLoop[T]], loop: asyncio.AbstractEventLoop, resource: T, close: Close[T]
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if per_loop := owner():
            per_loop.forget(loop)
        await close(resource)


def _release(resources: Resources[T], close: Close[T]) -> None:
    while resources:
        loop, (resource, _) = resources.popitem()
        if loop.is_closed():
            # No loop is left to close it in: run the coroutine up to its first wait, which frees the resource.
            closing = close(resource)
            with suppress(StopIteration, RuntimeError):
                closing.send(None)
            closing.close()
