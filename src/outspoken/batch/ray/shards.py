"""The prompts of a run, divided into shards on a disk that several machines share; each shard has its own ledger.

`<output>.shards/` has for each shard its prompts (`shard-00000.jsonl`), its ledger (`.sqlite`), its failures and
its lock, and `manifest.json`, which says how the prompts were divided. The division never changes afterwards, so
that a prompt stays with the ledger that has its reply.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import importlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from outspoken.batch.sources import BadRow, PromptRow
from outspoken.chat import Message
from outspoken.errors import OutputError, UsageError
from outspoken.io.atomic import reason_of, replacing, write_bytes
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.lock import FolderInUseError, FolderLock
from outspoken.io.text import json_bytes
from outspoken.ledger import PartCounts

__all__ = ["FinishedOutput", "ShardLayout", "ShardManifest", "ShardSource", "Shards", "shards_beside"]

MOST_ROWS_PER_PART = 1000
MOST_PARTS_PER_SHARD = 10
SHARDS_PER_WORKER = 4
_VERSION = 1
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """How rows are divided: the rows of the input in a part of the output, and the parts in a shard."""

    rows_per_part: int = field(metadata={"key": "rows_a_part"})
    parts_per_shard: int = field(metadata={"key": "parts_a_shard"})

    @classmethod
    def of(cls, rows: Iterable[object], workers: int) -> ShardLayout:
        """A few shards for each worker, or shards of 10,000 rows if there are many. Reads only those it needs."""
        wanted = SHARDS_PER_WORKER * workers
        count = sum(1 for _ in islice(rows, wanted * MOST_ROWS_PER_PART * MOST_PARTS_PER_SHARD))
        rows_per_part = min(max(-(-count // wanted), 1), MOST_ROWS_PER_PART)
        return cls(rows_per_part, min(max(count // (wanted * rows_per_part), 1), MOST_PARTS_PER_SHARD))

    @property
    def rows_per_shard(self) -> int:
        return self.rows_per_part * self.parts_per_shard


@dataclass(frozen=True, slots=True)
class ShardSource:
    """The file of the prompts: its size and digest, its suffixes, and the columns that were named."""

    bytes: int
    digest: str
    suffixes: str
    prompt_column: str | None = None
    id_column: str | None = None

    @classmethod
    def of(
        cls, path: Path, prompt_column: str | None, id_column: str | None, *, most: int | None = None
    ) -> ShardSource:
        """A file, or its first `most` bytes. Raises `UsageError` if it cannot be read."""
        digest, size = hashlib.blake2b(digest_size=16), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK if most is None else min(_CHUNK, most - size)):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        return cls(size, digest.hexdigest(), "".join(path.suffixes).lower(), prompt_column, id_column)


@dataclass(frozen=True, slots=True)
class FinishedOutput:
    """A complete output: the digest of its settings, its size in bytes, the bad rows of the input, the figures."""

    settings: str
    size: int
    bad_rows: int
    counts: PartCounts


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """The state of the shards of an output.

    `layout` and `source` are None if nothing has been divided, `source` also if dividing was interrupted. There
    are `shards` with `rows` in all. `settings` are those of the last run (see `fingerprint`), `done` is the number
    of prompts that were answered at its end, `finished` describes a complete output.
    """

    version: int = _VERSION
    layout: ShardLayout | None = None
    source: ShardSource | None = None
    shards: int = 0
    rows: int = 0
    settings: Mapping[str, object] | None = None
    done: int | None = None
    finished: FinishedOutput | None = None


class Shards:
    """The shards beside the output `out`. Raises `UsageError` for a manifest that cannot be read."""

    def __init__(self, out: Path) -> None:
        self.folder = shards_beside(out)
        self._file = self.folder / "manifest.json"
        self.manifest = self._read()

    def path(self, shard: int, suffix: str = "") -> Path:
        return self.folder / f"shard-{shard:05d}{suffix}"

    def agrees(self, path: Path, source: ShardSource) -> bool:
        """Whether `source`, read from `path`, is divided; False if it is not, or has grown since.

        Raises `UsageError` if other prompts are divided.
        """
        old = self.manifest.source
        if old is None or old == source:
            return old is not None
        columns = [(each.suffixes, each.prompt_column, each.id_column) for each in (old, source)]
        if columns[0] != columns[1]:
            change = "is read in another way (its format, --prompt-column or --id-column)"
        elif source.bytes > old.bytes and self._begins(path, old):
            return False
        else:
            change = "has changed"
        raise UsageError(
            f"{path} {change} since it was divided into the shards in {self.folder}: restore it, choose another "
            "--out, or replace the output with --overwrite (prompts that stay in their shard keep their replies)"
        )

    def divide(
        self,
        rows: Iterator[PromptRow | BadRow],
        layout: ShardLayout,
        source: ShardSource,
        go_on: Callable[[], bool],
    ) -> None:
        """Write the rows as shards, which replace earlier ones; the ledgers stay. Ends early if not `go_on()`.

        Raises `UsageError` for a value that cannot be written, `OutputError` if the disk cannot be written.
        """
        settings, earlier = self.manifest.settings, self.manifest.shards
        count = total = 0
        try:
            self.folder.mkdir(0o700, exist_ok=True)
            self.write(ShardManifest(layout=layout, settings=settings))
            row = next(rows, None)
            while row is not None:
                if not go_on():
                    return
                with replacing(self.path(count, ".jsonl")) as file:
                    while row is not None and row.number // layout.rows_per_shard == count:
                        file.write(_line(row))
                        total += 1
                        row = next(rows, None)
                count += 1
            for shard in range(count, earlier):
                self.path(shard, ".jsonl").unlink(missing_ok=True)
            self.write(ShardManifest(layout=layout, source=source, shards=count, rows=total, settings=settings))
        except OSError as error:
            raise OutputError(f"the shards in {self.folder} cannot be written: {reason_of(error)}") from error

    def rows(self, shard: int) -> Iterator[PromptRow | BadRow]:
        """The rows of a shard exactly as they were read."""
        with self.path(shard, ".jsonl").open("rb") as file:
            for line in file:
                yield _row(line)

    def parts(self, shard: int) -> dict[int, int]:
        """The parts of a shard by number, with the number of rows of each."""
        layout, total = self.manifest.layout, self.manifest.rows
        if layout is None:
            return {}
        size, first = layout.rows_per_part, shard * layout.parts_per_shard
        sizes = {at: min(size, total - at * size) for at in range(first, first + layout.parts_per_shard)}
        return {number: rows for number, rows in sizes.items() if rows > 0}

    def lock(self, shard: int) -> FolderLock | None:
        """A lock on the shard, held at most until this process ends; None if another process holds it.

        A worker that was given up may still run: its successor waits for it, so that they do not send the same
        requests.
        """
        try:
            return FolderLock(self.folder, name=f"shard-{shard:05d}.lock", what=self.path(shard), keep=True)
        except FolderInUseError:
            return None
        except UsageError as error:
            raise OutputError(str(error)) from error

    def write(self, manifest: ShardManifest) -> None:
        """Replace the manifest. Raises `OutputError`."""
        self.manifest = manifest
        write_bytes(self._file, json_bytes(to_json(manifest), indent=1, default=str) + b"\n")

    def _begins(self, path: Path, old: ShardSource) -> bool:
        """Whether the file begins with its old content, which ended with a line break."""
        with path.open("rb") as file:
            file.seek(max(old.bytes - 1, 0))
            ended = file.read(1) == b"\n"
        return ended and ShardSource.of(path, old.prompt_column, old.id_column, most=old.bytes) == old

    def _read(self) -> ShardManifest:
        try:
            manifest = from_json(ShardManifest, json.loads(self._file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return ShardManifest()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self._file} cannot be read ({error}): choose another --out, or remove {self.folder} with the "
                "ledgers in it"
            ) from error
        if manifest.version > _VERSION:
            raise UsageError(f"{self._file} was written by a newer version of outspoken: upgrade")
        return manifest


def shards_beside(out: Path) -> Path:
    """The folder of the shards of an output."""
    return out.with_name(out.name + ".shards")


# A row as a line of JSON. A value without a JSON type is written as {"\0": [its type, its arguments]}.

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
    return json_bytes(value) + b"\n"


def _row(line: bytes) -> PromptRow | BadRow:
    value = json.loads(line)
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
    if kind is dict and _TAG not in value and all(type(name) is str for name in value):
        return {name: _packed(entry) for name, entry in value.items()}
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if isinstance(value, datetime.tzinfo):
        # Time zones only come from Arrow, which has names for them.
        return {_TAG: ["zone", [_library("pyarrow").lib.tzinfo_to_string(value)]]}
    if name not in _CODECS:
        raise TypeError(f"it contains a {name}; write it as text, a number or a date")
    return {_TAG: [name, [_packed(entry) for entry in _CODECS[name][0](value)]]}


def _unpacked(value: Any) -> Any:
    if type(value) is list:
        return [_unpacked(entry) for entry in value]
    if type(value) is not dict:
        return value
    if _TAG not in value:
        return {name: _unpacked(entry) for name, entry in value.items()}
    name, arguments = value[_TAG]
    return _CODECS[name][1](*map(_unpacked, arguments))


_library = importlib.import_module


def _constructor_arguments(value: Any) -> Any:
    return value.__reduce_ex__(4)[1]


_CODECS: Mapping[str, tuple[Callable[[Any], Iterable[Any]], Callable[..., Any]]] = {
    "builtins.tuple": (list, lambda *entries: entries),
    "builtins.dict": (dict.items, lambda *items: dict(items)),
    "builtins.bytes": (lambda value: [base64.b64encode(value).decode()], base64.b64decode),
    "decimal.Decimal": (_constructor_arguments, decimal.Decimal),
    "uuid.UUID": (lambda value: [str(value)], uuid.UUID),
    "datetime.date": (_constructor_arguments, datetime.date),
    "datetime.time": (_constructor_arguments, datetime.time),
    "datetime.timedelta": (_constructor_arguments, datetime.timedelta),
    "datetime.datetime": (_constructor_arguments, datetime.datetime),
    "zone": (lambda zone: [zone], lambda name: _library("pyarrow").lib.string_to_tzinfo(name)),
    # Values with nanoseconds, if pandas is installed.
    "pandas.Timestamp": (
        lambda value: [value.value, value.tzinfo],
        lambda value, zone: _library("pandas").Timestamp(value, tz=zone),
    ),
    "pandas.Timedelta": (
        lambda value: [value.value],
        lambda value: _library("pandas").Timedelta(value, unit="ns"),
    ),
}
