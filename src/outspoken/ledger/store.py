"""The file of a ledger: SQLite in WAL mode, written by one thread in small transactions."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, astuple, dataclass
from operator import add
from pathlib import Path
from typing import Any, TypeVar

from outspoken.chat_reply import ChatReply
from outspoken.errors import LedgerError
from outspoken.io.dataclass_json import from_json
from outspoken.io.sqlite import create_tables, may_be, transaction, version_of
from outspoken.ledger.keys import LedgerEntry, reply_of, write_reply

__all__ = ["Ledger", "PartCounts", "PartRecord", "StoredReply"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One row: key, request in canonical JSON, reply in JSON, duration in seconds, Unix time of the reply."""

    key: str
    request: str
    reply: str
    seconds: float
    created: float


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


APPLICATION_ID = 0x4F757473  # "Outs"
VERSION = 1
_ROWS_A_TRANSACTION = 100
_BACKLOG = 2_000
_SECONDS_BETWEEN_SYNCS = 2.0
SECONDS_TO_WAIT = 30.0
_SECONDS_TO_GATHER = 0.01
_FREE_BYTES = 16 * 2**20

_TABLES = """
CREATE TABLE IF NOT EXISTS reply (
    key TEXT NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    reply TEXT NOT NULL,
    seconds REAL NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS schema (hash TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS part (
    output TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (output, number)
);
CREATE TABLE IF NOT EXISTS run (started REAL NOT NULL, version TEXT NOT NULL, settings TEXT NOT NULL);
"""


class Ledger:
    """Replies by key. `get` returns one; `put` stores one, in the background and in the order of calls.

    A stored reply survives the death of this process at any moment; a power failure loses at most the replies of
    the last two seconds. Several processes may use one file, which is created if necessary. Raises `LedgerError`,
    before anything is paid for, if the file is not a ledger, was written by a newer version, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        _check(self.path)
        self._pending: list[tuple[LedgerEntry, str, float, float]] = []
        self._lock = threading.Lock()
        self._flushing: Future[None] | None = None
        self._failure: LedgerError | None = None
        self._synced = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="outspoken-ledger")
        self._closed = False
        with ExitStack() as undo:
            undo.callback(self._writer.shutdown)
            self._out = self._writer.submit(_open, self.path).result()
            undo.callback(self._out.close)
            self._in = _open(self.path)
            undo.pop_all()

    def get(self, key: str) -> ChatReply | None:
        """The reply stored under `key`."""
        try:
            row = self._in.execute("SELECT reply FROM reply WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise failure(self.path, error) from error
        return None if row is None else reply_of(row[0])

    @property
    def empty(self) -> bool:
        return next(self.rows("SELECT 1 FROM reply LIMIT 1"), None) is None

    def put(self, entry: LedgerEntry, reply: ChatReply, seconds: float) -> None:
        """Store a reply; a reply that is stored under the same key stays as it is.

        Raises `LedgerError` if an earlier reply could not be written.
        """
        with self._lock:
            self._pending.append((entry, write_reply(reply), seconds, time.time()))
            if self._failure is not None:
                raise self._failure
            if self._flushing is None:
                self._flushing = self._writer.submit(self._flush)

    @property
    def backlog(self) -> bool:
        """Whether replies arrive faster than the disk can write: wait for `settled` before the next request."""
        return len(self._pending) > _BACKLOG

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
                self._write(batch)
            except sqlite3.Error as error:
                with self._lock:
                    count = len(self._pending)
                    self._failure = failure(self.path, error, f"; {count} replies are not stored")
            else:
                with self._lock:
                    del self._pending[: len(batch)]

    def _write(self, batch: list[tuple[LedgerEntry, str, float, float]]) -> None:
        schemas = {entry.schema_hash: entry.schema for entry, *_ in batch if entry.schema_hash}
        # A single statement releases the interpreter's lock once instead of once per row.
        values = ",".join(["(?,?,?,?,?)"] * len(batch))
        flat = [field for entry, *rest in batch for field in (entry.key, entry.request, *rest)]
        # Schemas are written with their replies each time: another process may have deleted both.
        with transaction(self._out):
            self._out.executemany("INSERT OR IGNORE INTO schema VALUES (?, ?)", schemas.items())
            self._out.execute(f"INSERT OR IGNORE INTO reply VALUES {values}", flat)
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self._out.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._synced = time.monotonic()

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
                more = f"; {count} replies are deleted, but their room is not free yet"
                raise failure(self.path, error, more) from error
            return count

        return self._in_writer(work)


def _part(digest: str, size: int, complete: int, counts: str) -> PartRecord:
    values = json.loads(counts)
    return PartRecord(digest, size, bool(complete), from_json(PartCounts, values), values.get("settings", ""))


def _check(path: Path) -> None:
    """Raise `LedgerError` if the file is not a ledger, or if none can be written there."""
    folder = path.parent
    if not folder.is_dir():
        raise LedgerError(f"there is no folder {folder} for the ledger {path.name}: create it, or name another")
    if path.is_dir():
        raise LedgerError(f"{path} is a folder: name a file for the ledger, such as {path / 'run.sqlite'}")
    try:
        head = head_of(path)
    except FileNotFoundError:
        head = b""
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from error
    if not os.access(folder, os.W_OK) or (head and not os.access(path, os.W_OK)):
        raise LedgerError(f"cannot write the ledger {path}: change its permissions, or name another place")
    check_version(path, 0 if may_be(head, APPLICATION_ID) else None)
    if (free := shutil.disk_usage(folder).free) < _FREE_BYTES:
        room = f"{free / 2**20:.0f} MiB free"
        raise LedgerError(f"the disk of {path} is full ({room}): make room, or name another place")


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise failure(path, error) from error
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # In one transaction: another process may be creating the tables.
    with transaction(connection, "BEGIN"):
        version = version_of(connection, APPLICATION_ID)
    version = check_version(path, version)
    if (mode := _to_wal(connection)) != "wal":
        raise LedgerError(
            f"the disk of {path} does not support a write-ahead log ({mode}): put the ledger on a local disk"
        )
    connection.execute("PRAGMA synchronous = NORMAL")
    if version < VERSION:
        create_tables(connection, _TABLES, APPLICATION_ID, VERSION)


def check_version(path: Path, version: int | None) -> int:
    """`version`. Raises `LedgerError` for a newer one, and for None: a file of another kind."""
    if version is None:
        raise LedgerError(f"{path} is not a ledger: it was left as it is; name another file")
    if version > VERSION:
        raise LedgerError(
            f"{path} was written by a newer version of outspoken (format {version}, known here {VERSION}): upgrade"
        )
    return version


def _to_wal(connection: sqlite3.Connection) -> str:
    """Turn on the write-ahead log; SQLite itself does not wait for another process that is doing the same."""
    until = time.monotonic() + SECONDS_TO_WAIT
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_SECONDS_TO_GATHER)


def failure(path: Path, error: sqlite3.Error, more: str = "") -> LedgerError:
    code = getattr(error, "sqlite_errorname", "")
    remedies = (
        ("SQLITE_FULL", "the disk is full: make room, then give the same command again"),
        ("SQLITE_BUSY", "another process holds it: wait for it, or name another ledger"),
        ("SQLITE_READONLY", "it cannot be written: change its permissions"),
        ("SQLITE_NOTADB", "it is not a ledger: name another file"),
        ("SQLITE_CORRUPT", "it is damaged: `outspoken ledger export` what can be read, and start a new one"),
    )
    advice = next((remedy for known, remedy in remedies if code.startswith(known)), "check the disk")
    return LedgerError(f"the ledger {path}: {error} ({advice}){more}")
