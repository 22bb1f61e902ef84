"""What was embedded once: vectors by a hash of what embedded them and the text, in one SQLite file."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.models import weight_files

__all__ = ["EmbeddingCache", "Vector", "default_path"]

_KEYS_A_QUERY = 500
_BUSY_SECONDS = 30.0
_TABLE = """
    CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, cut INTEGER NOT NULL)
    WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Vector:
    """The float32 `values` of one text, and whether only its beginning was embedded."""

    values: NDArray[np.float32]
    cut: bool = False


def default_path() -> Path:
    """The file in the user's cache, under `$OUTSPOKEN_CACHE` where that is set."""
    return weight_files.folder().parent / "embeddings.sqlite"


class EmbeddingCache:
    """Keeps vectors, no texts. Several processes may use one file.

    The file only saves time, so no trouble with it ends anyone's work: one that is damaged is set aside and begun
    anew, and one that cannot be used is done without. `problems` says in a sentence each what happened.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else Path(path).expanduser().absolute()
        if self.path.is_dir():
            raise UsageError(f"{self.path} is a folder: name a file for the embeddings")
        self.problems: list[str] = []
        self._usable = True

    def get(self, identity: str, texts: Sequence[str]) -> dict[str, Vector]:
        """The vectors of those texts that are known, by text."""
        keys = {_key(identity, text): text for text in texts}
        found: dict[str, Vector] = {}
        for key, blob, cut in self._do(_read, list(keys)) or ():
            values = np.frombuffer(blob[: len(blob) // 4 * 4], "<f4").astype(np.float32)
            if np.isfinite(values).all():  # what a disk garbled is computed anew
                found[keys[key]] = Vector(values, bool(cut))
        return found

    def put(self, identity: str, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors by their texts, in one transaction."""
        self._do(
            _write,
            [
                (_key(identity, text), vector.values.astype("<f4").tobytes(), vector.cut)
                for text, vector in vectors.items()
            ],
        )

    def _do(self, work: Any, rows: list[Any]) -> Any:
        if not self._usable:
            return None
        try:
            try:
                return self._attempt(work, rows)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._set_aside()
                return self._attempt(work, rows)
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            self.problems.append(f"embeddings are not kept, because {self.path} cannot be used: {error}")
            return None

    def _attempt(self, work: Any, rows: list[Any]) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
            with database:
                return work(database, rows)

    def _set_aside(self) -> None:
        """Rename a damaged file, unless another process did so meanwhile."""
        with _alone(self.path.with_name(f"{self.path.name}.lock")):
            if self._sound():
                return
            aside = f"{self.path.name}.damaged-{time.time_ns()}"
            # The main file last: who opens a new one must not find the old one's journal.
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(self.path.with_name(aside + suffix))
            self.problems.append(f"{self.path} was damaged: it is now {aside}, and embeddings are computed anew")

    def _sound(self) -> bool:
        try:
            self._attempt(_check, [])
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        return True


def _key(identity: str, text: str) -> bytes:
    return hashlib.sha256(f"{identity}\0{text}".encode()).digest()


def _read(database: sqlite3.Connection, keys: list[bytes]) -> list[tuple[bytes, bytes, int]]:
    rows: list[tuple[bytes, bytes, int]] = []
    for start in range(0, len(keys), _KEYS_A_QUERY):
        part = keys[start : start + _KEYS_A_QUERY]
        marks = ",".join("?" * len(part))
        rows += database.execute(f"SELECT key, vector, cut FROM vectors WHERE key IN ({marks})", part)
    return rows


def _write(database: sqlite3.Connection, rows: list[tuple[bytes, bytes, bool]]) -> None:
    database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)


def _check(database: sqlite3.Connection, rows: list[Any]) -> None:
    (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Held by one process at a time; a database of its own, because SQLite's locks end with their process."""
    with closing(sqlite3.connect(lock, timeout=_BUSY_SECONDS)) as database:
        database.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            database.rollback()
