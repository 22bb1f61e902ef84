"""The pools: identical requests share one distribution, drawn without replacement by all who ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from outspoken.distribution import Distribution
from outspoken.errors import StoppedError, UsageError
from outspoken.serve.pool.pool import Pool
from outspoken.serve.pool.saver import PoolSaver
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.pool.values import Draw, ExhaustedError, Fill, Hear, PoolFill, PoolKey, PoolRequest, pool_key

__all__ = ["Draw", "ExhaustedError", "Fill", "Hear", "PoolFill", "PoolKey", "PoolRequest", "Pools", "pool_key"]

MOST_DRAWS = 10_000
_logger = logging.getLogger(__name__)


class Pools:
    """One pool a key, made when first asked for; all in one event loop.

    Holds at most `most_pools` pools which know `most_candidates` texts of about `most_bytes` in all, handed out or
    not; beyond that, and
    after `idle_seconds` without a draw, the least recently used are forgotten (one that alone knows more than all
    may, begins anew). A pool in use is never forgotten. When fewer than `ahead` times k candidates are left in a
    pool, it asks for more in the background. A fill that takes longer than `fill_seconds` is given up. With a
    `store`, which it closes, what the pools hold is found again after a restart.

    `known` counts the texts, `len` the pools.
    """

    def __init__(
        self,
        fill: Fill,
        *,
        most_pools: int = 10_000,
        most_candidates: int = 200_000,
        most_bytes: int = 500_000_000,
        idle_seconds: float = 3600.0,
        ahead: float = 0.5,
        fill_seconds: float = 600.0,
        store: PoolStore | None = None,
    ) -> None:
        bounds = (most_pools, most_candidates, most_bytes, idle_seconds, fill_seconds)
        if not (min(bounds) > 0 and ahead >= 0):
            raise UsageError("the bounds of the pools must be above 0, and ahead at least 0")
        self.known = self.bytes = 0
        self._fill = fill
        self._most_pools = most_pools
        self._most_known = most_candidates
        self._most_bytes = most_bytes
        self._idle = idle_seconds
        self._ahead = ahead
        self._fill_seconds = fill_seconds
        self._pools: OrderedDict[PoolKey, Pool] = OrderedDict()
        self._fresh: set[Pool] = set()
        self._closed = False
        self._saver = None if store is None else PoolSaver(store)
        if store is not None:
            self._restore(store)

    def __len__(self) -> int:
        return len(self._pools)

    async def draw(
        self,
        key: PoolKey,
        want: PoolRequest,
        n: int = 1,
        *,
        seed: int | None = None,
        fresh: bool = False,
        recycle: bool = False,
    ) -> list[Draw]:
        """Draw `n` candidates by their probabilities, none that this pool has handed out before.

        With `seed`, the draw is made from the pool's first distribution and takes nothing away: the same request
        gets the same. With `fresh`, the model is asked for this call alone, and nothing is pooled. With `recycle`,
        a pool that has nothing new is drawn again from the start, and one call still gets no text twice.

        Raises `ExhaustedError` where the model brings nothing new any more, `StoppedError` once closed, and
        whatever the fill raised that this draw waited for. A draw that fails takes nothing from the pool.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_DRAWS:
            raise UsageError(f"n must be a whole number from 1 to {MOST_DRAWS:,}, not {n!r}")
        if fresh:
            async with self._alone(key) as pool:
                return await (pool.draw(want, n) if seed is None else pool.draw_seeded(want, n, seed))
        pool = self._entered(key)
        try:
            if seed is not None:
                return await pool.draw_seeded(want, n, seed)
            return await pool.draw(want, n, recycle=recycle)
        finally:
            self._left(pool)

    def ready(self, key: PoolKey, n: int) -> bool:
        """Whether `n` candidates can be drawn at once."""
        pool = self._pools.get(key)
        return pool is not None and pool.waiting >= n

    async def distribution(
        self, key: PoolKey, want: PoolRequest, *, fresh: bool = False, hear: Hear | None = None
    ) -> Distribution:
        """All that is known for a request, handed out or not, of the first distribution and the latest ones (about
        1,000 candidates); asks the model where nothing is, and tells `hear` of each candidate as it comes then.
        Raises as `draw` does."""
        if fresh:
            async with self._alone(key) as pool:
                return await pool.whole(want, hear)
        pool = self._entered(key)
        try:
            return await pool.whole(want, hear)
        finally:
            self._left(pool)

    def named(self, name: str) -> Distribution | None:
        """The distribution of this id, where a pool still holds it that was used since the start."""
        return next((found for pool in reversed(self._pools.values()) if (found := pool.named(name))), None)

    async def close(self) -> None:
        """Give up the fills under way, save, and close the store. Who still waits gets a `StoppedError`.

        Harmless when done twice.
        """
        self._closed = True
        await asyncio.gather(*(pool.close() for pool in (*self._pools.values(), *self._fresh)))
        while self._fresh or any(pool.users for pool in self._pools.values()):
            await asyncio.sleep(0)  # they have been woken, and give back what they had taken
        if self._saver is not None:
            await self._saver.close()

    # Which pools there are.

    @asynccontextmanager
    async def _alone(self, key: PoolKey) -> AsyncGenerator[Pool]:
        """A pool that one call has for itself."""
        self._check_open()
        pool = self._made(key, shared=False)
        self._fresh.add(pool)
        try:
            yield pool
        finally:
            self._fresh.discard(pool)
            await pool.close()

    def _entered(self, key: PoolKey) -> Pool:
        """The pool of this key, to be given to `_left` in the end."""
        self._check_open()
        self._expire()
        pool = self._found(key)
        pool.users += 1
        return pool

    def _left(self, pool: Pool) -> None:
        pool.users -= 1
        pool.used = time.time()
        if pool.size == 0 and not pool.busy:
            self._drop(pool.key)  # its fill failed: it holds nothing worth a place
        elif self._saver is not None:
            self._saver.note(pool)
        self._shrink()

    def _found(self, key: PoolKey) -> Pool:
        """The pool of this key, made where there is none, as the most recently used."""
        if (pool := self._pools.get(key)) is not None:
            try:
                pool.thaw()
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                _logger.warning("a pool that was kept cannot be read (%r): it begins anew", error)
                self._drop(key)
            else:
                self._pools.move_to_end(key)
                return pool
        pool = self._pools[key] = self._made(key)
        return pool

    def _made(self, key: PoolKey, *, shared: bool = True) -> Pool:
        return Pool(
            key,
            self._fill,
            ahead=self._ahead if shared else 0,
            fill_seconds=self._fill_seconds,
            changed=self._changed if shared else _ignore,
            saved=shared and self._saver is not None,
        )

    def _changed(self, pool: Pool, new: int, size: int) -> None:
        self.known += new
        self.bytes += size
        if self._saver is not None:
            self._saver.note(pool)
        self._shrink()

    def _expire(self) -> None:
        """Forget pools that nobody has drawn from for long; they come first."""
        oldest = time.time() - self._idle
        while self._pools:
            key, pool = next(iter(self._pools.items()))
            if pool.used >= oldest or pool.busy:
                return
            self._drop(key)

    def _shrink(self) -> None:
        while (
            len(self._pools) > self._most_pools or self.known > self._most_known or self.bytes > self._most_bytes
        ):
            key = next((key for key, pool in self._pools.items() if not pool.busy), None)
            if key is None:
                return
            self._drop(key)

    def _drop(self, key: PoolKey) -> None:
        pool = self._pools.pop(key)
        self.known -= pool.size
        self.bytes -= pool.bytes
        if self._saver is not None:
            self._saver.forget(key)

    def _check_open(self) -> None:
        if self._closed:
            raise StoppedError("the server stops: ask again later")

    def _restore(self, store: PoolStore) -> None:
        for record in store.load():
            pool = self._pools[record.key] = self._made(record.key)
            pool.restore(record)
            self.known += pool.size
            self.bytes += pool.bytes
        self._expire()
        self._shrink()


def _ignore(pool: Pool, new: int, size: int) -> None:
    """Nobody keeps count of a pool that one call has for itself."""
