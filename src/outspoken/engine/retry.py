"""Sends the requests of a run: ledger, rate limit, timeouts, retries, budget, and when to give up."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import Callable
from logging import DEBUG

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.engine.budget import Budget, BudgetTracker
from outspoken.engine.metrics import RunMetrics, cause_of
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.engine.request_log import log_error, log_reply, log_request, logger
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
from outspoken.models.base import Model, not_a_reply
from outspoken.settings import RequestLimits

__all__ = ["OVERLOADED", "Call", "FailedAttempts", "ModelCaller", "no_answer_in_time", "seconds_to_wait"]

OVERLOADED = frozenset({429, 503, 529})
"""The HTTP statuses of an overloaded server."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_random = random.Random()
_logger = logging.getLogger(__name__)
# A run ends after this many equal failures in a row: invalid requests, before the first reply, otherwise.
_HOPELESS, _NEVER, _AFTER_SUCCESS = 3, 10, 20


def seconds_to_wait(waits: int, retry_after: float | None) -> float:
    """The time until the next attempt: full jitter below a doubling bound, never less than `retry_after`.

    A server that asks for 0 seconds, or for a time that has passed, states no wait.
    """
    jitter = _random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(waits, 10)))
    return retry_after + min(jitter, retry_after, 1.0) if retry_after else jitter


def no_answer_in_time(model: str, seconds: float, cause: TimeoutError) -> ProviderError:
    """Our error for a model that did not answer within `seconds`."""
    message = f"{model} did not answer within {seconds:g} s: raise the timeout"
    return ProviderError(message, retryable=True, original=cause)


class FailedAttempts:
    """The failed attempts at one request, which `begun` at this time of the monotonic clock."""

    def __init__(self, limits: RequestLimits, begun: float) -> None:
        self._attempts = limits.attempts
        self._total = limits.total_timeout
        self._deadline = begun + limits.total_timeout
        self._counted = self._all = 0
        self.last: ProviderError | None = None

    @property
    def time_left(self) -> float:
        """The seconds in which another attempt may begin."""
        return self._deadline - time.monotonic()

    def wait_after(self, error: ProviderError, *, counts: bool = True) -> float | None:
        """The seconds to wait for the next attempt; None if there is none: the error is final.

        An error that does not count is not one of the `attempts` of the limits. If it asks for a longer wait than
        there is time, it says so from then on.
        """
        self._all += 1
        self._counted += counts
        known, self.last = self.last is error, error
        wait, left = seconds_to_wait(self._all, error.retry_after), self.time_left
        if not error.retryable or self._counted >= self._attempts:
            return None
        if not known and error.retry_after and error.retry_after > left:
            error.args = (f"{error}; {_too_long(error.retry_after, self._total)}",)
        return wait if wait <= left else None


def _too_long(seconds: float, total: float) -> str:
    return (
        f"the server asks to wait {seconds:,.0f} s, and a request may take {total:,.10g} s in all: "
        "try again later, or raise total_timeout"
    )


