"""Recorded responses into groups: files of `outspoken run`, of other packages, and counts of answers."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from jiter import from_json

from outspoken.batch.source_formats import (
    LONE,
    CutOffError,
    Unreadable,
    has_lone_surrogate,
    listed,
    open_source,
    why_not_json,
)
from outspoken.batch.sources import SourceReader
from outspoken.errors import UsageError
from outspoken.measure.response_rows import (
    KINDS,
    ResponseRowError,
    RowReader,
    RowResponses,
    Trials,
    has_value,
    is_counts,
)
from outspoken.measure.values import Group, PromptGroup, Response

__all__ = ["Records", "from_rows", "read", "read_all"]

Source = str | PathLike[str]

_UNNAMED = "recorded"
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Records:
    """What was read. `problems` are sentences for people: what could not be read, and what is uneven; `source` is
    where it all stood."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]
    source: str


def read(path: Source, *, method: str = "", model: str = "", by: Sequence[str] = ()) -> Records:
    """The responses that stand in a file; see `read_all`."""
    return read_all([path], method=method, model=model, by=by)


def read_all(paths: Iterable[Source], *, method: str = "", model: str = "", by: Sequence[str] = ()) -> Records:
    """The responses of several files, grouped by method, model, template and the columns named in `by`.

    A file is what `outspoken.batch.sources.read` reads (JSON lines, JSON, CSV or Parquet; "-" is standard input),
    and its columns tell what its rows are:

    - `prompt` and `text`, a response a row, as `outspoken run` writes them; perhaps `prompt_id`, `probability`,
      `stated`, `method`, `model`, `template`, `call`, `request_key`, `partition`, `score`. A row with an `error`,
      or with null for its text, is a failure.
    - `prompt` and `generations`, a prompt a row: NoveltyBench, with `id`, `partition` and `generation_scores`.
    - `prompt` and `responses`, a call a row: the package `verbalized-sampling`. A call that came to nothing, which
      it saves as an empty answer, is a failure; turns of one conversation are one call.
    - nothing but counts, `{answer: count}` or a list of these: trials of one prompt, each of them a call. Numbers
      that are not whole are the answers' weights.

    `method` and `model` are those of rows that name none. Where neither is known, the method is "recorded", or,
    with several such files, what the file is called. A prompt is told by its id, without one by its text.

    Raises `UsageError` for a file that is missing, empty, without the columns or without a readable row.
    """
    files = [fspath(path) for path in paths]
    resolved = [path if path == "-" else str(Path(path).resolve()) for path in files]
    if repeated := {path for path, at in zip(files, resolved, strict=True) if resolved.count(at) > 1}:
        raise UsageError(f"{listed(sorted(repeated))} is given more than once: name each file once")
    if not files:
        raise UsageError("no file of responses is named: name at least one")
    gathered = _Gathered(method, model, tuple(by))
    for at, path in enumerate(files):
        source = _Source(path)
        gathered.problems += _Rows(source, at, gathered).read(partial(_records, path, source))
        gathered.problems += _beside(path)
    return gathered.finished(files)


def from_rows(
    rows: Iterable[Mapping[str, Any]], *, method: str = "", model: str = "", by: Sequence[str] = ()
) -> Records:
    """The responses of rows in memory, with the fields of a file that `read_all` reads.

    Raises `UsageError` for no rows, rows without the fields, or none that can be used.
    """
    source = _Source("responses")
    source.between = ": row "
    gathered = _Gathered(method, model, tuple(by))
    values = (
        (position, Unreadable(LONE) if has_lone_surrogate(row) else dict(row))
        for position, row in enumerate(rows, 1)
    )
    gathered.problems += _Rows(source, 0, gathered).read(lambda _: values)
    return gathered.finished(["responses"])


class _Source(SourceReader):
    """Tells the formats what a file is called, and keeps its columns."""

    def __init__(self, path: str) -> None:
        super().__init__("standard input" if path == "-" else path, None, None)
        self.columns: list[str] = []

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        self.columns = list(names)


