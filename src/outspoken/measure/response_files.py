"""Recorded responses read into groups: files of `outspoken run` and of other packages, and counts of answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from os.path import realpath
from pathlib import Path
from typing import Any

from outspoken.batch.source_formats import (
    LONE,
    ColumnSource,
    Unreadable,
    has_lone_surrogate,
    listed,
    open_source,
)
from outspoken.batch.source_text import CutOffError
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.measure.response_rows import (
    KINDS,
    ResponseRowError,
    Row,
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
_MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Records:
    """The groups that were read from `source`, and sentences about `problems` with rows and values."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]
    source: str


def read(path: Source, *, method: str = "", model: str = "", by: Sequence[str] = ()) -> Records:
    """The responses in one file; see `read_all`."""
    return read_all([path], method=method, model=model, by=by)


def read_all(paths: Iterable[Source], *, method: str = "", model: str = "", by: Sequence[str] = ()) -> Records:
    """The responses of several files, grouped by method, model, template and the columns named in `by`.

    A file has any format of `outspoken.batch.sources.read` (JSON lines, JSON, CSV or Parquet; "-" is standard
    input). Its columns determine how its rows are read:

    - `prompt` and `text`: one response per row, as `outspoken run` writes them. Optional are `prompt_id`,
      `probability`, `stated`, `method`, `model`, `template`, `call`, `request_key`, `partition` and `score`. A row
      with an `error`, or with null as its text, is a failure.
    - `prompt` and `generations`: one prompt per row, from NoveltyBench, with `id`, `partition` and
      `generation_scores`.
    - `prompt` and `responses`: one call per row, from the package `verbalized-sampling`. An empty answer is a
      failed call; the turns of a conversation are one call.
    - Only counts, `{answer: count}` or a list of these: trials of one prompt, each of them a call. Numbers that
      are not whole are the weights of the answers.

    `method` and `model` apply to rows without these columns. If both are unknown, the method is "recorded", or the
    name of the file if there are several such files. Prompts are identified by id, or else by text.

    Raises `UsageError` for a file that is missing or empty, and for one without these columns or a readable row.
    """
    files = [fspath(path) for path in paths]
    resolved = [path if path == "-" else realpath(path) for path in files]
    if repeated := {path for path, place in zip(files, resolved, strict=True) if resolved.count(place) > 1}:
        raise UsageError(f"{listed(sorted(repeated))} is given more than once: name each file once")
    if not files:
        raise UsageError("no file of responses is given: name at least one")
    collected = _Collected(method, model, tuple(by))
    for number, path in enumerate(files):
        source = ColumnSource(path)
        source.one_object = True
        collected.read(source, number, partial(open_source, path, source))
        collected.problems += _failures_of_run(path)
    return collected.records(files)


def from_rows(rows: Iterable[Row], *, method: str = "", model: str = "", by: Sequence[str] = ()) -> Records:
    """The responses of rows in memory, with the columns of the files that `read_all` reads.

    Raises `UsageError` for no rows, rows without these columns, or no usable row.
    """
    source = ColumnSource("responses")
    source.between = ": row "
    collected = _Collected(method, model, tuple(by))
    values = (
        (position, Unreadable(LONE) if has_lone_surrogate(row) else dict(row))
        for position, row in enumerate(rows, 1)
    )
    collected.read(source, 0, lambda _: values)
    return collected.records(["responses"])


def _failures_of_run(path: str) -> Iterator[str]:
    """A sentence about the file of failures that `outspoken run` wrote beside its output, if there is one."""
    failures = Path(f"{path}.failures.jsonl")
    if failures.is_file():
        with failures.open("rb") as file:
            count = sum(1 for line in file if line.strip())
        prompts = plural(count, "prompt of its run lacks", "prompts of its run lack")
        yield f"{path}: {prompts} responses; {failures} names them"


def _shortened(lines: list[str], more: str) -> list[str]:
    rest = len(lines) - _MAX_PROBLEMS
    return lines if rest <= 0 else [*lines[:_MAX_PROBLEMS], more.format(f"{rest:,}")]


