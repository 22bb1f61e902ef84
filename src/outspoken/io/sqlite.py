"""SQLite files of one kind: the application id in the file names the kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["MAGIC", "create_tables", "may_be", "transaction", "version_of"]

MAGIC = b"SQLite format 3\0"


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


def may_be(head: bytes, application_id: int) -> bool:
    """Whether a file that begins with `head`, of at least 72 bytes, may be of this kind, or is empty."""
    # The application id may still be in the write-ahead log only.
    return not head or (head[:16] == MAGIC and int.from_bytes(head[68:72], "big") in (0, application_id))


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
