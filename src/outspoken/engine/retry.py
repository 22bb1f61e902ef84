"""Asks a model on behalf of a whole run: ledger, gate, timeouts, retries, budget, and when to give up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from outspoken.chat import ChatReply, ChatRequest, Usage
from outspoken.engine.budget import Budget, BudgetTracker
from outspoken.engine.metrics import RunMetrics, cause_of
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.errors import (
    LedgerError,
    MissingExtraError,
    OutspokenError,
    PromptTooLongError,
    ProviderError,
    ReplyError,
    StoppedError,
    UsageError,
)
from outspoken.ledger import Draw, Ledger, LedgerEntry, entry_of
from outspoken.models.base import Model

__all__ = ["Call", "ModelCaller", "RetryPolicy"]

OVERLOADED = frozenset({429, 503, 529})
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
# So many failures in a row for one reason end a run: where the caller is at fault, where nothing has ever worked,
# and otherwise.
_HOPELESS, _NEVER, _AFTER_ALL = 3, 10, 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try. `timeout` bounds one attempt and `total` a request with all its attempts and waits, in
    seconds; after `attempts` that failed for another reason than overload the request has failed."""

    timeout: float = 600.0
    total: float = 1800.0
    attempts: int = 6

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.total > 0 and self.attempts >= 1):
            raise UsageError("timeouts must be above 0 seconds and attempts at least 1")


