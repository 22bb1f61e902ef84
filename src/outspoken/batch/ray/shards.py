"""The prompts of a run cut into shards on a disk that several machines share, each with a ledger of its own.

`<output>.shards/` holds for each shard its prompts (`shard-00000.jsonl`), its ledger (`.sqlite`), its failures and
its lock, and `manifest.json`, which says how the prompts were cut. How they were cut never changes afterwards: a
prompt stays with the ledger that holds its reply.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import hashlib
import importlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from outspoken.batch.sources import BadRow, PromptRow
from outspoken.chat import Message
from outspoken.errors import OutputError, UsageError
from outspoken.io.atomic import put_in_place, temporary_name, reason_of

__all__ = ["ShardLayout", "ShardSource", "Shards", "shards_beside"]

MOST_ROWS_A_PART = 1000
MOST_PARTS_A_SHARD = 10
SHARDS_A_WORKER = 4
_VERSION = 1
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """How rows are cut: so many rows of the input to a part of the output, so many parts to a shard."""

    rows_a_part: int
    parts_a_shard: int

    @classmethod
    def of(cls, rows: Iterable[object], workers: int) -> ShardLayout:
        """A few shards for each worker while there are few rows, shards of 10,000 rows where there are many.

        Takes only as many rows as it needs to tell.
        """
        wanted = SHARDS_A_WORKER * workers
        count = sum(1 for _ in islice(rows, wanted * MOST_ROWS_A_PART * MOST_PARTS_A_SHARD))
        rows_a_part = min(max(-(-count // wanted), 1), MOST_ROWS_A_PART)
        return cls(rows_a_part, min(max(count // (wanted * rows_a_part), 1), MOST_PARTS_A_SHARD))

    @property
    def rows_a_shard(self) -> int:
        return self.rows_a_part * self.parts_a_shard


@dataclass(frozen=True, slots=True)
class ShardSource:
    """What the prompts were read from: the file's size and digest, its suffixes, the columns that were named."""

    bytes: int
    digest: str
    suffixes: str
    prompt_column: str | None = None
    id_column: str | None = None

    @classmethod
    def of(
        cls, path: Path, prompt_column: str | None, id_column: str | None, *, most: int | None = None
    ) -> ShardSource:
        """Of the first `most` bytes of a file, or of all. Raises `UsageError` where it cannot be read."""
        digest, size = hashlib.blake2b(digest_size=16), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK if most is None else min(_CHUNK, most - size)):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        return cls(size, digest.hexdigest(), "".join(path.suffixes).lower(), prompt_column, id_column)


