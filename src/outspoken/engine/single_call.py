"""The requests of one call outside a run: their time limit, further attempts, and replies kept for equal calls."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from logging import DEBUG
from pathlib import Path

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.engine.request_log import log_error, log_reply, log_request, logger
from outspoken.engine.retry import FailedAttempts, no_answer_in_time
from outspoken.errors import ProviderError, UsageError
from outspoken.ledger import Ledger, LedgerEntry, entry_of
from outspoken.models.base import Model, not_a_reply
from outspoken.settings import RequestLimits

__all__ = ["CachedCall", "SingleCall", "opened"]

_AT_ONCE = 16


class SingleCall:
    """Answers the requests of one call, as `drive` and `drive_stream` need it.

    Transient errors are retried as in a run, see `FailedAttempts`; here each failed attempt counts, and an error
    after which the next one is due in more than `longest_wait` seconds is final. `parallel` is the number of
    requests that may be sent at once.
    """

    def __init__(
        self, model: Model, limits: RequestLimits = RequestLimits(), *, longest_wait: float = math.inf
    ) -> None:
        self.check = model.check
        self._model = model
        self._limits = limits
        self._longest_wait = longest_wait

    @property
    def parallel(self) -> int:
        return min(self._model.capabilities.parallel or _AT_ONCE, _AT_ONCE)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply to a request that was checked. Raises the error of the last attempt."""
        model, limits, failed, started = self._model, self._limits, None, time.monotonic()
        while True:
            begun = self._begin(request) if logger.isEnabledFor(DEBUG) else 0.0
            try:
                async with asyncio.timeout(limits.timeout) as scope:
                    coming = model.complete(request)
                    if not hasattr(coming, "__await__"):
                        raise not_a_reply(model, coming)
                    reply = await coming
            except TimeoutError as cause:
                if not scope.expired():
                    raise
                error = no_answer_in_time(model.name, limits.timeout, cause)
            except ProviderError as failure:
                error = failure
            else:
                if not isinstance(reply, ChatReply):
                    raise not_a_reply(model, reply)
                if begun:
                    log_reply(model.name, reply, time.monotonic() - begun)
                return reply
            failed = failed or FailedAttempts(limits, started)
            await asyncio.sleep(self._wait(failed, error, begun))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply | None]:
        """The reply in pieces, as `Model.stream` gives it. None: the attempt failed, the reply begins again."""
        model, limits, failed, started = self._model, self._limits, None, time.monotonic()
        while True:
            begun = self._begin(request) if logger.isEnabledFor(DEBUG) else 0.0
            left = limits.timeout
            try:
                async with aclosing(model.stream(request)) as pieces:
                    piece: str | ChatReply | None = ""
                    while not isinstance(piece, ChatReply):
                        waiting = time.monotonic()
                        async with asyncio.timeout(left) as scope:
                            piece = await anext(pieces, None)
                        left -= time.monotonic() - waiting
                        if piece is None:
                            raise ProviderError(f"{model.name} ended its stream without a reply", retryable=True)
                        if isinstance(piece, ChatReply) and begun:
                            log_reply(model.name, piece, time.monotonic() - begun)
                        yield piece
                return
            except TimeoutError as cause:
                if not scope.expired():
                    raise
                error = no_answer_in_time(model.name, limits.timeout, cause)
            except ProviderError as failure:
                error = failure
            failed = failed or FailedAttempts(limits, started)
            wait = self._wait(failed, error, begun)
            yield None
            await asyncio.sleep(wait)

    def _begin(self, request: ChatRequest) -> float:
        log_request(self._model.name, request)
        return time.monotonic()

    def _wait(self, failed: FailedAttempts, error: ProviderError, begun: float) -> float:
        """The seconds until the next attempt. Raises the error if there is none."""
        if begun:
            log_error(self._model.name, error, time.monotonic() - begun)
        wait = failed.wait_after(error)
        if wait is None or wait > self._longest_wait:
            raise error
        return wait


class CachedCall(SingleCall):
    """A `SingleCall` whose replies are kept in a `ledger`: those that it has are not requested again.

    The keys are those of the first call for a prompt in a run. Of several equal requests at the same time in one
    event loop, the first one is sent and the others get its reply.
    """

    def __init__(self, model: Model, limits: RequestLimits, ledger: Ledger) -> None:
        super().__init__(model, limits)
        self._ledger = ledger
        self._requests = 0

    async def complete(self, request: ChatRequest) -> ChatReply:
        entry = await self._entry(request)
        async with self._alone(entry):
            known = self._ledger.get(entry.key)
            if known is not None:
                return known
            begun = time.monotonic()
            reply = await super().complete(request)
            return await self._ledger.store(entry, reply, time.monotonic() - begun)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply | None]:
        entry = await self._entry(request)
        async with self._alone(entry):
            known = self._ledger.get(entry.key)
            if known is not None:
                yield known.text
                yield known
                return
            begun = time.monotonic()
            async with aclosing(super().stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ChatReply):
                        piece = await self._ledger.store(entry, piece, time.monotonic() - begun)
                    yield piece

    async def _entry(self, request: ChatRequest) -> LedgerEntry:
        number, self._requests = self._requests, self._requests + 1
        return entry_of(await self._model.identity(), request, (0, 0, number))

    def _alone(self, entry: LedgerEntry) -> asyncio.Lock:
        """A lock that equal requests share."""
        return _locks.setdefault((asyncio.get_running_loop(), self._ledger.path, entry.key), asyncio.Lock())


_locks: weakref.WeakValueDictionary[tuple[object, Path, str], asyncio.Lock] = weakref.WeakValueDictionary()


@asynccontextmanager
async def opened(cache: str | os.PathLike[str] | Ledger) -> AsyncGenerator[Ledger]:
    """The ledger at a path, which all calls of this process that use it at the same time share.

    A `Ledger` is used as it is and not closed. Raises `LedgerError` if the file cannot be used.
    """
    if isinstance(cache, Ledger):
        yield cache
        return
    if not isinstance(cache, str | os.PathLike):
        raise UsageError(f"cache must be the path of a ledger, or a Ledger, not {cache!r}")
    path = Path(os.path.realpath(cache))
    ledger = await asyncio.to_thread(_acquire, path)
    try:
        yield ledger
    finally:
        await asyncio.shield(asyncio.to_thread(_release, path))


_shared: dict[tuple[int, Path], tuple[Ledger, int]] = {}
_lock = threading.Lock()


def _acquire(path: Path) -> Ledger:
    key = os.getpid(), path  # a forked process has none of the threads of a ledger
    with _lock:
        ledger, users = _shared.get(key) or (Ledger(path), 0)
        _shared[key] = ledger, users + 1
        return ledger


def _release(path: Path) -> None:
    key = os.getpid(), path
    with _lock:
        ledger, users = _shared.pop(key)
        if users > 1:
            _shared[key] = ledger, users - 1
        else:
            ledger.close()