class ModelCaller:
    """Answers the requests of all prompts of a run; each execution of a method gets a `Call` of its own.

    A reply that is in the ledger is not asked for again, and what comes back goes into it before it is used. What
    may succeed later is tried again after a random wait that doubles (full jitter), or after what the server asks
    for. Nothing is sent any more once the gate is shut: because the caller wants it, because the budget is spent,
    or because all fails for the same reason, which `broken` then holds.

    `identity` is the model's name in the ledger (see `Model.identity`), `dollars` what a usage costs (None: nobody
    knows).
    """

    def __init__(
        self,
        model: Model,
        gate: RateLimiter,
        meter: RunMetrics,
        *,
        ledger: Ledger | None = None,
        patience: RetryPolicy = RetryPolicy(),
        budget: Budget = Budget(),
        dollars: Callable[[Usage], float] | None = None,
    ) -> None:
        self.model = model
        self.gate = gate
        self.meter = meter
        self.broken: OutspokenError | None = None
        self.identity = model.name
        self._ledger = ledger
        # Each request of a run has a key of its own: what is to be found was there before.
        self._earlier = None if ledger is None or ledger.empty else ledger
        self._patience = patience
        self._jitter = random.Random()
        self._cause = ""
        self._in_a_row = 0
        self._unread = 0
        self._spending = BudgetTracker(budget, meter, gate, dollars)

    def call(self, draw: Draw) -> Call:
        """One execution of a method: `draw` tells it apart from others that ask the same."""
        return Call(self, draw)

    def entry(self, request: ChatRequest, draw: Draw) -> LedgerEntry:
        return entry_of(self.identity, request, draw)

    async def answer(self, request: ChatRequest, entry: LedgerEntry) -> ChatReply:
        """The reply to a request. Raises what the model raised last, or `StoppedError`."""
        if self._earlier is not None and (known := self._earlier.get(entry.key)) is not None:
            self.meter.from_ledger += 1
            self.meter.usage_from_ledger += known.usage
            return known
        self.model.check(request)
        until, failed, waits = time.monotonic() + self._patience.total, 0, 0
        while True:
            begun = time.monotonic()
            try:
                reply = await self._attempt(request)
            except ProviderError as error:
                busy = self._busy(error)
                failed, waits = failed + (not busy), waits + 1
                wait = self._wait(waits, error.retry_after)
                late = time.monotonic() + wait > until
                final = late or not error.retryable or failed >= self._patience.attempts
                self._count_failure(error, counts=final or not (busy or self.meter.requests))
                if final:
                    raise
                await self.gate.pause(wait)
            except UsageError as error:
                self._count_failure(error, counts=not isinstance(error, PromptTooLongError))
                raise
            else:
                if self._ledger is not None:
                    await self._keep(self._ledger, entry, reply, time.monotonic() - begun)
                return reply

    async def _keep(self, ledger: Ledger, entry: LedgerEntry, reply: ChatReply, seconds: float) -> None:
        """Store a reply. Where that fails nothing more is asked: it could not be kept either."""
        try:
            ledger.put(entry, reply, seconds)
            if ledger.backlog:
                await ledger.settled()
        except LedgerError as error:
            self._break(error)
            raise

    async def _attempt(self, request: ChatRequest) -> ChatReply:
        gate, spending = self.gate, self._spending
        expected = spending.expected(request).total_tokens if gate.counts_tokens else 0
        await gate.enter(expected)
        begun, spent = time.monotonic(), 0
        try:
            await spending.begin(request)
            try:
                async with asyncio.timeout(self._patience.timeout) as scope:
                    reply = await self.model.complete(request)
            finally:
                spending.end()
            gate.answered()
            self._in_a_row = 0
            spent = spending.book(request, reply).total_tokens
            return reply
        except TimeoutError as error:
            if not scope.expired():
                raise
            gate.overloaded(begun)
            raise ProviderError(
                f"{self.model.name} did not answer within {self._patience.timeout:g} s: raise the timeout",
                retryable=True,
                original=error,
            ) from error
        except ProviderError as error:
            if error.status in OVERLOADED or isinstance(error.original, TimeoutError):
                gate.overloaded(begun, error.retry_after)
            raise
        finally:
            gate.leave(more_tokens=spent - expected)

    # Failures.

    def _busy(self, error: ProviderError) -> bool:
        """Whether the server only wants to be left alone for a while, or is being started again."""
        restarting = self.meter.requests > 0 and isinstance(error.original, ConnectionRefusedError)
        return error.status in OVERLOADED or restarting

    def _wait(self, waits: int, asked: float | None) -> float:
        """Seconds until the next attempt: full jitter over a time that doubles, and never less than was asked."""
        jitter = self._jitter.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(waits, 10)))
        return jitter if asked is None else asked + min(jitter, asked, 1.0)

    def _count_failure(self, error: OutspokenError, *, counts: bool) -> None:
        self.meter.attempts_failed += 1
        if not counts:
            return
        hopeless = isinstance(error, UsageError) or getattr(error, "status", None) in (401, 403)
        most = _HOPELESS if hopeless else _AFTER_ALL if self.meter.requests else _NEVER
        if isinstance(error, MissingExtraError):
            most = 1  # no prompt can be answered before it is installed
        self._in_a_row = self._in_a_row + 1 if cause_of(error) == self._cause else 1
        self._cause = cause_of(error)
        if self._in_a_row >= most:
            self._break(error)

    def as_error(self, stopped: str) -> OutspokenError:
        """The error behind what a distribution says of why it was `stopped`."""
        return StoppedError(stopped) if stopped == self.gate.stopped else OutspokenError(stopped)

    def ended(self, error: OutspokenError | None) -> None:
        """A prompt has ended, with or without responses: when one after the other is unreadable, stop."""
        if not isinstance(error, ReplyError):
            self._unread = 0
            return
        self._unread += 1
        if self._unread >= _AFTER_ALL:
            self._break(error)

    def _break(self, error: OutspokenError) -> None:
        if not self.gate.stopped:
            self.broken = error
            self.gate.shut(f"everything fails for the same reason: {error}")


class Call:
    """One execution of a method: what `drive` asks. `keys` are the ledger's keys of its requests, in order."""

    __slots__ = ("_caller", "_draw", "keys")

    def __init__(self, caller: ModelCaller, draw: Draw) -> None:
        self._caller = caller
        self._draw = draw
        self.keys: list[str] = []

    def check(self, request: ChatRequest) -> None:
        self._caller.model.check(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        entry = self._caller.entry(request, (*self._draw, len(self.keys)))
        self.keys.append(entry.key)
        return await self._caller.answer(request, entry)
