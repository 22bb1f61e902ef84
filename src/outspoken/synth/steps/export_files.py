"""The files of an export, JSON lines and Parquet: all of them appear when the block ends, or none."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypedDict

from outspoken.io.atomic import output_errors, put_in_place, temporary_name
from outspoken.synth.records import RecordWriter, pa, table_of, with_columns

__all__ = ["FORMATS", "PAIRS", "Example", "ExportContents", "ExportFiles"]

FORMATS: Mapping[str, tuple[str, str]] = {
    "chat": ("train.jsonl", "test.jsonl"),
    "preferences": ("preferences.jsonl", "preferences-test.jsonl"),
    "parquet": ("train.parquet", "test.parquet"),
    "datasets": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
}
"""The formats, and the files of each: of the records to train on, and of those held out."""

PAIRS = ("preferences/train-00000-of-00001.parquet", "preferences/test-00000-of-00001.parquet")
"""The files of pairs for `datasets`, which reads one kind of file from a folder."""

_RESERVED = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns by which TRL recognises the kind of a data set: a record's own columns of these names are renamed."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PAIR = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)])

_Messages = list[dict[str, str]]


class _Pair(TypedDict):
    prompt: _Messages
    chosen: _Messages
    rejected: _Messages


@dataclass(frozen=True, slots=True)
class Example:
    """One record to train on: a chat of one turn, and `wrong` answers to the same prompt."""

    system: str
    prompt: str
    completion: str
    wrong: tuple[str, ...] = ()
    held_out: bool = False

    @property
    def prompt_messages(self) -> _Messages:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]

    @property
    def messages(self) -> _Messages:
        return [*self.prompt_messages, _answer(self.completion)]

    @property
    def pairs(self) -> list[_Pair]:
        """The pairs in the explicit form that TRL's `DPOTrainer` takes, as messages."""
        return [
            {"prompt": self.prompt_messages, "chosen": [_answer(self.completion)], "rejected": [_answer(text)]}
            for text in self.wrong
        ]


@dataclass(frozen=True, slots=True)
class ExportContents:
    """The numbers of records to `train` on, held out for a `test`, and of preference `pairs`; the `rows` of each
    file, the `columns` of the tables, new names of `renamed` ones, and a `digest` of the content."""

    train: int
    test: int
    rows: Mapping[str, int]
    pairs: int = 0
    columns: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


class ExportFiles:
    """Writes examples in several formats at once; a file without content is not created.

    Raises `OutputError` if it cannot write.
    """

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        self._train = self._test = self._pairs = 0
        self._columns: list[str] = []
        self._renamed: dict[str, str] = {}
        self._folder = folder
        self._formats = tuple(name for name in FORMATS if name in formats)
        self._files: dict[str, RecordWriter | _JsonLines] = {}
        self._stack = ExitStack()
        self._hash = hashlib.blake2b(digest_size=12)

    @property
    def contents(self) -> ExportContents:
        rows = {name: file.rows for name, file in self._files.items()}
        counts = (self._train, self._test, rows, self._pairs)
        return ExportContents(*counts, self._columns, self._renamed, self._hash.hexdigest())

    def __enter__(self) -> ExportFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, examples: Sequence[Example], records: Any) -> None:
        """Add examples, and the table of the records that they come from."""
        for split in (0, 1):
            selected = [example.held_out == bool(split) for example in examples]
            chosen = list(itertools.compress(examples, selected))
            if not chosen:
                continue
            pairs = [pair for example in chosen for pair in example.pairs]
            table = self._table(records.filter(pa.array(selected)), chosen)
            self._update_hash(table, pairs)
            for name in self._formats:
                path = FORMATS[name][split]
                if name == "chat":
                    self._json_lines(path).write([{"messages": example.messages} for example in chosen])
                elif name == "preferences" and pairs:
                    self._json_lines(path).write(pairs)
                elif name != "preferences":
                    self._parquet(path).write(table)
            if pairs and {"preferences", "datasets"} <= set(self._formats):
                self._parquet(PAIRS[split]).write(table_of(pairs, _PAIR))
            self._pairs += len(pairs)
            if split:
                self._test += len(chosen)
            else:
                self._train += len(chosen)

    def remove_other_files(self) -> None:
        """Remove the files of an earlier export that this one did not write."""
        for name in itertools.chain(*FORMATS.values(), PAIRS):
            if name not in self._files:
                with output_errors(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)

    def _update_hash(self, table: Any, pairs: Sequence[_Pair]) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        self._hash.update(sink.getvalue())
        self._hash.update(json.dumps(pairs, ensure_ascii=False).encode())

    def _table(self, records: Any, examples: Sequence[Example]) -> Any:
        names = list(records.schema.names)
        for name in _RESERVED:
            if name in names:
                other = f"record_{name}"
                while other in names:
                    other += "_"
                names[names.index(name)] = self._renamed[name] = other
        table = records.rename_columns(names)
        table = with_columns(table, {"messages": pa.array([example.messages for example in examples], _MESSAGES)})
        self._columns = list(table.schema.names)
        return table

    def _json_lines(self, name: str) -> _JsonLines:
        file = self._files.get(name)
        if not isinstance(file, _JsonLines):
            file = self._files[name] = self._stack.enter_context(_JsonLines(self._folder / name))
        return file

    def _parquet(self, name: str) -> RecordWriter:
        file = self._files.get(name)
        if not isinstance(file, RecordWriter):
            file = self._files[name] = self._stack.enter_context(RecordWriter(self._folder / name))
        return file


class _JsonLines:
    """A file of JSON lines, which appears only when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0

    def __enter__(self) -> _JsonLines:
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = temporary_name(self.path).open("wb")
        return self

    def write(self, values: Sequence[Mapping[str, object]]) -> None:
        with output_errors(self.path):
            self._file.writelines(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)
        self.rows += len(values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with output_errors(self.path):
                put_in_place(self._file, self.path)
            return
        self._file.close()
        with contextlib.suppress(OSError):
            temporary_name(self.path).unlink()


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
