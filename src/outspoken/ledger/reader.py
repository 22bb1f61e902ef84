"""Reading a ledger without writing, even if the file is damaged or its folder is read-only."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.errors import LedgerError, UsageError
from outspoken.io.sqlite import may_be
from outspoken.ledger import file
from outspoken.ledger.keys import digest_of
from outspoken.ledger.store import StoredReply

__all__ = ["LedgerReader", "Problem", "log_of"]

_SINGLE_STEPS = 1_000
_STEPS_OF_SQLITE = 100_000
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage in a ledger; `where` is a key, a schema, rows, or the file."""

    where: str
    reason: str


class LedgerReader:
    """A ledger opened for reading: it is neither created nor changed.

    If the folder is writable, SQLite keeps two more files beside the ledger while it is open, and new writes of
    other processes are seen; otherwise the file is read as it was on opening. Raises `UsageError` if the file does
    not exist, and `LedgerError` if it is not a ledger or cannot be read.
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
        """Bytes on disk, including the write-ahead log."""
        return sum(path.stat().st_size for path in (self.path, log_of(self.path)) if path.exists())

    def rows(self, statement: str, *values: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query, one at a time."""
        try:
            yield from self._execute(statement, *values)
        except sqlite3.Error as error:
            raise file.failure(self.path, error) from error

    def stored(self) -> Iterator[StoredReply | Problem]:
        """All replies in the order in which they were stored, including those after damaged parts of the file."""
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
                    raise file.failure(self.path, error) from error
                lost = str(error)
            # Skip damaged rows one by one, then in growing steps if a large part of the file is damaged.
            step = 1 if misses < _SINGLE_STEPS else misses
            at, misses = at + step, misses + step
            if at > self._last():
                break
        if misses:
            yield _gap(at - misses + 1, at, lost)

    def schemas(self) -> tuple[dict[str, str], list[Problem]]:
        """The JSON of each intact schema by its hash, and the problems of the others."""
        intact: dict[str, str] = {}
        problems: list[Problem] = []
        try:
            for hashed, text in self._execute("SELECT hash, text FROM schema"):
                if isinstance(text, str) and digest_of(text) == hashed:
                    intact[hashed] = text
                else:
                    problems.append(Problem(f"schema {hashed}", "its hash is not that of its text"))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise file.failure(self.path, error) from error
            problems.append(Problem("schemas", str(error)))
        return intact, problems

    def count(self) -> int:
        """The number of replies; 0 if the file is too damaged to count them."""
        try:
            return int(next(self.rows("SELECT count(*) FROM reply"))[0])
        except LedgerError:
            return 0

    def last_run(self, output: str) -> Mapping[str, object] | None:
        """The settings of the last run into this output (see `Ledger.note_run`), None if there is none."""
        query = (
            "SELECT settings FROM run WHERE json_valid(settings) AND json_extract(settings, '$.out') = ? "
            "ORDER BY rowid DESC LIMIT 1"
        )
        row = next(self.rows(query, output), None)
        return None if row is None else json.loads(row[0])

    def _execute(self, statement: str, *values: Any) -> Iterator[sqlite3.Row]:
        try:
            # Not `yield from`, which would close the cursor, and that fails once the connection is closed.
            for row in self._connection.execute(statement, values):  # noqa: UP028
                yield row
        except sqlite3.OperationalError as error:
            # On Ctrl-C Python raises in the progress handler; SQLite only reports that it was interrupted.
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
        known = may_be(path, file.APPLICATION_ID)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no ledger {path}: name the file given as --ledger, or OUT.ledger.sqlite beside OUT"
        ) from error
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from error
    file.check_version(path, 0 if known else None)
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
        raise file.failure(path, error) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=file.SECONDS_TO_WAIT, isolation_level=None
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA query_only = ON")
        # Otherwise SQLite does not open a truncated file.
        connection.execute("PRAGMA writable_schema = ON")
        identity, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        file.check_version(path, version if identity == file.APPLICATION_ID else None)
        connection.set_progress_handler(lambda: None, _STEPS_OF_SQLITE)
    except BaseException:
        connection.close()
        raise
    return connection


def log_of(path: Path) -> Path:
    """The write-ahead log of a ledger."""
    return path.with_name(path.name + "-wal")


def _is_damage(error: sqlite3.Error) -> bool:
    # Errors without a code are Python's, for text that is not UTF-8.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _DAMAGE


def _gap(first: int, last: int, reason: str) -> Problem:
    return Problem(f"row {first}" if first == last else f"rows {first} to {last}", reason)