class Shards:
    """The shards beside the output `out`, and what their manifest says.

    `layout` and `source` are None where nothing has been cut, `source` also where cutting was broken off;
    `count` is the number of shards. Raises `UsageError` for a manifest that cannot be read.
    """

    def __init__(self, out: Path) -> None:
        self.folder = shards_beside(out)
        self.layout: ShardLayout | None = None
        self.source: ShardSource | None = None
        self.count = 0
        self.finished: dict[str, Any] | None = None
        self._manifest = self.folder / "manifest.json"
        self._read_manifest()

    def path(self, shard: int, suffix: str = "") -> Path:
        return self.folder / f"shard-{shard:05d}{suffix}"

    def agrees(self, path: Path, source: ShardSource) -> bool:
        """Whether `source`, read from `path`, is what was cut; raises `UsageError` where it is something else.

        A file that has only grown since is to be cut again, and is neither.
        """
        old = self.source
        if old is None or old == source:
            return old is not None
        columns = [(each.suffixes, each.prompt_column, each.id_column) for each in (old, source)]
        if columns[0] != columns[1]:
            what = "is read in another way (its format, --prompt-column or --id-column)"
        elif source.bytes > old.bytes and self._begins(path, old):
            return False
        else:
            what = "has changed"
        raise UsageError(
            f"{path} {what} since it was cut into the shards in {self.folder}: put it back as it was, name "
            "another output, or start over with --overwrite (prompts that stay in their shard keep their replies)"
        )

    def cut(
        self,
        rows: Iterator[PromptRow | BadRow],
        layout: ShardLayout,
        source: ShardSource,
        go_on: Callable[[], bool],
    ) -> None:
        """Write the rows as shards, in place of earlier ones; the ledgers stay. Ends early where `go_on` says so.

        Raises `UsageError` for a value that cannot be carried, `OutputError` where the disk takes nothing.
        """
        self.layout, self.source, self.finished = layout, None, None
        earlier, self.count = self.count, 0
        try:
            self.folder.mkdir(exist_ok=True)
            self._write_manifest()
            row = next(rows, None)
            while row is not None:
                if not go_on():
                    return
                with _replacing(self.path(self.count, ".jsonl")) as file:
                    while row is not None and row.number // layout.rows_a_shard == self.count:
                        file.write(_line(row))
                        row = next(rows, None)
                self.count += 1
            for shard in range(self.count, earlier):
                self.path(shard, ".jsonl").unlink(missing_ok=True)
            self.source = source
            self._write_manifest()
        except OSError as error:
            raise OutputError(f"the shards in {self.folder} cannot be written: {reason_of(error)}") from error

    def rows(self, shard: int) -> Iterator[PromptRow | BadRow]:
        """The rows of a shard exactly as they were read."""
        with self.path(shard, ".jsonl").open("rb") as file:
            for line in file:
                yield _row(line)

    def finish(self, finished: dict[str, Any]) -> None:
        """Note that the output is whole, and what is to be known of it."""
        self.finished = finished
        self._write_manifest()

    def hold(self, shard: int) -> contextlib.closing[sqlite3.Connection] | None:
        """A lock on the shard that dies with this process, None where another process holds it.

        A worker whose machine was given up may live on for a while: its successor has to wait for it, or both
        would ask the same.
        """
        with contextlib.ExitStack() as undo:
            try:
                lock = sqlite3.connect(self.path(shard, ".lock"), timeout=0, isolation_level=None)
                undo.callback(lock.close)
                lock.execute("PRAGMA journal_mode = MEMORY")
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    return None
                raise OutputError(f"{self.path(shard, '.lock')} cannot be locked: {error}") from error
            undo.pop_all()
            return contextlib.closing(lock)

    def _begins(self, path: Path, old: ShardSource) -> bool:
        """Whether the file's beginning is all that it was, and ends with a line."""
        with path.open("rb") as file:
            file.seek(max(old.bytes - 1, 0))
            ended = file.read(1) == b"\n"
        return ended and ShardSource.of(path, old.prompt_column, old.id_column, most=old.bytes) == old

    def _read_manifest(self) -> None:
        try:
            said = json.loads(self._manifest.read_bytes())
            if said["version"] > _VERSION:
                raise UsageError(f"{self._manifest} was written by a newer version of outspoken: upgrade")
            self.layout = ShardLayout(**said["layout"])
            self.source = said["source"] and ShardSource(**said["source"])
            self.count, self.finished = int(said["shards"]), said["finished"]
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"{self._manifest} cannot be read ({error}): name another output, or remove {self.folder} with "
                "the ledgers in it"
            ) from error

    def _write_manifest(self) -> None:
        said = {
            "version": _VERSION,
            "layout": self.layout and asdict(self.layout),
            "source": self.source and asdict(self.source),
            "shards": self.count,
            "finished": self.finished,
        }
        with _replacing(self._manifest) as file:
            file.write(json.dumps(said, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n")


def shards_beside(out: Path) -> Path:
    """The folder in which the shards of an output stand."""
    return out.with_name(out.name + ".shards")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is put in its place, whole and flushed, in the end."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            put_in_place(file, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


# A row as a line of JSON. What JSON has no word for stands as {"\0": [its type, its text]}.

_TAG = "\0"


def _line(row: PromptRow | BadRow) -> bytes:
    if isinstance(row, BadRow):
        value: list[Any] = [row.number, row.where, row.reason]
    else:
        messages = [[message.role, message.content] for message in row.messages]
        try:
            columns = {name: _packed(entry) for name, entry in row.columns.items()}
            value = [row.number, row.where, row.id, messages, columns, row.occurrence]
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"{row.where}: a column cannot be carried to other machines: {error}") from error
    # A file's name, and so `where`, may hold bytes that are no UTF-8.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _row(line: bytes) -> PromptRow | BadRow:
    value = json.loads(line.decode("utf-8", "surrogatepass"))
    if len(value) == 3:
        return BadRow(*value)
    number, where, identifier, messages, columns, occurrence = value
    columns = {name: _unpacked(entry) for name, entry in columns.items()}
    return PromptRow(number, where, identifier, tuple(Message(*each) for each in messages), columns, occurrence)


def _packed(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is list:
        return [_packed(entry) for entry in value]
    if kind is dict:
        packed = [(_packed(name), _packed(entry)) for name, entry in value.items()]
        if _TAG not in value and all(type(name) is str for name in value):
            return dict(packed)
        return {_TAG: ["dict", packed]}
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if name not in _CODECS:
        raise TypeError(f"it holds a {name}; write it as text, a number or a date")
    return {_TAG: [name, _CODECS[name][0](value)]}


def _unpacked(value: Any) -> Any:
    if type(value) is list:
        return [_unpacked(entry) for entry in value]
    if type(value) is not dict:
        return value
    if _TAG not in value:
        return {name: _unpacked(entry) for name, entry in value.items()}
    name, packed = value[_TAG]
    if name == "dict":
        return {_unpacked(key): _unpacked(entry) for key, entry in packed}
    return _CODECS[name][1](packed)


def _zone(value: Any) -> str | None:
    """A time zone by the name that Arrow, from which alone such values come, knows it by."""
    if value.tzinfo is None:
        return None
    name: str = importlib.import_module("pyarrow").lib.tzinfo_to_string(value.tzinfo)
    return name


def _zoned(name: str | None) -> Any:
    return None if name is None else importlib.import_module("pyarrow").lib.string_to_tzinfo(name)


def _pandas(name: str) -> Any:
    return getattr(importlib.import_module("pandas"), name)


_CODECS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "builtins.tuple": (
        lambda value: [_packed(entry) for entry in value],
        lambda packed: tuple(_unpacked(entry) for entry in packed),
    ),
    "builtins.bytes": (lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "decimal.Decimal": (str, decimal.Decimal),
    "uuid.UUID": (str, uuid.UUID),
    "datetime.date": (datetime.date.isoformat, datetime.date.fromisoformat),
    "datetime.time": (
        lambda value: [value.isoformat(), value.fold],
        lambda packed: datetime.time.fromisoformat(packed[0]).replace(fold=packed[1]),
    ),
    "datetime.timedelta": (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda packed: datetime.timedelta(*packed),
    ),
    "datetime.datetime": (
        lambda value: [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value)],
        lambda packed: datetime.datetime.fromisoformat(packed[0]).replace(
            fold=packed[1], tzinfo=_zoned(packed[2])
        ),
    ),
    # Nanoseconds, where pandas is installed.
    "pandas.Timestamp": (
        lambda value: [value.value, _zone(value)],
        lambda packed: _pandas("Timestamp")(packed[0], tz=_zoned(packed[1])),
    ),
    "pandas.Timedelta": (
        lambda value: value.value,
        lambda packed: _pandas("Timedelta")(packed, unit="ns"),
    ),
}
