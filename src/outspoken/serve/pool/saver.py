"""Saves pools in the background, some time after they changed, and the rest at the end."""

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
_POOLS_AT_ONCE = 200  # their records are collected in the event loop, where others wait
_logger = logging.getLogger(__name__)


class PoolSaver:
    """Writes changed pools to a store, many at a time.

    If the process is killed, the draws of the last quarter of a second may be repeated. A store that cannot be
    written is logged once, and tried again after the next change.
    """

    def __init__(self, store: PoolStore) -> None:
        self._store = store
        self._changed: dict[PoolKey, Pool] = {}
        self._deleted: set[PoolKey] = set()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._closed = False

    def save(self, pool: Pool) -> None:
        """Save this pool soon."""
        self._changed[pool.key] = pool
        self._start()

    def delete(self, key: PoolKey) -> None:
        """Delete the saved pool of this key soon."""
        self._changed.pop(key, None)
        self._deleted.add(key)
        self._start()

    async def close(self) -> None:
        """Save the remaining changes and close the store."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        try:
            while (self._changed or self._deleted) and await self._save_some():
                pass
        finally:
            self._store.close()

    def _start(self) -> None:
        if self._task is None and not self._closed:
            try:
                self._task = asyncio.get_running_loop().create_task(self._save_soon(), name="save the pools")
            except RuntimeError:
                return  # pools are being restored before the loop runs: the next change starts the task
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("the pools cannot be saved: %r", error)

    async def _save_soon(self) -> None:
        await asyncio.sleep(SECONDS_TO_GATHER)
        while (self._changed or self._deleted) and await self._save_some():
            await asyncio.sleep(SECONDS_TO_GATHER if len(self._changed) < _POOLS_AT_ONCE else 0)

    async def _save_some(self) -> bool:
        """Save the pools that have waited longest; returns whether that succeeded. Otherwise they keep waiting."""
        changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE))
        self._changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE, None))
        deleted, self._deleted = self._deleted, set()
        records = [pool.record() for pool in changed.values() if pool.size]
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._store.writer, self._store.save, records, deleted
            )
        except BaseException as error:
            unsaved = {key: pool for key, pool in changed.items() if key not in self._deleted}
            self._changed = unsaved | self._changed
            self._deleted |= deleted
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