def _records(path: str, source: _Source, stack: ExitStack) -> Iterator[tuple[int, Any]]:
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{file} is a folder: name a file of responses in it")
    packed = file.name.lower().endswith(".json.gz")
    if file.is_file() and (packed or file.suffix.lower() == ".json"):
        single = _single_object(file, packed)
        if single is not None:
            source.settle(single, open_ended=True)
            return iter([(1, single)])
    return open_source(path, source, stack)


def _single_object(file: Path, packed: bool) -> dict[str, Any] | None:
    """What a file of JSON holds, where it is an object and not an array of them."""
    try:
        with gzip.open(file) if packed else file.open("rb") as opened:
            head = opened.read(4096)
            if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return None
            data = (head + opened.read()).removeprefix(b"\xef\xbb\xbf")
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        value: dict[str, Any] = from_json(data)
    except ValueError as error:
        reason = why_not_json(data, error)
        raise UsageError(f"{file} is {reason}; one object a line belongs into a .jsonl file") from error
    return value


class _Rows:
    """The rows of one source on their way into the groups."""

    def __init__(self, source: _Source, at: int, gathered: _Gathered) -> None:
        self._source, self._at, self._gathered = source, at, gathered
        self._unread: list[str] = []
        self._left_out: list[str] = []

    def read(self, records: Callable[[ExitStack], Iterator[tuple[int, Any]]]) -> list[str]:
        """Put every row into its group; returns what is to be told."""
        kind: RowReader | None = None
        rows = position = 0
        cut_off = ""
        with ExitStack() as stack:
            try:
                for position, value in records(stack):
                    rows += 1
                    if type(value) is not dict:
                        reason = str(value) if type(value) is Unreadable else "not a JSON object"
                        self._unread.append(f"{self._source.where(position)}: {reason}")
                        continue
                    kind = kind or self._kind(value)
                    self._take(kind, position, value)
            except CutOffError as error:
                cut_off = f"{self._source.where(position + 1)}: cannot be read from here on: {error}"
        name = self._source.name
        if not rows:
            raise UsageError(cut_off or f"{name} holds no rows: give at least one response")
        if len(self._unread) == rows:
            raise UsageError(f"{name} holds no row that can be read: {self._unread[0]}")
        return [
            *_shortened(self._unread, f"{name}: {{}} more rows that cannot be read"),
            *_shortened(self._left_out, f"{name}: {{}} more values that were left out"),
            *([cut_off] if cut_off else ()),
            *(f"{name}: {note}" for note in (kind.notes() if kind else ())),
        ]

    def _kind(self, first: dict[str, Any]) -> RowReader:
        columns = self._source.columns = self._source.columns or list(first)
        named = next((kind for name, kind in KINDS.items() if name in columns), None)
        if named is None:
            if is_counts(first):
                return Trials()
            raise UsageError(
                f"{self._source.name} has no column 'text' (or 'generations', or 'responses'): "
                f"the columns are {listed(columns)}"
            )
        if lacking := [name for name in ("prompt", *self._gathered.by) if name not in columns]:
            raise UsageError(
                f"{self._source.name} has no column {lacking[0]!r}: the columns are {listed(columns)}"
            )
        return named()

    def _take(self, kind: RowReader, position: int, row: dict[str, Any]) -> None:
        where = self._source.where(position)
        try:
            found = kind(row)
        except ResponseRowError as error:
            self._unread.append(f"{where}: {error}")
            return
        self._left_out += [f"{where}: {value} was left out" for value in found.left_out]
        self._gathered.add({} if isinstance(kind, Trials) else row, found, self._at)


def _beside(path: str) -> Iterator[str]:
    """What `outspoken run` wrote beside its output."""
    beside = Path(f"{path}.failures.jsonl")
    if beside.is_file():
        with beside.open("rb") as file:
            count = sum(1 for line in file if line.strip())
        yield f"{path}: {count:,} prompts of its run lack responses; {beside} names them"


def _shortened(lines: list[str], more: str) -> list[str]:
    rest = len(lines) - _SHOWN
    return lines if rest <= 0 else [*lines[:_SHOWN], more.format(f"{rest:,}")]