class ModelCaller:
    """Answers the requests of all prompts of a run; each execution of a method gets its own `Call`.

    A reply in the ledger is not requested again, and a new reply is stored before it is used: if another process
    has stored one for the same request meanwhile, that one is used. Transient errors (429, 5xx, lost connections)
    are retried after a random wait whose bound doubles (full jitter), or after the wait that the server asks for;
    permanent ones (400, 401) are not. Nothing is sent after the run is stopped: by the user, by the budget, or
    because everything fails for one reason, which `broken` then holds.

    `unreadable` counts the latest prompts in a row with unreadable replies. `identity` is the model's name in the
    ledger (see `Model.identity`); `dollars` computes the price of a usage (None: unknown).
    """

    def __init__(
        self,
        model: Model,
        limiter: RateLimiter,
        metrics: RunMetrics,
        *,
        ledger: Ledger | None = None,
        limits: RequestLimits = RequestLimits(),
        budget: Budget = Budget(),
        dollars: Callable[[Usage], float] | None = None,
    ) -> None:
        self.model = model
        self.limiter = limiter
        self.metrics = metrics
        self.broken: OutspokenError | None = None
        self.identity = model.name
        self.ledger = ledger
        # All requests of a run have different keys: only replies of earlier runs and of others are looked up.
        self._earlier = ledger is not None and not ledger.empty
        self._limits = limits
        self._cause = ""
        self._in_a_row = 0
        self.unreadable = 0
        self._budget = BudgetTracker(budget, metrics, limiter, dollars)

    def call(self, draw: Draw) -> Call:
        """One execution of a method; `draw` distinguishes it from others with the same requests."""
        return Call(self, draw)

    async def answer(self, request: ChatRequest, entry: LedgerEntry | None) -> ChatReply:
        """The reply to a request that the model has checked; `entry` is its place in the ledger.

        Raises the model's last error, or `StoppedError`.
        """
        ledger = None if entry is None else self.ledger
        if ledger is not None and (self._earlier or ledger.shared) and (known := self._known(entry)) is not None:
            return known
        failed, started = None, time.monotonic()
        while True:
            begun = time.monotonic()
            try:
                reply, seconds = await self._attempt(request, entry, failed)
            except ProviderError as error:
                if logger.isEnabledFor(DEBUG):
                    log_error(self.model.name, error, time.monotonic() - begun)
                busy = self._busy(error)
                failed = failed or FailedAttempts(self._limits, started)
                wait = failed.wait_after(error, counts=not busy)
                self._count_failure(error, counts=wait is None or not (busy or self.metrics.requests))
                if wait is None:
                    raise
                await self.limiter.pause(wait)
            except UsageError as error:
                self._count_failure(error, counts=not isinstance(error, PromptTooLongError))
                raise
            else:
                if entry is None or ledger is None:
                    return reply
                return await self._store(ledger, entry, reply, seconds)

    def _known(self, entry: LedgerEntry | None) -> ChatReply | None:
        """The reply in the ledger."""
        known = None if entry is None or self.ledger is None else self.ledger.get(entry.key)
        if known is not None:
            self.metrics.from_ledger += 1
            self.metrics.usage_from_ledger += known.usage
        return known

    async def _store(self, ledger: Ledger, entry: LedgerEntry, reply: ChatReply, seconds: float) -> ChatReply:
        """Store a reply, and return the stored one: that of another process which was first.

        A failure stops the run, because further replies could not be stored either.
        """
        try:
            stored = await ledger.store(entry, reply, seconds)
        except LedgerError as error:
            self._break(error)
            raise
        self.metrics.superseded += stored is not reply
        return stored

    async def _enter(self, tokens: int, failed: FailedAttempts | None) -> None:
        """Wait for the turn of a request, in the time that it has left.

        Before the first attempt that concerns only the waits that the server asks for, and not those for a place
        and for the pace that the user set.
        """
        try:
            if failed is None:
                await self.limiter.enter(tokens, self._limits.total_timeout)
            else:
                async with asyncio.timeout(failed.time_left):
                    await self.limiter.enter(tokens)
        except TimeoutError:
            if failed is not None and failed.last is not None:
                raise failed.last from None
            pause = self.limiter.pause_left
            message = f"{self.model.name}: {_too_long(pause, self._limits.total_timeout)}"
            raise ProviderError(message, status=429, retry_after=pause, retryable=True) from None

    async def _attempt(
        self, request: ChatRequest, entry: LedgerEntry | None, failed: FailedAttempts | None
    ) -> tuple[ChatReply, float]:
        """The reply, and the seconds that the model took, without those before it was asked."""
        limiter, budget = self.limiter, self._budget
        expected = budget.expected(request).total_tokens if limiter.paces_tokens else 0
        await self._enter(expected, failed)
        begun, used = time.monotonic(), 0
        try:
            if budget.bounded:
                await budget.begin(request)
            try:
                shared = self.ledger is not None and self.ledger.shared
                if shared and (known := self._known(entry)) is not None:
                    return known, 0.0  # another process stored it while this request waited
                logged = logger.isEnabledFor(DEBUG)
                if logged:
                    log_request(self.model.name, request)
                asked = time.monotonic()
                async with asyncio.timeout(self._limits.timeout) as scope:
                    coming = self.model.complete(request)
                    if not hasattr(coming, "__await__"):
                        raise not_a_reply(self.model, coming)
                    reply = await coming
                    if not isinstance(reply, ChatReply):
                        raise not_a_reply(self.model, reply)
                seconds = time.monotonic() - asked
                self.metrics.model_seconds += seconds
            finally:
                if budget.bounded:
                    budget.end()
            if logged:
                log_reply(self.model.name, reply, time.monotonic() - begun)
            self._in_a_row = 0
            usage = budget.add(request, reply)
            if limiter.paces_tokens:
                used = usage.total_tokens
            limiter.answered()
            return reply, seconds
        except TimeoutError as error:
            if not scope.expired():
                raise
            limiter.overloaded(begun)
            raise no_answer_in_time(self.model.name, self._limits.timeout, error) from error
        except ProviderError as error:
            if _is_out_of_files(error):
                limiter.narrow(begun)
            elif error.status in OVERLOADED or isinstance(error.original, TimeoutError):
                self._slow_down(begun, error.retry_after)
            raise
        finally:
            limiter.leave(more_tokens=used - expected)

    def _slow_down(self, begun: float, wait: float | None) -> None:
        """Send less, and nothing while the server asks to wait; a wait that no request can outlast is not kept."""
        limiter = self.limiter
        if wait is not None and wait > self._limits.total_timeout:
            wait = None
        if wait is not None and wait > limiter.pause_left + 1:
            _logger.info("the server asks to wait %.0f s", wait)
        limiter.overloaded(begun, wait)

    def _busy(self, error: ProviderError) -> bool:
        """Whether the server is overloaded or is being restarted, or this process has too many open files."""
        restarting = self.metrics.requests > 0 and isinstance(error.original, ConnectionRefusedError)
        return error.status in OVERLOADED or restarting or _is_out_of_files(error)

    def _count_failure(self, error: OutspokenError, *, counts: bool) -> None:
        self.metrics.attempts_failed += 1
        if not counts:
            return
        hopeless = isinstance(error, UsageError) or getattr(error, "status", None) in (401, 403)
        most = _HOPELESS if hopeless else _AFTER_SUCCESS if self.metrics.requests else _NEVER
        if isinstance(error, MissingExtraError):
            most = 1  # no prompt can be answered before it is installed
        self._in_a_row = self._in_a_row + 1 if cause_of(error) == self._cause else 1
        self._cause = cause_of(error)
        if self._in_a_row >= most:
            self._break(error)

    def as_error(self, stopped: str) -> OutspokenError:
        """The error for a distribution that `stopped` early for this reason."""
        return StoppedError(stopped) if stopped == self.limiter.stopped else OutspokenError(stopped)

    def prompt_ended(self, error: OutspokenError | None) -> None:
        """Count unreadable prompts in a row, and stop the run after too many. `error` is that of the prompt."""
        if not isinstance(error, ReplyError):
            self.unreadable = 0
            return
        self.unreadable += 1
        if self.unreadable >= _AFTER_SUCCESS:
            self._break(error)

    def _break(self, error: OutspokenError) -> None:
        if not self.limiter.stopped:
            self.broken = error
            self.limiter.stop(f"everything fails for the same reason: {error}")


