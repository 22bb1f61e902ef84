"""The rows of a ledger: SQLite in WAL mode, written by one thread in small transactions."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, astuple, dataclass
from operator import add
from pathlib import Path
from typing import Any, TypeVar

from outspoken.chat_reply import ChatReply
from outspoken.errors import LedgerError
from outspoken.io.dataclass_json import from_json
from outspoken.io.sqlite import transaction
from outspoken.io.text import plural
from outspoken.ledger.file import check_place, failure, open_ledger
from outspoken.ledger.keys import LedgerEntry, check_digest, reply_digest, reply_of, write_reply

__all__ = ["Ledger", "PartCounts", "PartRecord", "StoredReply"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One row: key, request in canonical JSON, reply in JSON, duration in seconds, Unix time, digest of them."""

    key: str
    request: str
    reply: str
    seconds: float
    created: float
    digest: str


@dataclass(frozen=True, slots=True)
class PartCounts:
    """The figures of a part of an output: prompts, and how many of them `failed` or are `short` of responses;
    responses, and how many are `distinct` within their prompt; the replies from which they were read."""

    prompts: int = 0
    responses: int = 0
    distinct: int = 0
    short: int = 0
    replies: int = 0
    failed: int = 0

    def __add__(self, other: PartCounts) -> PartCounts:
        return PartCounts(*map(add, astuple(self), astuple(other)))

    @classmethod
    def of(cls, parts: Iterable[PartRecord]) -> PartCounts:
        """The sum of the figures of several parts."""
        return sum((part.counts for part in parts), cls())


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part of an output that was written.

    `digest` identifies its prompts and settings, `settings` the settings alone; `size` is its file's, in bytes.
    `complete` is true if no prompt of it needs to be asked again.
    """

    digest: str
    size: int
    complete: bool
    counts: PartCounts = PartCounts()
    settings: str = ""


_ROWS_A_TRANSACTION = 100
_SECONDS_BETWEEN_SYNCS = 2.0
_SECONDS_TO_GATHER = 0.01
_SECONDS_ALONE = 0.05


_Waiter = asyncio.Future[str | LedgerError | None]


@dataclass(slots=True)
class _Pending:
    """A reply to write: its row, its schema, and the future of the caller that waits for it.

    The future receives the reply that was stored before under the same key, None if there was none, or an error.
    """

    row: tuple[str, str, str, float, float, str]
    schema: tuple[str, str]
    waiter: _Waiter | None


class Ledger:
    """Replies by key. `get` returns one; `store` and `put` store one, in the order of calls.

    A stored reply survives the death of this process at any moment; a power failure loses at most the replies of
    the last two seconds. Several processes may use one file, which is created if necessary, readable by its owner
    only. The first reply stored under a key stays. Raises `LedgerError`, before anything is paid for, if the file
    is not a ledger, was written by another version, or cannot be written.

    `shared` is whether another process may have stored replies since the file was opened. Each write looks for
    that; while this process writes, it is false until such a reply is 0.05 seconds old.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        check_place(self.path)
        self._alone_until = 0.0
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()
        self._flushing: Future[None] | None = None
        self._failure: LedgerError | None = None
        self._synced = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="outspoken-ledger")
        self._closed = False
        with ExitStack() as undo:
            undo.callback(self._writer.shutdown)
            self._out = self._writer.submit(open_ledger, self.path).result()
            undo.callback(self._out.close)
            self._data_version = self._writer.submit(_data_version, self._out).result()
            self._in = open_ledger(self.path)
            undo.pop_all()

    def get(self, key: str) -> ChatReply | None:
        """The reply stored under `key`. Raises `LedgerError` if it is not as it was written."""
        query = "SELECT reply, seconds, created, digest FROM reply WHERE key = ?"
        try:
            row = self._in.execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise failure(self.path, error) from error
        if row is None:
            return None
        check_digest(key, *row)
        return reply_of(row[0])

    @property
    def empty(self) -> bool:
        return next(self.rows("SELECT 1 FROM reply LIMIT 1"), None) is None

    @property
    def shared(self) -> bool:
        return time.monotonic() > self._alone_until

    async def store(self, entry: LedgerEntry, reply: ChatReply, seconds: float) -> ChatReply:
        """Store a reply, wait until it is in the file, and return the reply that the file holds under this key.

        That is an earlier one if another process was first. Raises `LedgerError` if the reply cannot be written.
        """
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._append(entry, reply, seconds, waiter)
        earlier = await waiter
        if isinstance(earlier, LedgerError):
            raise LedgerError(*earlier.args)
        return reply if earlier is None else reply_of(earlier)

    def put(self, entry: LedgerEntry, reply: ChatReply, seconds: float) -> None:
        """Store a reply in the background. Raises `LedgerError` if an earlier reply could not be written."""
        self._append(entry, reply, seconds, None)

    def _append(self, entry: LedgerEntry, reply: ChatReply, seconds: float, waiter: _Waiter | None) -> None:
        text, created = write_reply(reply), time.time()
        row = (entry.key, entry.request, text, seconds, created, reply_digest(entry.key, text, seconds, created))
        with self._lock:
            self._pending.append(_Pending(row, (entry.schema_hash, entry.schema), waiter))
            if self._failure is not None:
                raise self._failure
            if self._flushing is None:
                self._flushing = self._writer.submit(self._flush)

    async def settled(self) -> None:
        """Wait until all replies are on disk. Raises `LedgerError` if they cannot be written."""
        while (flushing := self._flushing) is not None:
            await asyncio.shield(asyncio.wrap_future(flushing))
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Write the remaining replies and close the file; calling it twice is harmless.

        Raises `LedgerError` if they cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            with self._lock:
                self._failure = None  # the disk may have room again
            self._writer.submit(self._flush).result()
        finally:
            self._writer.submit(self._out.close).result()
            self._writer.shutdown()
            self._in.close()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # In the writer's thread.

    def _flush(self) -> None:
        """Write all pending replies. If that fails, the rest stays pending."""
        time.sleep(_SECONDS_TO_GATHER)
        while True:
            with self._lock:
                batch = self._pending[:_ROWS_A_TRANSACTION]
                if not batch or self._failure is not None:
                    self._flushing = None
                    return
            try:
                earlier = self._write(batch)
            except sqlite3.Error as error:
                with self._lock:
                    batch = list(self._pending)
                    self._failure = failure(self.path, error, f"; not stored: {plural(len(batch), 'reply')}")
                _tell(batch, {}, self._failure)
            else:
                with self._lock:
                    del self._pending[: len(batch)]
                _tell(batch, earlier)

    def _write(self, batch: list[_Pending]) -> dict[str, str]:
        """Write these replies in one transaction; returns the replies that were there before, by key."""
        schemas = {pending.schema for pending in batch if pending.schema[0]}
        # A single statement releases the interpreter's lock once instead of once per row.
        values = ",".join(["(?,?,?,?,?,?)"] * len(batch))
        flat = [field for pending in batch for field in pending.row]
        earlier: dict[str, str] = {}
        # Schemas are written with their replies each time: another process may have deleted both.
        with transaction(self._out):
            alone = _data_version(self._out) == self._data_version
            self._alone_until = time.monotonic() + _SECONDS_ALONE if alone else 0.0
            self._out.executemany("INSERT OR IGNORE INTO schema VALUES (?, ?)", schemas)
            new = self._out.execute(f"INSERT OR IGNORE INTO reply VALUES {values}", flat).rowcount
            if new < len(batch):
                keys = [pending.row[0] for pending in batch]
                known = f"SELECT key, reply FROM reply WHERE key IN ({','.join('?' * len(keys))})"
                earlier = dict(self._out.execute(known, keys).fetchall())
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self._out.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._synced = time.monotonic()
        return earlier

    def _in_writer(self, work: Callable[[], T]) -> T:
        try:
            return self._writer.submit(work).result()
        except sqlite3.Error as error:
            raise failure(self.path, error) from error

    def _execute(self, statement: str, *values: Any) -> None:
        self._in_writer(lambda: self._out.execute(statement, values) and None)

    # Runs and the parts of their outputs.

    def note_run(self, version: str, settings: Mapping[str, object]) -> None:
        """Record the start of a run and its settings, in which `out` is the name of the output.

        This also checks that the ledger can be written before anything is paid for.
        """
        text = json.dumps(settings, ensure_ascii=False, sort_keys=True, default=str)
        self._execute("INSERT INTO run VALUES (?, ?, ?)", time.time(), version, text)

    def put_part(self, output: str, number: int, part: PartRecord) -> None:
        counts = json.dumps({**asdict(part.counts), "settings": part.settings})
        values = (output, number, part.digest, part.size, part.complete, counts)
        self._execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", *values)

    def parts(self, output: str) -> dict[int, PartRecord]:
        """The recorded parts of an output, by number."""
        query = "SELECT number, digest, bytes, complete, counts FROM part WHERE output = ?"
        return {number: _part(*row) for number, *row in self.rows(query, output)}

    def forget_parts(self, output: str) -> None:
        self._execute("DELETE FROM part WHERE output = ?", output)

    # All replies.

    def rows(self, statement: str, *values: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query, one at a time."""
        try:
            with closing(self._in.cursor()) as cursor:
                cursor.row_factory = sqlite3.Row
                yield from cursor.execute(statement, values)
        except sqlite3.Error as error:
            raise failure(self.path, error) from error

    def stored(self, where: str = "TRUE", *values: Any) -> Iterator[StoredReply]:
        """All replies, or those that meet an SQL condition, in the order in which they were stored."""
        for row in self.rows(f"SELECT * FROM reply WHERE {where} ORDER BY rowid", *values):
            yield StoredReply(*row)

    def delete(self, where: str, *values: Any) -> int:
        """Delete the replies that meet an SQL condition and free their disk space; returns their number."""

        def work() -> int:
            with transaction(self._out):
                count = self._out.execute(f"DELETE FROM reply WHERE {where}", values).rowcount
                self._out.execute(
                    "DELETE FROM schema WHERE hash NOT IN (SELECT coalesce("
                    "CASE WHEN json_valid(request) THEN json_extract(request, '$.schema') END, '') FROM reply)"
                )
                self._out.execute("DELETE FROM part")  # the replies of any part may be among the deleted
            try:
                self._out.execute("VACUUM")
                self._out.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                more = f"; {plural(count, 'reply')} deleted, but the room is not free yet"
                raise failure(self.path, error, more) from error
            return count

        return self._in_writer(work)


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection, such as one of another process, changes the file."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _tell(batch: list[_Pending], earlier: Mapping[str, str], error: LedgerError | None = None) -> None:
    """Let the callers that wait for these replies continue, each in its loop."""

    results: dict[asyncio.AbstractEventLoop, list[tuple[_Waiter, str | LedgerError | None]]] = {}
    for pending in batch:
        if (waiter := pending.waiter) is not None:
            key, _, reply, *_ = pending.row
            other = earlier.get(key)
            result = error if error is not None else None if other == reply else other
            results.setdefault(waiter.get_loop(), []).append((waiter, result))
    for loop, those in results.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_end, those)


def _end(results: list[tuple[_Waiter, str | LedgerError | None]]) -> None:
    for waiter, result in results:
        if not waiter.done():
            waiter.set_result(result)


def _part(digest: str, size: int, complete: int, counts: str) -> PartRecord:
    values = json.loads(counts)
    return PartRecord(digest, size, bool(complete), from_json(PartCounts, values), values.get("settings", ""))