class _Prompt:
    """A prompt's responses as they come in, from one file after the other."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.responses: list[Response] = []
        self.failures = self.empty = 0
        self._file, self._first, self._next = -1, 0, 0

    def add(self, found: RowResponses, file: int) -> None:
        if file != self._file:
            self._file, self._first = file, self._next
        for response in found.responses:
            if response.call is not None and self._first:
                # Call 0 of another file is another call.
                response = replace(response, call=response.call + self._first)
            self._next = max(self._next, 0 if response.call is None else response.call + 1)
            self.responses.append(response)
        self.failures += found.failures
        self.empty += found.empty


class _Gathered:
    """The groups of all files."""

    def __init__(self, method: str, model: str, by: tuple[str, ...]) -> None:
        self.by = by
        self.problems: list[str] = []
        self._defaults = {"method": method, "model": model}
        self._groups: dict[tuple[str, ...], tuple[dict[str, Any], int | None, dict[str, _Prompt]]] = {}
        # Which prompt an id and a text mean, and which prompts have a text, with the files that they are in.
        self._of_pair: dict[tuple[str, str], str] = {}
        self._of_text: dict[str, dict[str, set[int]]] = {}
        self._keys: set[str] = set()
        self._clashes = 0

    def add(self, row: Mapping[str, Any], found: RowResponses, file: int) -> None:
        told = {
            name: str(row[name]) if has_value(row.get(name)) else self._defaults.get(name, "")
            for name in ("method", "model", "template")
        }
        settings = {name: _plain(row.get(name)) for name in self.by}
        # Files that name nothing are kept apart.
        apart = None if told["method"] or told["model"] else file
        key = (*told.values(), *map(repr, settings.values()), str(apart))
        if key not in self._groups:
            self._groups[key] = ({**told, **settings}, apart, {})
        prompts = self._groups[key][2]
        prompt_id = self._told_apart(found, file)
        if prompt_id not in prompts:
            prompts[prompt_id] = _Prompt(found.prompt)
        prompts[prompt_id].add(found, file)

    def _told_apart(self, found: RowResponses, file: int) -> str:
        """The id of a prompt among all files: of different files it is told by its text, whatever their ids.

        Within a file, ids tell equal texts apart; prompts of one id and different texts are kept apart.
        """
        pair = (found.prompt if found.prompt_id is None else found.prompt_id, found.prompt)
        same = self._of_text.setdefault(found.prompt, {})
        key = self._of_pair.get(pair)
        if key is None:
            key = next((known for known, files in same.items() if file not in files), None) or self._new(pair[0])
            self._of_pair[pair] = key
        same.setdefault(key, set()).add(file)
        return key

    def _new(self, prompt_id: str) -> str:
        key, place = prompt_id, 1
        while key in self._keys:
            place += 1
            key = f"{prompt_id} ({place})"
        self._keys.add(key)
        self._clashes += place > 1
        return key

    def finished(self, files: Sequence[str]) -> Records:
        if self._clashes:
            self.problems.append(f"{self._clashes:,} prompts have the id of another prompt, and were kept apart")
        nameless = sorted({apart for _, apart, _ in self._groups.values() if apart is not None})
        labels = [_label(files[at]) for at in nameless]
        if len(set(labels)) < len(labels):
            labels = [files[at] for at in nameless]
        names: dict[int | None, str] = dict(zip(nameless, labels, strict=True)) if len(nameless) > 1 else {}
        groups = []
        for told, apart, prompts in self._groups.values():
            settings = {name: value for name, value in told.items() if name not in ("method", "model")}
            if not settings["template"]:
                del settings["template"]
            method = told["method"] or names.get(apart, _UNNAMED)
            asked = (
                PromptGroup(prompt_id, of.prompt, tuple(of.responses), of.failures, of.empty)
                for prompt_id, of in prompts.items()
            )
            groups.append(Group(method, told["model"], tuple(asked), settings))
        return Records(tuple(groups), tuple(self.problems), ", ".join(files))


def _plain(value: Any) -> Any:
    """A value to group by, as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _label(path: str) -> str:
    """What a file is called; one whose name says nothing, as its folder is."""
    file = Path(path)
    name = Path(file.stem).stem if file.suffix == ".gz" else file.stem
    return file.resolve().parent.name if name in ("responses", "generations") else name
