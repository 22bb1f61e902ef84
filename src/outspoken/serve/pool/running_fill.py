"""A fill of a pool while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from outspoken.chat_reply import Usage
from outspoken.distribution import Verbalized
from outspoken.errors import StoppedError
from outspoken.serve.pool.values import CandidateListener

__all__ = ["RunningFill"]


class RunningFill:
    """A fill that is running, for all who wait for it. Those who stop waiting do not stop the fill.

    `ended` is called when it ends. With `streamed` all listeners hear all its candidates, late ones too.
    """

    def __init__(
        self,
        fill: Callable[[CandidateListener | None], Coroutine[Any, Any, Usage]],
        streamed: bool,
        name: str,
        ended: Callable[[asyncio.Task[Usage]], None],
    ) -> None:
        self._candidates: list[Verbalized] = []
        self._listeners: list[CandidateListener] = []
        self._task = asyncio.create_task(fill(self._announce if streamed else None), name=name)
        self._task.add_done_callback(ended)

    def _announce(self, candidate: Verbalized) -> None:
        self._candidates.append(candidate)
        for listener in self._listeners:
            listener(candidate)

    async def wait(self, listener: CandidateListener | None) -> Usage:
        """Wait for the end; `listener` is called with all candidates. Raises the error of the fill."""
        if listener is not None:
            for candidate in self._candidates:
                listener(candidate)
            self._listeners.append(listener)
        try:
            await asyncio.wait({self._task})
        finally:
            if listener is not None:
                self._listeners.remove(listener)
        if self._task.cancelled():
            raise StoppedError("the request to the model was cancelled because the server stops: ask again later")
        return self._task.result()

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
