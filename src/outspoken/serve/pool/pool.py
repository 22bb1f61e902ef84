"""One pool: the candidates of one request that wait to be drawn, and the fills that bring more of them."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence

from outspoken.chat import Message
from outspoken.chat_reply import Usage
from outspoken.distribution import Distribution, Verbalized
from outspoken.errors import StoppedError
from outspoken.serve.limits import in_time
from outspoken.serve.pool.values import (
    DIGEST_BYTES,
    Draw,
    ExhaustedError,
    Fill,
    Hear,
    PooledFill,
    PoolFill,
    PoolKey,
    PoolRecord,
    PoolRequest,
    Waiting,
    digest_of,
    distribution_id,
    written,
    written_id,
)

__all__ = ["Pool"]

_STALE_FILLS = 2
_logger = logging.getLogger(__name__)
_NO_USAGE = Usage()
_MOST_SHOWN = 1_000  # candidates of earlier fills that the whole distribution is made of


class Pool:
    """Candidates of one request, drawn without replacement by all who ask for it.

    `ahead` times k is how few may be left before more are asked for. `changed` is called after each fill with the
    number of new texts, and what they added to `bytes`: about how much memory it takes. With `saved`, fills are
    kept in a journal until `recorded` is told that they are stored.
    """

    def __init__(
        self,
        key: PoolKey,
        fill: Fill,
        *,
        ahead: float,
        fill_seconds: float,
        changed: Callable[[Pool, int, int], None],
        saved: bool = False,
    ) -> None:
        self.key = key
        self.used = time.time()
        self.users = 0
        self._fill = fill
        self._ahead = ahead
        self._seconds = fill_seconds
        self._changed = changed
        self._journal: list[PooledFill] | None = [] if saved else None
        self._random = random.Random()
        self.bytes = self._written = 0
        self._waiting: list[Waiting] = []
        self._again: list[Waiting] = []
        self._shown: list[tuple[int, str, Distribution]] = []
        self._whole: tuple[str, Distribution] | None = None
        self._known: set[bytes] = set()
        self._history: tuple[Message, ...] = ()
        self._fills = self._drawn = self._stale = self._merged = self._saved = 0
        self._frozen: PoolRecord | None = None
        self._filling: asyncio.Task[Usage] | None = None
        self._heard: list[Verbalized] = []
        self._listeners: list[Hear] = []
        self._failed = self._closed = False

    @property
    def size(self) -> int:
        """How many texts this pool knows, handed out or not."""
        return len(self._known)

    @property
    def waiting(self) -> int:
        """How many candidates have not been handed out."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether somebody draws from it now, or a fill is under way."""
        return self.users > 0 or self._filling is not None

    # Drawing.

    async def draw(self, want: PoolRequest, n: int, *, recycle: bool = False) -> list[Draw]:
        """Hand out `n` candidates that were not handed out before; waits for fills where too few are left.

        Raises what a fill raised that it waited for, and `ExhaustedError`; nothing is taken from the pool then.
        """
        taken: list[tuple[Waiting, int, bool, Usage]] = []
        try:
            while len(taken) < n:
                waits, usage = 0, _NO_USAGE
                while not self._waiting and self._stale < _STALE_FILLS:
                    usage += await self._filled(want)
                    waits += 1
                again = not self._waiting
                earlier = [one for one, *_ in taken]
                entry = self._drawn_before(earlier, n, recycle) if again else self._waiting.pop()
                taken.append((entry, waits, again, usage))
        except BaseException:
            for entry, _, again, _ in reversed(taken):
                (self._again if again else self._waiting).append(entry)
            raise
        before = self._drawn
        self._drawn += n
        self._look_ahead(want)
        return [
            Draw(entry.candidate, entry.distribution, number, waits, again, usage)
            for number, (entry, waits, again, usage) in enumerate(taken, before + 1)
        ]

    def _drawn_before(self, taken: Sequence[Waiting], n: int, recycle: bool) -> Waiting:
        """One that was handed out before, though not in this call."""
        mine = {digest_of(entry.candidate.text) for entry in taken}
        if recycle:
            for _ in range(2):
                for at in range(len(self._again) - 1, -1, -1):
                    if digest_of(self._again[at].candidate.text) not in mine:
                        return self._again.pop(at)
                self._again = self._in_order(self._all_shown())
        why = f"{n} were asked for at once" if recycle else "all were handed out"
        raise ExhaustedError(
            f"the model has nothing new for this request: it gave {self.size} different answers, and {why}; "
            "ask for fewer, with fresh, with recycle, or for something else"
        )

    async def draw_seeded(self, want: PoolRequest, n: int, seed: int) -> list[Draw]:
        """Draw `n` different candidates of the first distribution: the same ones for the same seed.

        Takes nothing from the pool. Raises `UsageError` where the distribution holds fewer.
        """
        waits, usage = await self._until_filled(want)
        _, name, first = self._shown[0]
        drawn = first.draw(n, seed=seed, replace=False)
        cost = [(waits, usage), *[(0, _NO_USAGE)] * (n - 1)]
        return [
            Draw(one, name, number, waits, usage=usage)
            for number, (one, (waits, usage)) in enumerate(zip(drawn, cost, strict=True), 1)
        ]

    async def whole(self, want: PoolRequest, hear: Hear | None = None) -> Distribution:
        """The equal mixture of the first distribution and the latest: as many as make about 1,000 candidates.

        Where the model must be asked first, `hear` is told of each candidate as it comes.
        """
        await self._until_filled(want, hear)
        first, *others = (distribution for *_, distribution in self._shown)
        if not others:
            return first
        if self._whole is None:
            whole = first.merge(*others)
            self._whole = distribution_id(whole), whole
        return self._whole[1]

    def named(self, name: str) -> Distribution | None:
        """The distribution of this id, where it is still held."""
        if self._whole is not None and self._whole[0] == name:
            return self._whole[1]
        return next((distribution for _, known, distribution in self._shown if known == name), None)

    async def _until_filled(self, want: PoolRequest, hear: Hear | None = None) -> tuple[int, Usage]:
        waits, usage = 0, _NO_USAGE
        while not self._shown:
            usage += await self._filled(want, hear)
            waits += 1
        return waits, usage

    def _all_shown(self) -> Iterable[Waiting]:
        seen: set[bytes] = set()
        for number, name, distribution in self._shown:
            for at, candidate in enumerate(distribution):
                digest = digest_of(candidate.text)
                if candidate.probability > 0 and digest not in seen:
                    seen.add(digest)
                    yield Waiting(candidate, name, number, at)

    # Filling.

    def _look_ahead(self, want: PoolRequest) -> None:
        """Ask for more before it is needed; after a failure only once somebody needs it."""
        few = len(self._waiting) < self._ahead * want.settings.k
        if few and self._stale < _STALE_FILLS and not (self._filling or self._failed or self._closed):
            self._start(want)

    async def _filled(self, want: PoolRequest, hear: Hear | None = None) -> Usage:
        """Wait for the fill under way, or for a new one, whose usage it returns then. Who stops waiting does not
        stop the fill."""
        began = self._filling is None
        task = self._filling or self._start(want, streamed=hear is not None)
        if hear is not None:
            for candidate in self._heard:
                hear(candidate)
            self._listeners.append(hear)
        try:
            await asyncio.wait({task})
        finally:
            if hear is not None:
                self._listeners.remove(hear)
        if task.cancelled():
            raise StoppedError("the request to the model was given up because the server stops: ask again later")
        usage = task.result()
        return usage if began else _NO_USAGE

    def _start(self, want: PoolRequest, *, streamed: bool = False) -> asyncio.Task[Usage]:
        if self._closed:
            raise StoppedError("the server stops: ask again later")
        self._heard = []
        hear = self._tell if streamed else None
        self._filling = task = asyncio.create_task(self._refill(want, hear), name=f"fill {self.key[:8]}")
        task.add_done_callback(self._ended)
        return task

    def _tell(self, candidate: Verbalized) -> None:
        self._heard.append(candidate)
        for hear in self._listeners:
            hear(candidate)

    def _ended(self, task: asyncio.Task[Usage]) -> None:
        self._filling = None
        # Looking at the exception here keeps one that nobody waits for from being reported as forgotten.
        self._failed = task.cancelled() or task.exception() is not None
        if self._failed and not task.cancelled() and self.users == 0:
            _logger.warning("asking ahead of need failed: %s", task.exception())

    async def _refill(self, want: PoolRequest, hear: Hear | None) -> Usage:
        filled = await in_time(self._fill(want, self._history, hear), self._seconds, "fewer candidates")
        self._merge(filled)
        return filled.distribution.provenance.usage

    def _merge(self, filled: PoolFill) -> None:
        """Pool what is new in a distribution, and put all that waits into a new order.

        A candidate of probability 0 is never drawn, so it is not pooled.
        """
        distribution, new, digests = filled.distribution, [], []
        text = written(distribution)
        name, number = written_id(text), self._fills + 1
        for at, candidate in enumerate(distribution):
            digest = digest_of(candidate.text)
            if candidate.probability > 0 and digest not in self._known:
                self._known.add(digest)
                digests.append(digest)
                new.append(Waiting(candidate, name, number, at))
        # A conversation that only repeats itself is left for a new one.
        self._history = filled.history if new else ()
        self._merged += 1
        self._stale = 0 if new else self._stale + 1
        if new:
            self._fills = number
            self._waiting = self._in_order([*self._waiting, *new])
            if self._journal is not None:
                self._journal.append(PooledFill(number, b"".join(digests), text))
            self._show(number, name, distribution)
            self._written += len(text)
        before = self.bytes
        self.bytes = self._written + sum(len(message.content) for message in self._history)
        self._changed(self, len(new), self.bytes - before)

    def _in_order(self, entries: Iterable[Waiting]) -> list[Waiting]:
        """The entries in a random order by weight, the first to be drawn last.

        Each waits for an exponential time whose rate is its weight; sorting by these times is drawing without
        replacement (Efraimidis and Spirakis, 2006). Times are memoryless, so drawing them anew is harmless.
        """
        return sorted(entries, key=lambda e: self._random.expovariate(e.candidate.probability), reverse=True)

    def _show(self, number: int, name: str, distribution: Distribution) -> None:
        self._shown.append((number, name, distribution))
        self._whole = None
        while len(self._shown) > 2 and sum(len(shown) for *_, shown in self._shown) > _MOST_SHOWN:
            del self._shown[1]

    # Resting.

    def record(self) -> PoolRecord:
        """This pool as it is to be saved now."""
        history = None
        if self._merged != self._saved:
            history = json.dumps([[message.role, message.content] for message in self._history])
        return PoolRecord(
            self.key,
            self.used,
            self._drawn,
            self._stale,
            self._merged,
            tuple((entry.fill, entry.at) for entry in self._waiting),
            history,
            tuple(self._journal or ()),
            self._shown[1][0] if len(self._shown) > 1 else 1,
        )

    def recorded(self, record: PoolRecord) -> None:
        """This record is stored."""
        self._saved = record.merged
        if self._journal is not None:
            del self._journal[: len(record.fills)]

    def restore(self, record: PoolRecord) -> None:
        """Take over what a store kept; candidates and conversation are read by `thaw`."""
        self.used, self._drawn, self._stale = record.used, record.drawn, record.stale
        self._merged = self._saved = record.merged
        self._frozen = record
        for fill in record.fills:
            self._fills = fill.number
            self._written += len(fill.distribution or "")
            at = range(0, len(fill.digests), DIGEST_BYTES)
            self._known.update(fill.digests[start : start + DIGEST_BYTES] for start in at)
        self.bytes = self._written + len(record.history or "")

    def thaw(self) -> None:
        """Make what was restored ready for drawing. Raises `ValueError`, `TypeError`, `LookupError` or
        `AttributeError` where it cannot be read."""
        if self._frozen is None:
            return
        record = self._frozen
        names: dict[int, str] = {}
        read: dict[int, Distribution] = {}
        for fill in record.fills:
            if fill.distribution is not None:
                names[fill.number] = written_id(fill.distribution)
                read[fill.number] = Distribution.from_json(fill.distribution)
        self._waiting = [Waiting(read[fill][at], names[fill], fill, at) for fill, at in record.waiting]
        self._history = tuple(Message(role, content) for role, content in json.loads(record.history or "[]"))
        self._shown = []
        if 1 not in read:
            raise ValueError("its first distribution is missing")
        for number, distribution in read.items():
            self._show(number, names[number], distribution)
        self._frozen = None

    async def close(self) -> None:
        """Give up the fill under way; those who wait for it get a `StoppedError`."""
        self._closed = True
        if (task := self._filling) is not None:
            task.cancel()
            await asyncio.wait({task})
