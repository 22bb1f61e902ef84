"""Keeping other processes out of a folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.io.atomic import reason_of

__all__ = ["FolderInUseError", "FolderLock"]

_ATTEMPTS = 10


class FolderInUseError(UsageError):
    """Another process holds the lock."""


class FolderLock:
    """An exclusive lock on a folder, held until `release` or until the process ends, however it ends.

    The folder is created if necessary; `release` removes a folder that was created here and is still empty. The
    lock is an exclusive transaction on the empty SQLite database `name` in the folder. Errors say that `what` is
    locked (default: the folder). With `keep` the file stays after `release`: on a network disk a removed file may
    look present to other machines for some seconds.

    Raises `FolderInUseError` if another process holds the lock, `UsageError` if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, *, name: str = ".lock", what: str | Path | None = None, keep: bool = False
    ) -> None:
        self.folder, self.file = folder, folder / name
        self._what, self._keep = what or folder, keep
        self._created = not os.path.exists(folder)  # unlike Path.exists, false for invalid names
        self._connection: sqlite3.Connection | None = self._take()

    def release(self) -> None:
        """Let other processes in. Calling it twice is harmless."""
        if self._connection is None:
            return
        if not self._keep:
            # Removed while it is held: a process that opens the file afterwards creates a new one, see `_take`.
            with contextlib.suppress(OSError):
                self.file.unlink()
        self._connection.close()
        self._connection = None
        if self._created:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self) -> sqlite3.Connection:
        reason = "other processes keep locking and releasing it"
        for _ in range(_ATTEMPTS):
            with contextlib.ExitStack() as undo:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self.file.touch()
                    before = self.file.stat()
                    connection = sqlite3.connect(
                        self.file, timeout=0, isolation_level=None, check_same_thread=False
                    )
                    undo.callback(connection.close)
                    connection.execute("PRAGMA journal_mode = MEMORY")
                    # The system ends the transaction when the process ends.
                    connection.execute("BEGIN EXCLUSIVE")
                    # The previous holder may have removed the file between our opening it and our locking it.
                    if os.path.samestat(before, self.file.stat()):
                        undo.pop_all()
                        return connection
                except FileNotFoundError as error:
                    if error.filename != str(self.file):
                        raise UsageError(f"{self.folder} cannot be created: {reason_of(error)}") from error
                except FileExistsError as error:
                    raise UsageError(f"{self.folder} is a file, and a folder is needed") from error
                except OSError as error:
                    raise UsageError(f"{self.folder} cannot be written: {reason_of(error)}") from error
                except sqlite3.Error as error:
                    reason, code = str(error), error.sqlite_errorcode & 0xFF
                    if code == sqlite3.SQLITE_BUSY:
                        raise FolderInUseError(
                            f"another process is writing {self._what}: wait for it, or choose another output"
                        ) from error
                    # The folder may have been removed before SQLite opened the file.
                    if code != sqlite3.SQLITE_CANTOPEN:
                        break
        raise UsageError(f"{self.file} cannot be locked: {reason}")
