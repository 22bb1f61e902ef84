"""One pool: the candidates of one request that wait to be drawn, and the fills that add to them."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

from outspoken.candidate import Candidate
from outspoken.chat import Message
from outspoken.chat_reply import Usage
from outspoken.distribution import Distribution
from outspoken.errors import StoppedError
from outspoken.serve.pool.refill import RunningFill
from outspoken.serve.pool.values import (
    DIGEST_BYTES,
    CandidateListener,
    Draw,
    ExhaustedError,
    Fill,
    FillRecord,
    FillResult,
    PoolKey,
    PoolRecord,
    PoolRequest,
    canonical_json,
    distribution_id,
    id_of_json,
    text_digest,
    with_timeout,
)

__all__ = ["Pool"]

_STALE_FILLS = 2
_MOST_SHOWN = 1_000  # candidates
_NO_USAGE = Usage()
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PooledCandidate:
    """A candidate, the id of its distribution, the number of the fill it came from, and its index there."""

    candidate: Candidate
    distribution: str
    fill: int
    index: int


class ShownDistributions:
    """The first distribution of a pool and the latest ones, about 1,000 candidates in all, by fill and id."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, str, Distribution]] = []
        self._mixture: tuple[str, Distribution] | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def first(self) -> tuple[str, Distribution]:
        """The id of the first distribution, and the distribution."""
        _, name, distribution = self._entries[0]
        return name, distribution

    @property
    def oldest_fill(self) -> int:
        """The number of the oldest fill beside the first one."""
        return self._entries[1][0] if len(self._entries) > 1 else 1

    def add(self, fill: int, name: str, distribution: Distribution) -> None:
        """Add the distribution of a fill, and drop older ones, but never the first."""
        self._entries.append((fill, name, distribution))
        self._mixture = None
        while len(self._entries) > 2 and sum(len(entry) for *_, entry in self._entries) > _MOST_SHOWN:
            del self._entries[1]

    def mixture(self) -> Distribution:
        """The equal mixture of all distributions."""
        first, *others = (distribution for *_, distribution in self._entries)
        if not others:
            return first
        if self._mixture is None:
            mixture = first.merge(*others)
            self._mixture = distribution_id(mixture), mixture
        return self._mixture[1]

    def find(self, name: str) -> Distribution | None:
        """The distribution with this id; None if it is not kept."""
        if self._mixture is not None and self._mixture[0] == name:
            return self._mixture[1]
        return next((distribution for _, known, distribution in self._entries if known == name), None)

    def candidates(self) -> Iterator[PooledCandidate]:
        """The candidates of all distributions that can be drawn, each text once."""
        seen: set[bytes] = set()
        for entry in self._entries:
            yield from (candidate for candidate, _ in _new_candidates(*entry, seen))


def _new_candidates(
    fill: int, name: str, distribution: Distribution, known: set[bytes]
) -> Iterator[tuple[PooledCandidate, bytes]]:
    """The candidates that can be drawn and are not `known`, with their digests, which become known."""
    for index, candidate in enumerate(distribution):
        digest = text_digest(candidate.text)
        if candidate.probability > 0 and digest not in known:
            known.add(digest)
            yield PooledCandidate(candidate, name, fill, index), digest


