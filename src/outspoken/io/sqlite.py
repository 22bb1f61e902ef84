"""SQLite files of one kind: the application id in the file names the kind."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from outspoken.io.atomic import owner_only

__all__ = ["create_file", "create_tables", "may_be", "transaction", "version_of"]

_MAGIC = b"SQLite format 3\0"

# On POSIX, closing a file drops all locks that the process holds on it, even those of SQLite's connections, and
# then another process may remove the write-ahead log. So a file is read once, before the first connection to it.
_read: set[tuple[int, int]] = set()
_reading = threading.Lock()


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """One transaction, which an exception rolls back. The connection has no `isolation_level`."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back already
            connection.execute("ROLLBACK")
        raise


def may_be(path: Path, application_id: int) -> bool:
    """Whether a file may be of this kind, or is empty; a connection tells for certain. Raises `OSError`."""
    with _reading:
        if _identity(path) in _read:
            return True
        with path.open("rb") as file:
            head = file.read(72)
        # The application id may still be in the write-ahead log only.
        fits = head[:16] == _MAGIC and int.from_bytes(head[68:72], "big") in (0, application_id)
        if fits or not head:
            _read.add(_identity(path))
    return fits or not head


def create_file(path: Path) -> None:
    """Create the file if it does not exist, for its owner only; to be called before a connection that writes.

    SQLite creates the files beside it with the same permissions. Raises `OSError` if it cannot be written.
    """
    with _reading:
        try:
            os.close(owner_only(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            code = errno.EISDIR if path.is_dir() else 0 if os.access(path, os.W_OK) else errno.EACCES
            if code:
                raise OSError(code, os.strerror(code)) from None
        _read.add(_identity(path))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def version_of(connection: sqlite3.Connection, application_id: int) -> int | None:
    """The version of a file of this kind, 0 for an empty file, None for a file of another kind."""
    (identity,), (version,), (tables,) = (
        connection.execute(query).fetchone()
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    return int(version) if identity == application_id or (identity == 0 and not tables) else None


def create_tables(connection: sqlite3.Connection, tables: str, application_id: int, version: int) -> None:
    """Run the statements of `tables` in one transaction, and mark the file's kind and version."""
    with transaction(connection):
        for statement in filter(str.strip, tables.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.execute(f"PRAGMA user_version = {version}")
