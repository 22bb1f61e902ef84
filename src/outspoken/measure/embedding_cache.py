"""A cache of embeddings in one SQLite file, by a hash of the embedder and the text."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.io.sqlite import create_file, transaction
from outspoken.models import weight_files

__all__ = ["EmbeddingCache", "Vector", "default_path"]

_KEYS_PER_QUERY = 500
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
    """The file in the user's cache folder, or in `$OUTSPOKEN_CACHE` if that is set."""
    return weight_files.folder().parent / "embeddings.sqlite"


class EmbeddingCache:
    """Stores vectors, but no texts. Several processes may use one file.

    The file only saves time, so its errors never end a run: a damaged file is renamed and replaced, and an
    unusable one is ignored. `problems` describes each such event in a sentence.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else Path(path).expanduser().absolute()
        if self.path.is_dir():
            raise UsageError(f"{self.path} is a folder: name a file for the embeddings")
        self.problems: list[str] = []
        self._usable = True

    def get(self, identity: str, texts: Sequence[str]) -> dict[str, Vector]:
        """The stored vectors of these texts, by text."""
        keys = {_key(identity, text): text for text in texts}
        vectors: dict[str, Vector] = {}
        for key, blob, cut in self._run(_read, list(keys)) or ():
            values = np.frombuffer(blob[: len(blob) // 4 * 4], "<f4").astype(np.float32)
            if np.isfinite(values).all():  # values garbled on disk are computed again
                vectors[keys[key]] = Vector(values, bool(cut))
        return vectors

    def put(self, identity: str, vectors: Mapping[str, Vector]) -> None:
        """Store vectors by their texts, in one transaction."""
        rows = [
            (_key(identity, text), vector.values.astype("<f4").tobytes(), vector.cut)
            for text, vector in vectors.items()
        ]
        self._run(_write, rows)

    def _run(self, work: Any, rows: list[Any]) -> Any:
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
            self.problems.append(f"embeddings are not cached, because {self.path} cannot be used: {error}")
            return None

    def _attempt(self, work: Any, rows: list[Any]) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        create_file(self.path)
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
            with database:
                return work(database, rows)

    def _set_aside(self) -> None:
        """Rename a damaged file, unless another process has done so."""
        # The lock is a database of its own, because SQLite releases it if the process ends.
        file = self.path.with_name(f"{self.path.name}.lock")
        lock = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None)
        with closing(lock), transaction(lock, "BEGIN EXCLUSIVE"):
            if self._is_sound():
                return
            aside = f"{self.path.name}.damaged-{time.time_ns()}"
            # The main file last: a process that opens a new one must not find the journal of the old one.
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(self.path.with_name(aside + suffix))
            self.problems.append(f"{self.path} was damaged: it is now {aside}, and embeddings are computed again")

    def _is_sound(self) -> bool:
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
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(part))
        rows += database.execute(f"SELECT key, vector, cut FROM vectors WHERE key IN ({marks})", part)
    return rows


def _write(database: sqlite3.Connection, rows: list[tuple[bytes, bytes, bool]]) -> None:
    database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)


def _check(database: sqlite3.Connection, rows: list[Any]) -> None:
    (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise sqlite3.DatabaseError(result)
