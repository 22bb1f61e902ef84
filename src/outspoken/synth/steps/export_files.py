"""The files of an export: JSON lines and Parquet, side by side, all there when the block ends or none."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from outspoken.io.atomic import put_in_place, temporary_name, output_errors
from outspoken.synth.records import RecordWriter, pa, table_of, with_columns

__all__ = ["FORMATS", "PAIRS", "Example", "ExportFiles"]

FORMATS: Mapping[str, tuple[str, str]] = {
    "chat": ("train.jsonl", "test.jsonl"),
    "preferences": ("preferences.jsonl", "preferences-test.jsonl"),
    "parquet": ("train.parquet", "test.parquet"),
    "datasets": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
}
"""The formats, and the files of each: of the records to train on, and of those held out."""

PAIRS = ("preferences/train-00000-of-00001.parquet", "preferences/test-00000-of-00001.parquet")
"""Where the pairs stand in a data set: `datasets` reads one kind of file from a folder."""

_TAKEN = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns by which TRL tells what a data set holds: a record's own of these names get another one."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PAIR = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)])


@dataclass(frozen=True, slots=True)
class Example:
    """One record as it is trained on: a chat of one turn, and the `wrong` answers to the same prompt."""

    system: str
    prompt: str
    completion: str
    wrong: tuple[str, ...] = ()
    held_out: bool = False

    @property
    def asked(self) -> list[dict[str, str]]:
        said = [{"role": "system", "content": self.system}] if self.system else []
        return [*said, {"role": "user", "content": self.prompt}]

    @property
    def messages(self) -> list[dict[str, str]]:
        return [*self.asked, _answer(self.completion)]

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """In the explicit form that TRL's `DPOTrainer` takes, as messages."""
        return [
            {"prompt": self.asked, "chosen": [_answer(self.completion)], "rejected": [_answer(text)]}
            for text in self.wrong
        ]


class ExportFiles:
    """Writes examples in several formats at once; only a file into which something goes is made.

    `rows` says how many are in each file, `columns` what the tables hold, and `renamed` which of their columns had
    to give way to TRL's. Raises `OutputError` where it cannot write.
    """

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        self.train = self.test = self.pairs = 0
        self.columns: list[str] = []
        self.renamed: dict[str, str] = {}
        self._folder = folder
        self._formats = tuple(name for name in FORMATS if name in formats)
        self._open: dict[str, RecordWriter | _Lines] = {}
        self._stack = ExitStack()
        self._hashed = hashlib.blake2b(digest_size=12)

    @property
    def rows(self) -> dict[str, int]:
        return {name: file.rows for name, file in self._open.items()}

    @property
    def digest(self) -> str:
        """Of all that is written: what tells this export from another one of as many rows."""
        return self._hashed.hexdigest()

    def __enter__(self) -> ExportFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, examples: Sequence[Example], records: Any) -> None:
        """Add examples, and the table of the records that they come from."""
        for side in (0, 1):
            here = [example.held_out == bool(side) for example in examples]
            mine = list(itertools.compress(examples, here))
            if not mine:
                continue
            pairs = [pair for example in mine for pair in example.pairs]
            table = self._table(records.filter(pa.array(here)), mine)
            self._hash(table, pairs)
            for name in self._formats:
                path = FORMATS[name][side]
                if name == "chat":
                    self._lines(path).write([{"messages": example.messages} for example in mine])
                elif name == "preferences" and pairs:
                    self._lines(path).write(pairs)
                elif name != "preferences":
                    self._parquet(path).write(table)
            if pairs and {"preferences", "datasets"} <= set(self._formats):
                self._parquet(PAIRS[side]).write(table_of(pairs, _PAIR))
            self.pairs += len(pairs)
            if side:
                self.test += len(mine)
            else:
                self.train += len(mine)

    def _hash(self, table: Any, pairs: Sequence[Mapping[str, Any]]) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        self._hashed.update(sink.getvalue())
        self._hashed.update(json.dumps(pairs, ensure_ascii=False).encode())

    def forget_others(self) -> None:
        """Remove the files of an earlier export that this one did not write."""
        for name in itertools.chain(*FORMATS.values(), PAIRS):
            if name not in self._open:
                with output_errors(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)

    def _table(self, records: Any, examples: Sequence[Example]) -> Any:
        names = list(records.schema.names)
        for name in _TAKEN:
            if name in names:
                other = f"record_{name}"
                while other in names:
                    other += "_"
                names[names.index(name)] = self.renamed[name] = other
        table = records.rename_columns(names)
        table = with_columns(table, {"messages": pa.array([example.messages for example in examples], _MESSAGES)})
        self.columns = list(table.schema.names)
        return table

    def _lines(self, name: str) -> _Lines:
        file = self._open.get(name)
        if not isinstance(file, _Lines):
            file = self._open[name] = self._stack.enter_context(_Lines(self._folder / name))
        return file

    def _parquet(self, name: str) -> RecordWriter:
        file = self._open.get(name)
        if not isinstance(file, RecordWriter):
            file = self._open[name] = self._stack.enter_context(RecordWriter(self._folder / name))
        return file


class _Lines:
    """JSON lines, which are there when the block ends without an error, and not before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0

    def __enter__(self) -> _Lines:
        with output_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = temporary_name(self.path).open("wb")
        return self

    def write(self, values: Sequence[Mapping[str, Any]]) -> None:
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
