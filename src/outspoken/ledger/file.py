"""The file of a ledger: its tables, where it may stand, opening it, and what SQLite's errors mean."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

from outspoken.errors import LedgerError
from outspoken.io.atomic import reason_of
from outspoken.io.sqlite import create_file, create_tables, may_be, transaction, version_of

__all__ = [
    "APPLICATION_ID",
    "SECONDS_TO_WAIT",
    "check_place",
    "check_version",
    "failure",
    "open_ledger",
]

APPLICATION_ID = 0x4F757473  # "Outs"
VERSION = 2
SECONDS_TO_WAIT = 30.0
_SECONDS_BETWEEN_TRIES = 0.01
_FREE_BYTES = 16 * 2**20

_TABLES = """
CREATE TABLE IF NOT EXISTS reply (
    key TEXT NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    reply TEXT NOT NULL,
    seconds REAL NOT NULL,
    created REAL NOT NULL,
    digest TEXT NOT NULL
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


def check_place(path: Path) -> None:
    """Raise `LedgerError` if the file is not a ledger, or if none can be written there."""
    folder = path.parent
    if not folder.is_dir():
        raise LedgerError(f"there is no folder {folder} for the ledger {path.name}: create it, or name another")
    if path.is_dir():
        raise LedgerError(f"{path} is a folder: name a file for the ledger, such as {path / 'run.sqlite'}")
    try:
        known = may_be(path, APPLICATION_ID)
    except FileNotFoundError:
        known = True
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from error
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise LedgerError(f"cannot write the ledger {path}: change its permissions, or name another place")
    check_version(path, 0 if known else None)
    if (free := shutil.disk_usage(folder).free) < _FREE_BYTES:
        room = f"{free / 2**20:.0f} MiB free"
        raise LedgerError(f"the disk of {path} is full ({room}): make room, or name another place")


def open_ledger(path: Path) -> sqlite3.Connection:
    """A connection that writes. A file is created if necessary, for its owner only. Raises `LedgerError`."""
    try:
        create_file(path)
    except OSError as error:
        raise LedgerError(f"cannot write the ledger {path}: {reason_of(error)}") from error
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
    """`version`, 0 for an empty file. Raises `LedgerError` for another format, and for None: no ledger."""
    if version is None:
        raise LedgerError(f"{path} is not a ledger: it was left as it is; name another file")
    if version > VERSION:
        raise LedgerError(
            f"{path} was written by a newer version of outspoken (format {version}, known here {VERSION}): upgrade"
        )
    if 0 < version < VERSION:
        raise LedgerError(
            f"{path} was written by an earlier version of outspoken (format {version}, here {VERSION}), without "
            "digests of its replies: it was left as it is; name another file"
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
            time.sleep(_SECONDS_BETWEEN_TRIES)


def failure(path: Path, error: sqlite3.Error, more: str = "") -> LedgerError:
    """The error for a failure of SQLite, with the remedy; `more` ends the message."""
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
