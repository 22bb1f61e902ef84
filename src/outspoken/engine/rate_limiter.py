"""Limits how many requests are under way at once, and when the next one may be sent."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections import deque
from dataclasses import dataclass

from outspoken.errors import StoppedError, UsageError

__all__ = ["EvenPace", "RateLimiter"]

START = 32
_SHORTEST_WINDOW = 0.05
_GROWTH = 1.1
_QUICK = 1.0
# Files that are opened later: of the ledger, outputs, temporary ones.
_OTHER_FILES = 12
_MANY_FILES = 4096


@dataclass(slots=True)
class EvenPace:
    """An even pace of `per_minute` units without bursts, so that no period of a minute has more than that."""

    per_minute: float
    at: float = 0.0

    def __post_init__(self) -> None:
        if not self.per_minute > 0:
            raise UsageError(f"a limit per minute must be above 0, not {self.per_minute:g}")

    def reserve(self, units: float, now: float) -> float:
        """Reserve a place for `units`; returns the time at which they may be sent."""
        due = max(self.at, now)
        self.at = due + units * 60 / self.per_minute
        return due

    def correct(self, units: float) -> None:
        """Account for units that turned out to be more, or fewer, than were reserved."""
        self.at += units * 60 / self.per_minute


class RateLimiter:
    """Limits the requests of a whole run, so that one overloaded reply slows all of them down.

    At most `limit` requests are under way. After each `limit` replies it doubles, as long as throughput rises or
    replies take less than a second; afterwards it grows by a sixteenth. It halves when the server is overloaded
    (429, 503) or does not answer in time, then grows by half until it is near that point again. It never exceeds
    `most`; with `steady` it equals `most`. `requests_per_minute` and `tokens_per_minute` also pace the requests.
    Unless it is steady, it leaves room for files where the process may open only a few hundred. Nobody is let in
    while the server wants to be left alone. After `stop`, `closed` is set and `stopped` is the reason.
    """

    def __init__(
        self,
        most: int,
        *,
        steady: bool = False,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        if most < 1:
            raise UsageError(f"concurrency must be at least 1, not {most}")
        self.most = most if steady else min(most, _connections_left())
        self.limit = most if steady else min(START, self.most)
        self.active = 0
        self.stopped = ""
        self._requests = None if requests_per_minute is None else EvenPace(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else EvenPace(tokens_per_minute)
        self.paces_tokens = self._tokens is not None
        self._resume = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.closed = asyncio.Event()
        self._doubling = not steady
        self._cut = 0.0
        self._near = 0.0
        self._rate = 0.0
        self._full = False
        self._answers = 0
        self._since = time.monotonic()

    @property
    def pause_left(self) -> float:
        """The seconds until the pause ends that the server asked for; 0 if there is none."""
        return max(0.0, self._resume - time.monotonic())

    async def enter(self, tokens: float = 0.0, longest_pause: float = math.inf) -> None:
        """Wait until one more request, of about `tokens`, may be sent.

        Raises `StoppedError` after `stop`, and `TimeoutError` if the server wants to be left alone for more than
        `longest_pause` seconds after it would have been this request's turn.
        """
        self._check()
        if self.active < self.limit and not self._waiting:
            self.active += 1
        else:
            self._full = True
            await self._queue()
        try:
            now = time.monotonic()
            due = now
            if self._requests is not None:
                due = max(due, self._requests.reserve(1, now))
            if self._tokens is not None:
                due = max(due, self._tokens.reserve(tokens, now))
            while (wait := max(due, self._resume) - time.monotonic()) > 0:
                if self._resume > due + longest_pause:
                    raise TimeoutError
                await self.pause(wait)
        except BaseException:
            self._free()
            raise

    def leave(self, *, more_tokens: float = 0.0) -> None:
        """Note that a request has ended, which used `more_tokens` than expected."""
        if self._tokens is not None:
            self._tokens.correct(more_tokens)
        self._free()

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises `StoppedError` as soon as the run is stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self.closed.wait()
        except TimeoutError:
            return
        self._check()

    def stop(self, reason: str) -> None:
        """Let no further request start; waiting ones get a `StoppedError`. Those under way continue."""
        if not self.stopped:
            self.stopped = reason
            self.closed.set()
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(StoppedError(reason))
            self._waiting.clear()

    def answered(self) -> None:
        """Note that the server answered without an error."""
        self._answers += 1
        if self._answers < self.limit or self.limit >= self.most:
            return
        now = time.monotonic()
        if self._doubling and now - self._since < _SHORTEST_WINDOW:
            return  # too short to measure a rate
        rate = self._answers / max(now - self._since, 1e-9)
        if self._full:
            # By Little's law an answer takes limit / rate seconds.
            if self._doubling and rate < _GROWTH * self._rate and self.limit > rate * _QUICK:
                self._doubling = False
            share = 1 if self._doubling else 2 if self.limit < self._near else 16
            self.limit = min(self.most, self.limit + max(1, self.limit // share))
            self._admit()
        self._begin_window(rate, now)

    def overloaded(self, begun: float, wait: float | None = None) -> None:
        """Note that the server is overloaded, and asks for a pause of `wait` seconds.

        Requests that were `begun` before the limit was last lowered do not lower it again.
        """
        now = time.monotonic()
        if wait is not None:
            self._resume = max(self._resume, now + wait)
        if begun >= self._cut:
            self._cut, self._doubling, self._near = now, False, 0.75 * self.limit
            self.limit = max(1, self.limit // 2)
            self._begin_window(0.0, now)

    def narrow(self, begun: float) -> None:
        """Note that this process could not open one more connection: the limit falls, and rises no more."""
        self.overloaded(begun)
        self.most = min(self.most, self.limit)

    def _begin_window(self, rate: float, now: float) -> None:
        self._rate, self._answers, self._since, self._full = rate, 0, now, False

    def _check(self) -> None:
        if self.stopped:
            raise StoppedError(self.stopped)

    async def _queue(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._free()  # the place had already been assigned
            raise

    def _free(self) -> None:
        self.active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.active < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)


def _connections_left() -> int:
    """How many connections this process can open and still open files, as far as that is a limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/dev/fd"))
    except (ImportError, OSError):
        return sys.maxsize
    return sys.maxsize if limit < 0 or limit >= _MANY_FILES else max(1, limit - opened - _OTHER_FILES)