def _is_out_of_files(error: ProviderError) -> bool:
    return getattr(error.original, "errno", None) in (errno.EMFILE, errno.ENFILE)


class Call:
    """One execution of a method, as `drive` needs it. `requests` counts its requests."""

    __slots__ = ("_caller", "_draw", "_entries", "_sent", "check", "requests")

    def __init__(self, caller: ModelCaller, draw: Draw) -> None:
        self._caller = caller
        self._draw = draw
        self._sent: list[ChatRequest] = []
        self._entries: dict[int, LedgerEntry] = {}
        self.requests = 0
        self.check = caller.model.check
        """Raises `UsageError` for a request that the model cannot answer; to be called before `complete`."""

    @property
    def parallel(self) -> int:
        """The number of requests that may be sent at once."""
        return self._caller.limiter.limit

    async def complete(self, request: ChatRequest) -> ChatReply:
        caller, number = self._caller, self.requests
        self._sent.append(request)
        self.requests += 1
        return await caller.answer(request, None if caller.ledger is None else self._entry(number))

    def key(self, number: int) -> str:
        """The key in the ledger of the request with this number, from 0."""
        return self._entry(number).key

    def _entry(self, number: int) -> LedgerEntry:
        if number not in self._entries:
            draw = (*self._draw, number)
            self._entries[number] = entry_of(self._caller.identity, self._sent[number], draw)
        return self._entries[number]
