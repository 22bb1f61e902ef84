"""Recorded responses read into groups: files of `outspoken run` and of other packages, and counts of answers."""

from __future__ import annotations

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
from outspoken.errors import UsageError, errors_at
from outspoken.io.text import plural
from outspoken.measure.answer_layouts import NAMELESS, Draws, answers_reader, evaluated_rows
from outspoken.measure.probability_scale import mixed_scales
from outspoken.measure.recorded_settings import SETTINGS, settings_of
from outspoken.measure.response_groups import FileGroup, OtherColumns, joined, parts_of_group
from outspoken.measure.response_rows import (
    KINDS,
    ResponseRowError,
    Row,
    RowReader,
    RowResponses,
    has_value,
)
from outspoken.measure.values import Group

__all__ = ["Records", "from_rows", "read", "read_all"]

Source = str | PathLike[str]

_KNOWN = """
prompt_id id prompt text stated probability method model rank call request_key repairs value error partition score
responses generations generation_scores partition_scores distinct utility index turn logprob
"""
KNOWN = frozenset((*_KNOWN.split(), *SETTINGS))
"""The columns that say something about a response or its settings."""

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
    """The responses of several files, grouped by method, model, settings and the columns named in `by`.

    Settings are the columns template, k, tau, words, temperature, top_p and `settings` (others, as a JSON object);
    "0.3" and 0.3 are one temperature.

    Files of one such group that have no prompt in common are joined. Files that repeat a prompt are parted by the
    only other column that has one value per file and tells them apart, or else are groups of their own, named by
    their files.

    A file has any format of `outspoken.batch.sources.read` (JSON lines, JSON, CSV or Parquet; "-" is standard
    input). Its columns determine how its rows are read:

    - `prompt` and `text`: one response per row, as `outspoken run` writes them. Optional are `prompt_id`,
      `probability`, `stated`, `method`, `model`, `template`, `call`, `request_key`, `partition` and `score`. A row
      with an `error`, or with null as its text, is a failure.
    - `prompt` and `generations`: one prompt per row, from NoveltyBench, with `id`, `partition` and
      `generation_scores`.
    - `prompt` and `responses`: one call per row, from the package `verbalized-sampling`. An empty answer is a
      failed call; the turns of a conversation are one call.
    - Only counts, `{answer: count}` or `{answer: {"count": count}}`, or a list of these: trials of one prompt,
      each of them a call. Numbers that are not whole are the weights of the answers.
    - Only lists of responses, `{"responses_1": [...], ...}`: calls for one prompt.
    - A list of answers and nothing else, `[4, 3, "Red"]`: draws for one prompt. Null is a failure.
    - `instance_metrics`, from the evaluators of `verbalized-sampling`, if each repeats its prompt and response.

    `method` and `model` apply to rows without these columns. If both are unknown, the method is "recorded", or the
    name of the file if there are several such files. Probabilities of one call on several scales are left out.
    Prompts are identified by id, or else by text.

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


class _Collected:
    def __init__(self, method: str, model: str, by: tuple[str, ...]) -> None:
        self._by = by
        self.problems: list[str] = []
        self._defaults = {"method": method, "model": model}
        # For each group: the group without prompts, and its prompts by the number of the file.
        self._groups: dict[tuple[str, ...], tuple[Group, dict[int, FileGroup]]] = {}
        # The same by the values of the columns that part groups, as they are written.
        self._grouping = dict.fromkeys(("method", "model", *SETTINGS, *by))
        self._group_of: dict[str, FileGroup] = {}
        self._columns: dict[int, OtherColumns] = {}
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
                for position, value in _values(records(stack), source):
                    rows += 1
                    if not isinstance(value, dict):
                        unreadable.append(f"{source.where(position)}: {_why_unreadable(value)}")
                        continue
                    reader = reader or self._reader(source, value)
                    try:
                        responses = reader(value)
                    except ResponseRowError as error:
                        unreadable.append(f"{source.where(position)}: {error}")
                        continue
                    left_out += [f"{source.where(position)}: {each} was left out" for each in responses.left_out]
                    self._add({} if isinstance(reader, NAMELESS) else value, responses, file)
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
        if isinstance(first, _AnswerAlone):
            return Draws()
        with errors_at(source.name):
            if kind is None and (reader := answers_reader(first)) is not None:
                return reader
        missing = [repr(name) for name in ("prompt", *self._by) if name not in columns]
        if kind is not None and not missing:
            return kind()
        column = "'text' (or 'generations', or 'responses')" if kind is None else missing[0]
        raise UsageError(f"{source.name} has no column {column}: the columns are {listed(columns)}")

    def _add(self, row: Row, responses: RowResponses, file: int) -> None:
        given = repr([file, *map(row.get, self._grouping)])
        if given not in self._group_of:
            self._group_of[given] = self._group(row, file)
        prompt_key = self._prompt_key(responses, file)
        self._group_of[given].add(prompt_key, responses)
        self._columns[file].add(prompt_key, row)

    def _group(self, row: Row, file: int) -> FileGroup:
        """The group that a row of a file belongs to."""
        names = {
            name: str(row[name]) if has_value(row.get(name)) else self._defaults[name] for name in self._defaults
        }
        settings = settings_of(row, self._by)
        # Rows without method and model form a group for each file.
        own_file = None if names["method"] or names["model"] else file
        key = (*names.values(), *map(repr, sorted(settings.items())), str(own_file))
        if key not in self._groups:
            self._groups[key] = Group(names["method"], names["model"], (), settings), {}
        self._columns.setdefault(file, OtherColumns(KNOWN | {*self._by}))
        return self._groups[key][1].setdefault(file, FileGroup())

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
        mixed = sum(one.on_one_scale() for _, own in self._groups.values() for one in own.values())
        self.problems += [mixed_scales(mixed)] if mixed else []
        labels = _labels(files)
        nameless = {next(iter(own)) for group, own in self._groups.values() if not (group.method or group.model)}
        groups = []
        for group, own in self._groups.values():
            numbers = list(own)
            named = labels[numbers[0]] if numbers[0] in nameless and len(nameless) > 1 else _UNNAMED
            whole = replace(group, method=group.method or (_UNNAMED if group.model else named))
            name, parts = parts_of_group({number: (own[number], self._columns[number]) for number in numbers})
            if name is not None:
                self.problems.append(_put_apart(whole, name, [files[number] for number in numbers]))
            for value, members in parts:
                extra = {} if name is None else {name: labels[members[0]] if name == "file" else value}
                groups.append(
                    joined(
                        replace(whole, settings={**whole.settings, **extra}), [own[number] for number in members]
                    )
                )
        for number, columns in self._columns.items():
            for name, several in columns.parting.items():
                self.problems.append(
                    f"{files[number]}: the responses to each prompt differ in the column {name!r} "
                    f"({listed(map(str, several))}) and are measured together; part them with --by {name}"
                )
        return Records(tuple(groups), tuple(self.problems), ", ".join(files))


class _AnswerAlone(dict[str, object]):
    """The row of an answer that stands alone, without columns."""


def _values(records: Iterator[tuple[int, Any]], source: ColumnSource) -> Iterator[tuple[int, Any]]:
    """The records as rows where they can be: answers alone too, if the first record that is not null is one."""
    alone: bool | None = None
    nulls: list[int] = []
    for at, record in records:
        for position, value in evaluated_rows(at, record, source.name):
            is_text = isinstance(value, (str, int, float)) and not isinstance(value, (bool, Unreadable))
            if alone is None and value is None:
                nulls.append(position)
                continue
            if alone is None:
                alone = is_text and ".txt" not in source.name
                yield from ((null, _AnswerAlone(text=None) if alone else None) for null in nulls)
            yield position, _AnswerAlone(text=value) if alone and (is_text or value is None) else value
    if alone is None:
        yield from ((null, None) for null in nulls)


def _why_unreadable(value: object) -> str:
    return str(value) if type(value) is Unreadable else "null" if value is None else "not a JSON object"


def _put_apart(group: Group, name: str, files: Sequence[str]) -> str:
    by = "their files" if name == "file" else f"the column {name!r}"
    what = " ".join(filter(None, (group.method, group.model)))
    return (
        f"{listed(files)} ask the same prompts as {what} with the same settings: they are groups of their own, "
        f"named by {by}"
    )


def _labels(files: Sequence[str]) -> list[str]:
    """A name for each file: its own without the ending, or as much of its path as tells it from the others."""
    labels = [_label(path) for path in files]
    if len(set(labels)) == len(labels):
        return labels
    paths = [Path(path).with_suffix("") for path in files]
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    names = [Path(path).name for path in files]
    return names if len(set(names)) == len(names) else list(files)


def _label(path: str) -> str:
    """The name of a file without its ending, or of its folder if the file has a generic name."""
    file = Path(path)
    name = Path(file.stem).stem if file.suffix == ".gz" else file.stem
    return Path(realpath(file)).parent.name if name in ("responses", "generations") else name