class _Prompt:
    """The responses to one prompt, collected from one file after the other."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.responses: list[Response] = []
        self.failures = self.empty = 0
        self._file, self._first, self._next = -1, 0, 0

    def add(self, row: RowResponses, file: int) -> None:
        if file != self._file:
            self._file, self._first = file, self._next
        for response in row.responses:
            if response.call is not None and self._first:
                # Call 0 of another file is another call.
                response = replace(response, call=response.call + self._first)
            self._next = max(self._next, 0 if response.call is None else response.call + 1)
            self.responses.append(response)
        self.failures += row.failures
        self.empty += row.empty


class _Collected:
    def __init__(self, method: str, model: str, by: tuple[str, ...]) -> None:
        self._by = by
        self.problems: list[str] = []
        self._defaults = {"method": method, "model": model}
        # For each group: the group without prompts, the number of its file if that names neither method nor model,
        # and its prompts.
        self._groups: dict[tuple[str, ...], tuple[Group, int | None, dict[str, _Prompt]]] = {}
        # The key of each pair of id and text, and for each text its keys with the files that have them.
        self._key_of_pair: dict[tuple[str, str], str] = {}
        self._keys_of_text: dict[str, dict[str, set[int]]] = {}
        self._keys: set[str] = set()
        self._clashes = 0

    def read(
        self, source: ColumnSource, file: int, records: Callable[[ExitStack], Iterator[tuple[int, Any]]]
    ) -> None:
        """Add every row of a source, the file with the number `file`, to its group, and note the problems."""
        reader: RowReader | None = None
        unreadable: list[str] = []
        left_out: list[str] = []
        rows = position = 0
        cut_off = ""
        with ExitStack() as stack:
            try:
                for position, value in records(stack):
                    rows += 1
                    if type(value) is not dict:
                        reason = str(value) if type(value) is Unreadable else "not a JSON object"
                        unreadable.append(f"{source.where(position)}: {reason}")
                        continue
                    reader = reader or self._reader(source, value)
                    try:
                        responses = reader(value)
                    except ResponseRowError as error:
                        unreadable.append(f"{source.where(position)}: {error}")
                        continue
                    left_out += [f"{source.where(position)}: {each} was left out" for each in responses.left_out]
                    self._add({} if isinstance(reader, Trials) else value, responses, file)
            except CutOffError as error:
                cut_off = f"{source.where(position + 1)}: cannot be read from here on: {error}"
        name = source.name
        if not rows:
            raise UsageError(cut_off or f"{name} holds no rows: give at least one response")
        if len(unreadable) == rows:
            raise UsageError(f"{name} holds no row that can be read: {unreadable[0]}")
        self.problems += _shortened(unreadable, f"{name}: {{}} more rows that cannot be read")
        self.problems += _shortened(left_out, f"{name}: {{}} more values that were left out")
        self.problems += [cut_off] if cut_off else []
        self.problems += [f"{name}: {note}" for note in (reader.notes() if reader else ())]

    def _reader(self, source: ColumnSource, first: Row) -> RowReader:
        columns = source.columns = source.columns or list(first)
        kind = next((kind for name, kind in KINDS.items() if name in columns), None)
        if kind is None and is_counts(first):
            return Trials()
        missing = [repr(name) for name in ("prompt", *self._by) if name not in columns]
        if kind is not None and not missing:
            return kind()
        column = "'text' (or 'generations', or 'responses')" if kind is None else missing[0]
        raise UsageError(f"{source.name} has no column {column}: the columns are {listed(columns)}")

    def _add(self, row: Row, responses: RowResponses, file: int) -> None:
        names = {
            name: str(row[name]) if has_value(row.get(name)) else self._defaults.get(name, "")
            for name in ("method", "model", "template")
        }
        settings = {name: _json_value(row.get(name)) for name in self._by}
        # Rows without method and model form a group for each file.
        own_file = None if names["method"] or names["model"] else file
        key = (*names.values(), *map(repr, settings.values()), str(own_file))
        if key not in self._groups:
            template = {"template": names["template"]} if names["template"] else {}
            group = Group(names["method"], names["model"], (), {**template, **settings})
            self._groups[key] = group, own_file, {}
        prompts = self._groups[key][2]
        prompt_id = self._prompt_key(responses, file)
        if prompt_id not in prompts:
            prompts[prompt_id] = _Prompt(responses.prompt)
        prompts[prompt_id].add(responses, file)

    def _prompt_key(self, row: RowResponses, file: int) -> str:
        """The id of a prompt among all files.

        Between files, prompts are identified by their text, whatever their ids. Within a file, prompts with equal
        texts are distinguished by their ids; prompts with one id and different texts are different prompts.
        """
        pair = (row.prompt if row.prompt_id is None else row.prompt_id, row.prompt)
        same_text = self._keys_of_text.setdefault(row.prompt, {})
        key = self._key_of_pair.get(pair)
        if key is None:
            known = (known for known, files in same_text.items() if file not in files)
            key = next(known, None) or self._new_key(pair[0])
            self._key_of_pair[pair] = key
        same_text.setdefault(key, set()).add(file)
        return key

    def _new_key(self, prompt_id: str) -> str:
        key, number = prompt_id, 1
        while key in self._keys:
            number += 1
            key = f"{prompt_id} ({number})"
        self._keys.add(key)
        self._clashes += number > 1
        return key

    def records(self, files: Sequence[str]) -> Records:
        """The groups of all rows that were added."""
        if self._clashes:
            clashes = plural(self._clashes, "prompt has", "prompts have")
            self.problems.append(f"{clashes} the id of another prompt; they count as different prompts")
        nameless = sorted({file for _, file, _ in self._groups.values() if file is not None})
        labels = [_label(files[number]) for number in nameless]
        if len(set(labels)) < len(labels):
            labels = [files[number] for number in nameless]
        names: dict[int | None, str] = dict(zip(nameless, labels, strict=True)) if len(nameless) > 1 else {}
        groups = []
        for group, file, collected in self._groups.values():
            prompts = (
                PromptGroup(prompt_id, one.prompt, tuple(one.responses), one.failures, one.empty)
                for prompt_id, one in collected.items()
            )
            method = group.method or names.get(file, _UNNAMED)
            groups.append(replace(group, method=method, prompts=tuple(prompts)))
        return Records(tuple(groups), tuple(self.problems), ", ".join(files))


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _label(path: str) -> str:
    """The name of a file without its ending, or of its folder if the file has a generic name."""
    file = Path(path)
    name = Path(file.stem).stem if file.suffix == ".gz" else file.stem
    return Path(realpath(file)).parent.name if name in ("responses", "generations") else name