@dataclass(eq=False)
class Pool:
    """The candidates of one request, drawn without replacement by all clients.

    A fill begins when fewer than `ahead` times k candidates are left. `changed` is called after each fill with the
    number of new texts and the change of `bytes`, the approximate memory of the pool. With `saved`, new fills are
    kept for the next `record` until `recorded` is called. `waiting` are the candidates that were not drawn yet,
    the next one last; `shown` are the distributions that clients can still see.
    """

    key: PoolKey
    fill: Fill
    _: KW_ONLY
    ahead: float
    fill_seconds: float
    changed: Callable[[Pool, int, int], None]
    saved: bool = False

    def __post_init__(self) -> None:
        self.used = time.time()
        self.users = self.bytes = self._json_size = 0
        self._unsaved: list[FillRecord] = []
        self._random = random.Random()
        self.waiting: list[PooledCandidate] = []
        self._recycled: list[PooledCandidate] = []
        self.shown = ShownDistributions()
        self._known: set[bytes] = set()
        self._history: tuple[Message, ...] = ()
        self._fills = self._drawn = self._stale = self._merged = self._saved = 0
        self._restored: PoolRecord | None = None
        self._filling: RunningFill | None = None
        self._failed = self._closed = False

    @property
    def size(self) -> int:
        """The number of texts in this pool, drawn or not."""
        return len(self._known)

    @property
    def busy(self) -> bool:
        """Whether somebody draws from it now, or a fill is running."""
        return self.users > 0 or self._filling is not None

    async def draw(self, request: PoolRequest, n: int, *, recycle: bool = False) -> list[Draw]:
        """Draw `n` candidates that were not drawn before; waits for fills if too few are left.

        Raises the error of a fill that it waited for, or `ExhaustedError`; nothing is taken from the pool then.
        """
        taken: list[tuple[PooledCandidate, int, bool, Usage]] = []
        try:
            while len(taken) < n:
                waits, usage = 0, _NO_USAGE
                while not self.waiting and self._stale < _STALE_FILLS:
                    usage += await self._wait_for_fill(request)
                    waits += 1
                again = not self.waiting
                earlier = [entry for entry, *_ in taken]
                entry = self._draw_again(earlier, n, recycle) if again else self.waiting.pop()
                taken.append((entry, waits, again, usage))
        except BaseException:
            for entry, _, again, _ in reversed(taken):
                (self._recycled if again else self.waiting).append(entry)
            raise
        before = self._drawn
        self._drawn += n
        self._fill_ahead(request)
        return [
            Draw(entry.candidate, entry.distribution, number, waits, again, usage)
            for number, (entry, waits, again, usage) in enumerate(taken, before + 1)
        ]

    def _draw_again(self, taken: Sequence[PooledCandidate], n: int, recycle: bool) -> PooledCandidate:
        """A candidate that was drawn before, but not by this call."""
        excluded = {text_digest(entry.candidate.text) for entry in taken}
        if recycle:
            for _ in range(2):
                for at in range(len(self._recycled) - 1, -1, -1):
                    if text_digest(self._recycled[at].candidate.text) not in excluded:
                        return self._recycled.pop(at)
                self._recycled = self._in_order(self.shown.candidates())
        reason = f"{n} were asked for at once" if recycle else "all were drawn"
        problem = f"it gave {self.size} different responses, and {reason}"
        remedy = "ask for fewer, with fresh, with recycle, or something else"
        raise ExhaustedError(f"the model has nothing new for this request: {problem}; {remedy}")

    async def draw_seeded(self, request: PoolRequest, n: int, seed: int) -> list[Draw]:
        """Draw `n` different candidates of the first distribution: the same ones for the same seed.

        Takes nothing from the pool. Raises `UsageError` if the distribution has fewer.
        """
        waits, usage = await self._wait_until_filled(request)
        name, distribution = self.shown.first
        first, *others = distribution.draw(n, seed=seed, replace=False)
        draws = [Draw(candidate, name, number, 0) for number, candidate in enumerate(others, 2)]
        return [Draw(first, name, 1, waits, usage=usage), *draws]

    async def distribution(self, request: PoolRequest, listener: CandidateListener | None = None) -> Distribution:
        """The equal mixture of the first distribution and the latest ones, about 1,000 candidates in all.

        If the model has to be asked first, `listener` is called with each candidate.
        """
        await self._wait_until_filled(request, listener)
        return self.shown.mixture()

    async def _wait_until_filled(
        self, request: PoolRequest, listener: CandidateListener | None = None
    ) -> tuple[int, Usage]:
        waits, usage = 0, _NO_USAGE
        while not self.shown:
            usage += await self._wait_for_fill(request, listener)
            waits += 1
        return waits, usage

    async def _wait_for_fill(self, request: PoolRequest, listener: CandidateListener | None = None) -> Usage:
        """Wait for the running fill, or start one; returns the usage of the fill that it started."""
        running = self._filling
        usage = await (running or self._start_fill(request, streamed=listener is not None)).wait(listener)
        return usage if running is None else _NO_USAGE

    def _fill_ahead(self, request: PoolRequest) -> None:
        """Start a fill before it is needed, unless the last one failed."""
        few = len(self.waiting) < self.ahead * request.settings.k
        if few and self._stale < _STALE_FILLS and not (self._filling or self._failed or self._closed):
            self._start_fill(request)

    def _start_fill(self, request: PoolRequest, *, streamed: bool = False) -> RunningFill:
        if self._closed:
            raise StoppedError("the server stops: ask again later")
        running = self._filling = RunningFill(
            lambda listener: self._refill(request, listener), streamed, f"fill {self.key[:8]}", self._fill_ended
        )
        return running

    def _fill_ended(self, task: asyncio.Task[Usage]) -> None:
        self._filling = None
        # Reading the exception keeps asyncio from reporting it if nobody waited for the fill.
        self._failed = task.cancelled() or task.exception() is not None
        if self._failed and not task.cancelled() and self.users == 0:
            _logger.warning("a fill ahead of need failed: %s", task.exception())

    async def _refill(self, request: PoolRequest, listener: CandidateListener | None) -> Usage:
        filling = self.fill(request, self._history, listener)
        result = await with_timeout(filling, self.fill_seconds, "fewer candidates")
        self._merge(result)
        return result.distribution.provenance.usage

    def _merge(self, result: FillResult) -> None:
        """Add the new texts of a distribution, and put all waiting candidates into a new order."""
        distribution = result.distribution
        text = canonical_json(distribution)
        name, number = id_of_json(text), self._fills + 1
        new = list(_new_candidates(number, name, distribution, self._known))
        # A conversation that only repeats itself is not continued.
        self._history = result.history if new else ()
        self._merged += 1
        self._stale = 0 if new else self._stale + 1
        if new:
            self._fills = number
            self.waiting = self._in_order([*self.waiting, *(candidate for candidate, _ in new)])
            if self.saved:
                self._unsaved.append(FillRecord(number, b"".join(digest for _, digest in new), text))
            self.shown.add(number, name, distribution)
            self._json_size += len(text)
        before = self.bytes
        self.bytes = self._json_size + sum(len(message.content) for message in self._history)
        self.changed(self, len(new), self.bytes - before)

    def _in_order(self, entries: Iterable[PooledCandidate]) -> list[PooledCandidate]:
        """The entries in a random order by weight, the first to be drawn last.

        Each entry gets an exponential waiting time with its weight as the rate. Sorting by these times is drawing
        without replacement (Efraimidis and Spirakis, 2006). They are memoryless, so they may be drawn again.
        """
        return sorted(entries, key=lambda e: self._random.expovariate(e.candidate.probability), reverse=True)

    def record(self) -> PoolRecord:
        """The state to be saved now."""
        history = None
        if self._merged != self._saved:
            history = json.dumps([[message.role, message.content] for message in self._history])
        return PoolRecord(
            self.key,
            self.used,
            self._drawn,
            self._stale,
            self._merged,
            tuple((entry.fill, entry.index) for entry in self.waiting),
            history,
            tuple(self._unsaved),
            self.shown.oldest_fill,
        )

    def recorded(self, record: PoolRecord) -> None:
        """Note that this record was saved."""
        self._saved = record.merged
        del self._unsaved[: len(record.fills)]

    def restore(self, record: PoolRecord) -> None:
        """Restore a saved state; `parse_restored` parses its candidates and conversation later."""
        self.used, self._drawn, self._stale = record.used, record.drawn, record.stale
        self._merged = self._saved = record.merged
        self._restored = record
        for fill in record.fills:
            self._fills = fill.number
            self._json_size += len(fill.distribution or "")
            starts = range(0, len(fill.digests), DIGEST_BYTES)
            self._known.update(fill.digests[start : start + DIGEST_BYTES] for start in starts)
        self.bytes = self._json_size + len(record.history or "")

    def parse_restored(self) -> None:
        """Make a restored pool ready for drawing; other pools are ready.

        Raises `ValueError`, `TypeError`, `LookupError` or `AttributeError` for an invalid record.
        """
        if self._restored is None:
            return
        record = self._restored
        parsed = {
            fill.number: (id_of_json(fill.distribution), Distribution.from_json(fill.distribution))
            for fill in record.fills
            if fill.distribution is not None
        }
        self.waiting = [
            PooledCandidate(parsed[fill][1][index], parsed[fill][0], fill, index) for fill, index in record.waiting
        ]
        self._history = tuple(Message(role, content) for role, content in json.loads(record.history or "[]"))
        if 1 not in parsed:
            raise ValueError("its first distribution is missing")
        self.shown = ShownDistributions()
        for number, (name, distribution) in parsed.items():
            self.shown.add(number, name, distribution)
        self._restored = None

    async def close(self) -> None:
        """Cancel the running fill; draws that wait for it raise `StoppedError`."""
        self._closed = True
        if self._filling is not None:
            await self._filling.cancel()
