"""Saves pools in the background, some time after they changed, and what is left at the end."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from itertools import islice

from outspoken.serve.pool.pool import Pool
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.pool.values import PoolKey

__all__ = ["PoolSaver"]

SECONDS_TO_GATHER = 0.25
_POOLS_AT_ONCE = 200  # they are gathered in the loop, where others wait
_logger = logging.getLogger(__name__)


class PoolSaver:
    """Writes pools that changed to a store, many at a time: what is drawn in the last quarter of a second before a
    kill may be drawn again. A store that cannot be written is said so once in the log, and tried again with the
    next change."""

    def __init__(self, store: PoolStore) -> None:
        self._store = store
        self._changed: dict[PoolKey, Pool] = {}
        self._gone: set[PoolKey] = set()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._closed = False

    def note(self, pool: Pool) -> None:
        """This pool is to be saved."""
        self._changed[pool.key] = pool
        self._wake()

    def forget(self, key: PoolKey) -> None:
        """What was saved under this key is to be deleted."""
        self._changed.pop(key, None)
        self._gone.add(key)
        self._wake()

    async def close(self) -> None:
        """Save what is left and close the store."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        try:
            while (self._changed or self._gone) and await self._save():
                pass
        finally:
            self._store.close()

    def _wake(self) -> None:
        if self._task is None and not self._closed:
            try:
                self._task = asyncio.get_running_loop().create_task(self._save_soon(), name="save the pools")
            except RuntimeError:
                return  # pools are being restored: no loop runs yet, and the next change will wake it
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("the pools cannot be saved: %r", error)

    async def _save_soon(self) -> None:
        await asyncio.sleep(SECONDS_TO_GATHER)
        while (self._changed or self._gone) and await self._save():
            await asyncio.sleep(SECONDS_TO_GATHER if len(self._changed) < _POOLS_AT_ONCE else 0)

    async def _save(self) -> bool:
        """Save pools that changed, the longest waiting first; returns whether that went well. What could not be
        saved goes on waiting."""
        changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE))
        self._changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE, None))
        gone, self._gone = self._gone, set()
        records = [pool.record() for pool in changed.values() if pool.size]
        try:
            await asyncio.get_running_loop().run_in_executor(self._store.writer, self._store.save, records, gone)
        except BaseException as error:
            still = {key: pool for key, pool in changed.items() if key not in self._gone}
            self._changed = still | self._changed
            self._gone |= gone
            if not isinstance(error, sqlite3.Error):
                raise
            if not self._failing:
                _logger.warning("the pools cannot be saved in %s: %s", self._store.path, error)
            self._failing = True
            return False
        for record in records:
            changed[record.key].recorded(record)
        self._failing = False
        return True
