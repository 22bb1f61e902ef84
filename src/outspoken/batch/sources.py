"""Reading prompts: one row after the other from JSON lines, JSON, CSV, Parquet or plain text.

A row that cannot be used is a value (`BadRow`), not an error: one broken line does not end a run over a million
prompts. What spoils the whole file (it is not there, it is empty, no column holds prompts) is a `UsageError`,
raised before the first good row, so before anything is paid for.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jiter import from_json

from outspoken.batch.source_formats import (
    LONE,
    CutOffError,
    Records,
    Unreadable,
    has_lone_surrogate,
    listed,
    open_source,
    why_not_json,
)
from outspoken.chat import Message, as_messages
from outspoken.errors import OutputError, UsageError

__all__ = ["BadRow", "PromptRow", "SourceReader", "read", "rows_of"]

_PROMPT_COLUMNS = ("prompt", "messages")
_ID_COLUMN = "id"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt.

    `number` counts the input's rows from 0, bad ones too; `where` is for people ("prompts.jsonl:12"). `columns`
    are the input's other columns, to be carried through to the output. `occurrence` counts the earlier good rows
    with the same messages.
    """

    number: int
    where: str
    id: str
    messages: tuple[Message, ...]
    columns: Mapping[str, Any]
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be asked, and why; `number` and `where` as in `PromptRow`."""

    number: int
    where: str
    reason: str


def read(
    source: str | Path,
    *,
    prompt_column: str | None = None,
    id_column: str | None = None,
    draw_column: str | None = None,
    remedy: str = "say which one holds the prompts (--prompt-column)",
) -> Iterator[PromptRow | BadRow]:
    """The rows of `source` in their order, read as they are asked for; memory stays bounded.

    The suffix tells the format: .jsonl or .ndjson (an object or a string a line), .json (an array of these), .csv
    and .tsv (with a header), .parquet; any other file holds one prompt a line. All but Parquet may be followed by
    .gz. "-" is standard input: JSON lines where the first line opens an object, else plain lines.

    The prompt is text, or a list of messages in OpenAI's form; it comes from `prompt_column`, else from the column
    `prompt`, else from `messages` (there also as JSON text). The id comes from `id_column`, else from `id` where
    there is one, else it is the row's number counted from 1. `draw_column` holds each row's `occurrence`: for
    prompts that were asked in another file before, and are to have another answer. Without it they are counted.
    `remedy` is said where the column of the prompts is missing.

    Raises `UsageError` for a file that is missing, unreadable, empty or UTF-16, and for one that lacks the
    columns; `OutputError` where the temporary folder is full.
    """
    name = "standard input" if str(source) == "-" else str(source)
    reader = SourceReader(name, prompt_column, id_column, draw_column)
    reader.remedy = remedy
    rows = reader.rows(partial(open_source, source, reader))
    first = next(rows, None)
    if first is None:
        raise UsageError(f"{name} holds no rows: give at least one prompt")
    return _joined(first, rows)


def rows_of(values: Iterable[Any]) -> Iterator[PromptRow | BadRow]:
    """The rows of prompts in memory: a text, a chat, or a mapping with `prompt` or `messages` and perhaps `id`."""
    reader = SourceReader("prompts", "prompt", None)
    reader.between = ": item "
    reader.settle(("prompt", "id"), open_ended=True)

    def records(_: ExitStack) -> Records:
        for position, value in enumerate(values, 1):
            plain = value
            if isinstance(value, Mapping):
                plain = dict(value)
                if "prompt" not in plain and "messages" in plain:
                    plain["prompt"] = plain.pop("messages")
            yield position, Unreadable(LONE) if has_lone_surrogate(plain) else plain

    return reader.rows(records)


def _joined(first: PromptRow | BadRow, rest: Iterator[PromptRow | BadRow]) -> Iterator[PromptRow | BadRow]:
    yield first
    yield from rest


class _UnfitError(Exception):
    """Why a row cannot be used."""


class SourceReader:
    """Turns the records of one source into rows: which columns mean what, and what was seen before."""

    def __init__(
        self, name: str, prompt_column: str | None, id_column: str | None, draw_column: str | None = None
    ) -> None:
        self.name = name
        self._draw_column = draw_column
        self.between = ":"
        self.remedy = ""
        self._prompt_column = prompt_column
        self._id_column = id_column
        self._id_must_be = id_column is not None
        self._settled = False

    def rows(self, records: Callable[[ExitStack], Records]) -> Iterator[PromptRow | BadRow]:
        number, position = -1, 0
        with ExitStack() as stack:
            seen = stack.enter_context(closing(_Seen()))
            try:
                for number, (position, value) in enumerate(records(stack)):
                    if not self._settled and type(value) is dict:
                        self.settle(value, open_ended=True)
                    row: PromptRow | BadRow
                    try:
                        row = self._row(number, position, value, seen)
                    except _UnfitError as error:
                        row = BadRow(number, self.where(position), str(error))
                    yield row
            except CutOffError as error:
                if number < 0:
                    raise UsageError(f"{self.name} cannot be read: {error}") from error
                yield BadRow(number + 1, self.where(position + 1), f"cannot be read from here on: {error}")
            except sqlite3.Error as error:
                raise OutputError(
                    f"the temporary file that tells duplicate rows apart cannot be written ({error}): "
                    "make room, or name another folder in SQLITE_TMPDIR"
                ) from error

    def where(self, position: int) -> str:
        return f"{self.name}{self.between}{position}"

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        """Decide once which columns hold the prompt and the id; `open_ended` where later rows may have others."""
        names = list(names)
        if self._prompt_column is None:
            self._prompt_column = next((name for name in _PROMPT_COLUMNS if name in names), None)
        if self._prompt_column is None or self._prompt_column not in names:
            missing = repr(self._prompt_column) if self._prompt_column is not None else "'prompt' (or 'messages')"
            raise UsageError(
                f"{self.name} has no column {missing}: the columns are {listed(names)}; {self.remedy}"
            )
        if self._id_column is None:
            if open_ended or _ID_COLUMN in names:
                self._id_column = _ID_COLUMN
        elif self._id_column not in names:
            raise UsageError(f"{self.name} has no column {self._id_column!r}: the columns are {listed(names)}")
        if self._id_column == self._prompt_column:
            self._id_column = None
        self._settled = True

    def _row(self, number: int, position: int, value: Any, seen: _Seen) -> PromptRow:
        columns: dict[str, Any] = {}
        identifier = None
        if type(value) is dict:
            prompt = value.pop(self._prompt_column, _MISSING)
            if prompt is _MISSING:
                raise _UnfitError(f"no prompt: the columns are {listed(value)}")
            if self._id_column is not None:
                identifier = _identifier(value.pop(self._id_column, None), self._id_column)
            if self._prompt_column == "messages" and type(prompt) is str:
                prompt = _messages_in(prompt)
            columns = value
        elif type(value) in (str, list, tuple):
            prompt = value
        elif type(value) is Unreadable:
            raise _UnfitError(str(value))
        else:
            raise _UnfitError("neither a JSON object nor a JSON string")
        if prompt is None or (type(prompt) is str and (not prompt or prompt.isspace())):
            raise _UnfitError("empty prompt")
        try:
            messages = as_messages(prompt)
        except UsageError as error:
            raise _UnfitError(str(error)) from error
        if identifier is None:
            if self._id_must_be:
                raise _UnfitError(f"no id: the column {self._id_column!r} is empty")
            identifier = str(number + 1)
        # Ids that we give ourselves can only clash with given ones.
        if self._id_column is not None:
            first = seen.first(identifier, position)
            if first != position:
                raise _UnfitError(f"duplicate id {identifier!r}, first at {self.where(first)}")
        if self._draw_column is None:
            draw = seen.count(messages)
        else:
            draw = _draw(columns.pop(self._draw_column, None), self._draw_column)
        return PromptRow(number, self.where(position), identifier, messages, columns, draw)


class _Seen:
    """Ids and prompts met so far, by digest, in a temporary database: what does not fit its cache goes to disk."""

    def __init__(self) -> None:
        # The rows may be taken by one worker thread after another, never by two at once.
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -8192",
            "CREATE TABLE ids (digest BLOB PRIMARY KEY, position INTEGER) WITHOUT ROWID",
            "CREATE TABLE prompts (digest BLOB PRIMARY KEY, earlier INTEGER) WITHOUT ROWID",
            "BEGIN",
        ):
            self._base.execute(statement)

    def first(self, identifier: str, position: int) -> int:
        """Where this id stood first: `position` itself if it is new."""
        digest = hashlib.blake2b(identifier.encode(), digest_size=16).digest()
        if self._base.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (digest, position)).rowcount:
            return position
        return int(self._base.execute("SELECT position FROM ids WHERE digest = ?", (digest,)).fetchone()[0])

    def count(self, messages: tuple[Message, ...]) -> int:
        """How often these messages were counted before."""
        if len(messages) == 1:
            written = messages[0].content.encode()
        else:
            # The leading NUL keeps a chat apart from a prompt that reads like its JSON.
            written = ("\0" + json.dumps([[message.role, message.content] for message in messages])).encode()
        digest = hashlib.blake2b(written, digest_size=16).digest()
        if self._base.execute("INSERT OR IGNORE INTO prompts VALUES (?, 0)", (digest,)).rowcount:
            return 0
        again = "UPDATE prompts SET earlier = earlier + 1 WHERE digest = ? RETURNING earlier"
        return int(self._base.execute(again, (digest,)).fetchone()[0])

    def close(self) -> None:
        self._base.close()


def _identifier(value: Any, column: str) -> str | None:
    if type(value) is str:
        return value or None
    if value is None or value != value:
        return None
    if isinstance(value, (bool, bytes, list, dict)):
        raise _UnfitError(f"the id in {column!r} must be text or a number")
    return str(value)


def _draw(value: Any, column: str) -> int:
    if type(value) is not int or value < 0:
        raise _UnfitError(f"the draw in {column!r} must be a whole number from 0")
    return value


def _messages_in(text: str) -> Any:
    """A list of messages, written as JSON text in a column of its own."""
    if not text or text.isspace():
        return None
    data = text.encode()
    try:
        messages = from_json(data)
    except ValueError as error:
        raise _UnfitError(f"messages: {why_not_json(data, error)}") from error
    if not isinstance(messages, list):
        raise _UnfitError("messages: not a JSON list of messages")
    return messages
