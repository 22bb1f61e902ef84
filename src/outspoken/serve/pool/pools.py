"""All pools: identical requests share one distribution, drawn without replacement by all clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import TypeVar

from outspoken.distribution import Distribution
from outspoken.errors import StoppedError, UsageError
from outspoken.serve.pool.pool import Pool
from outspoken.serve.pool.store import PoolSaver, PoolStore
from outspoken.serve.pool.values import CandidateListener, Draw, Fill, PoolKey, PoolRequest

__all__ = ["Pools"]

T = TypeVar("T")

MAX_DRAWS = 10_000
_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Pools:
    """One pool for each key, created on first use; all in one event loop.

    There are at most `max_pools` pools with `max_candidates` texts of about `max_bytes` in all, drawn or not.
    Beyond that, and after `idle_seconds` without a draw, the least recently used pools are dropped, but never one
    in use; a single pool that exceeds a limit starts again. A pool with fewer than `ahead` times k waiting
    candidates is filled in the background. A fill that takes longer than `fill_seconds` is cancelled. With a
    `store`, which it closes, the pools survive a restart.

    `texts` is the number of texts, `bytes` their approximate memory, `len` the number of pools.
    """

    fill: Fill
    _: KW_ONLY
    max_pools: int = 10_000
    max_candidates: int = 200_000
    max_bytes: int = 500_000_000
    idle_seconds: float = 3600.0
    ahead: float = 0.5
    fill_seconds: float = 600.0
    store: InitVar[PoolStore | None] = None

    def __post_init__(self, store: PoolStore | None) -> None:
        least = min(self.max_pools, self.max_candidates, self.max_bytes, self.idle_seconds, self.fill_seconds)
        if not (least > 0 and self.ahead >= 0):
            raise UsageError("the limits of the pools must be above 0, and ahead at least 0")
        self.texts = self.bytes = 0
        self._pools: OrderedDict[PoolKey, Pool] = OrderedDict()
        self._fresh: set[Pool] = set()
        self._closed = False
        self._saver = None if store is None else PoolSaver(store)
        for record in () if store is None else store.load():
            pool = self._pools[record.key] = self._create(record.key)
            pool.restore(record)
            self.texts += pool.size
            self.bytes += pool.bytes
        self._expire()
        self._shrink()

    def __len__(self) -> int:
        return len(self._pools)

    async def draw(
        self,
        key: PoolKey,
        request: PoolRequest,
        n: int = 1,
        *,
        seed: int | None = None,
        fresh: bool = False,
        recycle: bool = False,
    ) -> list[Draw]:
        """Draw `n` candidates that were not drawn from this pool before, by their probabilities.

        With `seed`, they are drawn from the pool's first distribution and stay in it: the same request gets the
        same candidates. With `fresh`, the model is asked for this call alone, and nothing is pooled. With
        `recycle`, candidates are drawn again once the model has nothing new, but no text twice in one call.

        Raises `ExhaustedError` if the model has nothing new, `StoppedError` after `close`, and the error of a fill
        that this draw waited for. A draw that fails takes nothing from the pool.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_DRAWS:
            raise UsageError(f"n must be a whole number from 1 to {MAX_DRAWS:,}, not {n!r}")

        def use(pool: Pool) -> Awaitable[list[Draw]]:
            if seed is not None:
                return pool.draw_seeded(request, n, seed)
            return pool.draw(request, n, recycle=recycle and not fresh)

        return await self._with_pool(key, use, fresh=fresh)

    def ready(self, key: PoolKey, n: int) -> bool:
        """Whether `n` candidates can be drawn at once."""
        pool = self._pools.get(key)
        return pool is not None and len(pool.waiting) >= n

    async def distribution(
        self, key: PoolKey, request: PoolRequest, *, fresh: bool = False, listener: CandidateListener | None = None
    ) -> Distribution:
        """The mixture of a pool's first distribution and its latest ones (about 1,000 candidates), drawn or not.

        If the pool has none, the model is asked, and `listener` called with each candidate. Raises as `draw` does.
        """
        return await self._with_pool(key, lambda pool: pool.distribution(request, listener), fresh=fresh)

    def find(self, name: str) -> Distribution | None:
        """The distribution with this id, if a pool that was used since the start still has it."""
        pools = reversed(self._pools.values())
        return next((distribution for pool in pools if (distribution := pool.shown.find(name))), None)

    async def close(self) -> None:
        """Cancel running fills, save, and close the store. Whoever still waits gets a `StoppedError`.

        A second call does nothing.
        """
        self._closed = True
        await asyncio.gather(*(pool.close() for pool in (*self._pools.values(), *self._fresh)))
        while self._fresh or any(pool.users for pool in self._pools.values()):
            await asyncio.sleep(0)  # draws that were cancelled put their candidates back
        if self._saver is not None:
            await self._saver.close()

    async def _with_pool(self, key: PoolKey, use: Callable[[Pool], Awaitable[T]], *, fresh: bool) -> T:
        """Use the pool of this key, which is not dropped meanwhile, or with `fresh` one for this call alone."""
        if self._closed:
            raise StoppedError("the server stops: ask again later")
        if fresh:
            pool = Pool(key, self.fill, ahead=0, fill_seconds=self.fill_seconds, changed=lambda *_: None)
            self._fresh.add(pool)
            try:
                return await use(pool)
            finally:
                self._fresh.discard(pool)
                await pool.close()
        self._expire()
        pool = self._get(key)
        pool.users += 1
        try:
            return await use(pool)
        finally:
            pool.users -= 1
            pool.used = time.time()
            if pool.size == 0 and not pool.busy:
                self._drop(pool.key)  # its fill failed, so it contains nothing
            elif self._saver is not None:
                self._saver.save(pool)
            self._shrink()

    def _get(self, key: PoolKey) -> Pool:
        """The pool of this key as the most recently used one, created if needed."""
        if (pool := self._pools.get(key)) is not None:
            try:
                pool.parse_restored()
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                _logger.warning("a saved pool cannot be read (%r): it starts again", error)
                self._drop(key)
            else:
                self._pools.move_to_end(key)
                return pool
        pool = self._pools[key] = self._create(key)
        return pool

    def _create(self, key: PoolKey) -> Pool:
        ahead, seconds, saved = self.ahead, self.fill_seconds, self._saver is not None
        return Pool(key, self.fill, ahead=ahead, fill_seconds=seconds, changed=self._changed, saved=saved)

    def _changed(self, pool: Pool, new: int, size: int) -> None:
        self.texts += new
        self.bytes += size
        if self._saver is not None:
            self._saver.save(pool)
        self._shrink()

    def _expire(self) -> None:
        """Drop pools without a draw for too long; they come first."""
        oldest = time.time() - self.idle_seconds
        while self._pools:
            key, pool = next(iter(self._pools.items()))
            if pool.used >= oldest or pool.busy:
                return
            self._drop(key)

    def _shrink(self) -> None:
        while len(self._pools) > self.max_pools or self.texts > self.max_candidates or self.bytes > self.max_bytes:
            key = next((key for key, pool in self._pools.items() if not pool.busy), None)
            if key is None:
                return
            self._drop(key)

    def _drop(self, key: PoolKey) -> None:
        pool = self._pools.pop(key)
        self.texts -= pool.size
        self.bytes -= pool.bytes
        if self._saver is not None:
            self._saver.delete(key)
