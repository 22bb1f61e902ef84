"""A ledger that is only read, as far as it can be: what is behind damage too, and where nothing can be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.errors import LedgerError, UsageError
from outspoken.ledger import store
from outspoken.ledger.keys import schema_hash
from outspoken.ledger.store import StoredReply

__all__ = ["LedgerReader", "Problem", "log_of"]

_SINGLE_STEPS = 1_000
_STEPS_OF_SQLITE = 100_000
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a ledger that is not as it was written: `where` is a key, a schema, rows, or the file."""

    where: str
    reason: str


class LedgerReader:
    """A ledger that is only read; it is never made, and nothing in it is changed.

    Where the folder can be written, SQLite keeps its two files beside the ledger for as long as it is open, and
    takes other processes' writes into account; where it cannot, the file is read as it stands. Raises `UsageError`
    where there is no file, and `LedgerError` for what is no ledger or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection = _open(self.path)

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def size(self) -> int:
        """Bytes on disk, with what waits in the write-ahead log."""
        return sum(path.stat().st_size for path in (self.path, log_of(self.path)) if path.exists())

    def rows(self, statement: str, *values: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query, one at a time."""
        try:
            yield from self._execute(statement, *values)
        except sqlite3.Error as error:
            raise store.failure(self.path, error) from error

    def stored(self) -> Iterator[StoredReply | Problem]:
        """All replies in the order of their storing; where the file is damaged, what is behind the damage too."""
        at, misses, lost = 0, 0, ""
        while True:
            try:
                for row in self._execute("SELECT rowid, * FROM reply WHERE rowid > ? ORDER BY rowid", at):
                    if misses:
                        yield _gap(at - misses + 1, row[0] - 1, lost)
                    at, misses = row[0], 0
                    yield StoredReply(*row[1:])
                break
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise store.failure(self.path, error) from error
                lost = str(error)
            # Past the damage by single rows; should it take a large part of the file, by ever larger steps.
            step = 1 if misses < _SINGLE_STEPS else misses
            at, misses = at + step, misses + step
            if at > self._last():
                break
        if misses:
            yield _gap(at - misses + 1, at, lost)

    def schemas(self) -> tuple[dict[str, str], list[Problem]]:
        """The JSON of all schemas by hash, and what is wrong with the others."""
        sound, problems = {}, []
        try:
            for hashed, text in self._execute("SELECT hash, text FROM schema"):
                if isinstance(text, str) and schema_hash(text) == hashed:
                    sound[hashed] = text
                else:
                    problems.append(Problem(f"schema {hashed}", "its hash is not that of its text"))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise store.failure(self.path, error) from error
            problems.append(Problem("schemas", str(error)))
        return sound, problems

    def count(self) -> int:
        """How many replies there are; 0 where damage keeps one from counting."""
        try:
            return int(next(self.rows("SELECT count(*) FROM reply"))[0])
        except LedgerError:
            return 0

    def _execute(self, statement: str, *values: Any) -> Iterator[sqlite3.Row]:
        try:
            # A loop, because `yield from` would close the cursor, which fails after its connection was closed.
            for row in self._connection.execute(statement, values):  # noqa: UP028
                yield row
        except sqlite3.OperationalError as error:
            # Ctrl-C reaches Python in the progress handler, which can only tell SQLite to stop.
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise KeyboardInterrupt from None
            raise

    def _last(self) -> int:
        try:
            return next(self._execute("SELECT max(rowid) FROM reply"))[0] or 0
        except sqlite3.DatabaseError:
            return 2**62


def _open(path: Path) -> sqlite3.Connection:
    try:
        if path.is_dir():
            raise LedgerError(f"{path} is a folder: name the ledger's file")
        head = store.head_of(path)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no ledger {path}: name the file that was given as --ledger, or OUT.ledger.sqlite beside OUT"
        ) from error
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from error
    if head[:16] != store.MAGIC:
        raise LedgerError(f"{path} is not a ledger: name another file")
    try:
        try:
            return _connect(path, "mode=rw")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            if log_of(path).exists() and log_of(path).stat().st_size:
                raise LedgerError(
                    f"the ledger {path} has writes waiting in {log_of(path).name}, and its folder cannot be "
                    "written: copy both files to another folder, and name the copy"
                ) from error
            return _connect(path, "immutable=1")
    except sqlite3.Error as error:
        raise store.failure(path, error) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=store.SECONDS_TO_WAIT, isolation_level=None
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA query_only = ON")
        # Without this SQLite opens no file that was cut off.
        connection.execute("PRAGMA writable_schema = ON")
        identity, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        store.check_version(path, version)
        if identity != store.APPLICATION_ID:
            raise LedgerError(f"{path} is not a ledger: name another file")
        connection.set_progress_handler(lambda: None, _STEPS_OF_SQLITE)
    except BaseException:
        connection.close()
        raise
    return connection


def log_of(path: Path) -> Path:
    """The write-ahead log of a ledger."""
    return path.with_name(path.name + "-wal")


def _is_damage(error: sqlite3.Error) -> bool:
    # Text that is not UTF-8 is found by Python, which gives no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _DAMAGE


def _gap(first: int, last: int, reason: str) -> Problem:
    return Problem(f"row {first}" if first == last else f"rows {first} to {last}", reason)
