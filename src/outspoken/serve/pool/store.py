"""Pools that survive restarts: one SQLite file, used by one server at a time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io.sqlite import create_file, create_tables, may_be, transaction, version_of
from outspoken.serve.pool.pool import Pool
from outspoken.serve.pool.values import DIGEST_BYTES, FillRecord, PoolKey, PoolRecord

__all__ = ["PoolSaver", "PoolStore"]

APPLICATION_ID = 0x4F75706C  # "Oupl"
VERSION = 1
_SECONDS_TO_WAIT = 5.0
SECONDS_TO_GATHER = 0.25
_POOLS_AT_ONCE = 200  # their records are collected in the event loop, which others wait for
_logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS pool (
    key TEXT NOT NULL PRIMARY KEY,
    used REAL NOT NULL,
    drawn INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    merged INTEGER NOT NULL,
    waiting TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS talk (key TEXT NOT NULL PRIMARY KEY, history TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fill (
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    digests BLOB NOT NULL,
    distribution TEXT,
    PRIMARY KEY (key, number)
);
"""


class PoolStore:
    """A file with pools, created if needed, readable by its owner alone.

    A damaged file is renamed to `aside`, and the pools start empty. Raises `UsageError` if the file belongs to
    another program, was written by a newer version, is in use by another server, or cannot be written. A save is
    one transaction: it survives a crash of this process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.aside: Path | None = None
        self._closed = False
        with suppress(OSError):  # `_open` creates the file, or reports the error
            if not may_be(self.path, APPLICATION_ID):
                raise _foreign(self.path)
        try:
            self._connection = _open(self.path)
        except sqlite3.DatabaseError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                advice = "is in use by another server: stop that one, or name another file"
                raise UsageError(f"{self.path} {advice}") from error
            if not (isinstance(error, _Damaged) or name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))):
                advice = f"({error}): check the disk, or name another file"
                raise UsageError(f"the pools cannot be saved in {self.path} {advice}") from error
            self.aside = _rename_damaged(self.path)
            _logger.warning("%s is damaged (%s): renamed to %s", self.path, error, self.aside.name)
            self._connection = _open(self.path)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="outspoken-pools")

    def load(self) -> list[PoolRecord]:
        """All pools, the least recently used first. Unreadable ones are deleted and logged."""
        fills: dict[PoolKey, list[FillRecord]] = defaultdict(list)
        for key, *fill in self._connection.execute("SELECT * FROM fill ORDER BY key, number"):
            fills[key].append(FillRecord(*fill))
        rows = self._connection.execute("SELECT * FROM pool LEFT JOIN talk USING (key) ORDER BY used").fetchall()
        records, unreadable = [], set()
        for row in rows:
            try:
                records.append(_read(row, fills[row[0]]))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                unreadable.add(row[0])
                _logger.warning("%s has a pool that cannot be read (%r): it is deleted", self.path, error)
        if unreadable:
            self.save([], unreadable)
        return records

    def save(self, records: Iterable[PoolRecord], deleted: Collection[PoolKey] = ()) -> None:
        """Delete the pools of `deleted`, then write the records, in the thread of `writer` if an event loop runs.

        Raises `sqlite3.Error`, and then changes nothing.
        """
        with transaction(self._connection):
            for table in ("pool", "talk", "fill"):
                self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in deleted])
            for record in records:
                _write(self._connection, record)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.writer.submit(self._connection.close).result()
            self.writer.shutdown()


def _write(write: sqlite3.Connection, record: PoolRecord) -> None:
    key, waiting = record.key, json.dumps(record.waiting, separators=(",", ":"))
    row = (key, record.used, record.drawn, record.stale, record.merged, waiting)
    write.execute("INSERT OR REPLACE INTO pool VALUES (?, ?, ?, ?, ?, ?)", row)
    if record.history is not None:
        write.execute("INSERT OR REPLACE INTO talk VALUES (?, ?)", (key, record.history))
    if record.fills:
        write.executemany(
            "INSERT OR REPLACE INTO fill VALUES (?, ?, ?, ?)",
            [(key, fill.number, fill.digests, fill.distribution) for fill in record.fills],
        )
        needed = ",".join(str(number) for number in {1, *(fill for fill, _ in record.waiting)})
        write.execute(
            f"UPDATE fill SET distribution = NULL WHERE key = ? AND number < ? AND number NOT IN ({needed}) "
            "AND distribution IS NOT NULL",
            (key, record.shown_from),
        )


def _read(row: tuple[Any, ...], fills: Sequence[FillRecord]) -> PoolRecord:
    key, used, drawn, stale, merged, waiting, history = row
    if not fills or any(len(fill.digests) % DIGEST_BYTES for fill in fills):
        raise ValueError("the texts that were drawn are missing")
    entries = tuple((int(fill), int(at)) for fill, at in json.loads(waiting))
    return PoolRecord(key, float(used), int(drawn), int(stale), int(merged), entries, history, tuple(fills))


def _open(path: Path) -> sqlite3.Connection:
    try:
        create_file(path)
    except OSError as error:
        problem = f"the pools cannot be saved in {path} ({error.strerror})"
        raise UsageError(f"{problem}: name a file in a folder that can be written") from error
    connection = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False)
    with ExitStack() as undo:
        undo.callback(connection.close)
        version = version_of(connection, APPLICATION_ID)
        if version is None:
            raise _foreign(path)
        if version > VERSION:
            raise UsageError(f"{path} was written by a newer version of outspoken: upgrade, or name another file")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # two servers would draw the same candidates
        (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise _Damaged(" ".join(health.split()))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        create_tables(connection, _TABLES, APPLICATION_ID, VERSION)
        undo.pop_all()
    return connection


def _foreign(path: Path) -> UsageError:
    return UsageError(f"{path} contains something other than pools and was not changed: name another file")


class _Damaged(sqlite3.DatabaseError):
    """SQLite reads the file, and its content is inconsistent."""


def _rename_damaged(path: Path) -> Path:
    """Rename a file and its log to a name that is not in use."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    return aside


class PoolSaver:
    """Writes changed pools to a store, many at a time.

    If the process is killed, the draws of the last quarter of a second may be repeated. A failure to write is
    logged once, and writing is tried again after the next change.
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
                return  # pools are restored before the loop runs: the next change starts the task
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
        """Save the pools that have waited longest; returns False if that failed, and they still wait."""
        changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE))
        self._changed = dict(islice(self._changed.items(), _POOLS_AT_ONCE, None))
        deleted, self._deleted = self._deleted, set()
        records = [pool.record() for pool in changed.values() if pool.size]
        try:
            store = self._store
            await asyncio.get_running_loop().run_in_executor(store.writer, store.save, records, deleted)
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
