"""Reading prompts one row at a time, from JSON lines, JSON, CSV, Parquet or plain text.

An unusable row is a value (`BadRow`), not an error: one broken line does not end a run over a million prompts. An
unusable file (missing, empty, no column of prompts) raises `UsageError` before the first row, so before anything
is paid for.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from jiter import from_json

from outspoken.batch.source_formats import (
    LONE,
    ColumnSource,
    Records,
    Unreadable,
    has_lone_surrogate,
    listed,
    open_source,
    why_not_json,
)
from outspoken.batch.source_text import CutOffError
from outspoken.chat import Message, as_messages
from outspoken.errors import OutputError, UsageError

__all__ = ["BadRow", "PromptRow", "SourceReader", "read", "rows_of"]

_PROMPT_COLUMNS = ("prompt", "messages")
_ID_COLUMN = "id"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt.

    `number` is the 0-based index of the row in the input, bad rows included; `where` names the row in messages
    ("prompts.jsonl:12"). `columns` are the other columns, which are copied to the output. `occurrence` is the
    number of earlier good rows with the same messages.
    """

    number: int
    where: str
    id: str
    messages: tuple[Message, ...]
    columns: Mapping[str, Any]
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and the reason; `number` and `where` are as in `PromptRow`."""

    number: int
    where: str
    reason: str


def read(
    source: str | Path,
    *,
    prompt_column: str | None = None,
    id_column: str | None = None,
    draw_column: str | None = None,
    remedy: str = "name the column of prompts (--prompt-column)",
) -> Iterator[PromptRow | BadRow]:
    """The rows of `source` in order, read on demand in bounded memory.

    The suffix determines the format: .jsonl or .ndjson (an object or a string per line), .json (an array of
    these), .csv and .tsv (with a header), .parquet; any other file has one prompt per line. All but .parquet may
    be followed by .gz. "-" is standard input: JSON lines if the first line opens an object, else plain lines.

    The prompt is text, or a list of messages in OpenAI's form, in `prompt_column`, else in the column `prompt`,
    else in `messages` (there also as JSON text). The id is in `id_column`, else in `id`, else it is the 1-based
    number of the row. `draw_column` has each row's `occurrence`, for prompts that were also in earlier files and
    need another reply; by default equal prompts are counted. `remedy` ends the message if the column of prompts is
    missing.

    Raises `UsageError` for a file that is missing, unreadable, empty or UTF-16, and for missing columns;
    `OutputError` if the temporary folder is full.
    """
    reader = SourceReader(str(source), prompt_column, id_column, draw_column)
    reader.remedy = remedy
    rows = reader.rows(partial(open_source, source, reader))
    first = next(rows, None)
    if first is None:
        raise UsageError(f"{reader.name} holds no rows: give at least one prompt")
    return chain([first], rows)


def rows_of(values: Iterable[Any]) -> Iterator[PromptRow | BadRow]:
    """The rows of prompts in memory: texts, chats, or mappings with `prompt` or `messages` and optionally `id`."""
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
            ascii_text = type(plain) is str and plain.isascii()
            yield position, Unreadable(LONE) if not ascii_text and has_lone_surrogate(plain) else plain

    return reader.rows(records)


class _UnusableError(Exception):
    """A row cannot be used; the message says why."""


class SourceReader(ColumnSource):
    """Turns the records of one source into rows. `remedy` is as in `read`."""

    def __init__(
        self, name: str, prompt_column: str | None, id_column: str | None, draw_column: str | None = None
    ) -> None:
        super().__init__(name)
        self._draw_column = draw_column
        self.remedy = ""
        self._prompt_column = prompt_column
        self._id_column = id_column
        self._id_required = id_column is not None
        self._settled = False

    def rows(self, records: Callable[[ExitStack], Records]) -> Iterator[PromptRow | BadRow]:
        """The rows of the source, whose records `records` opens. Raises as `read` does."""
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
                    except _UnusableError as error:
                        row = BadRow(number, self.where(position), str(error))
                    yield row
            except CutOffError as error:
                if number < 0:
                    raise UsageError(f"{self.name} cannot be read: {error}") from error
                yield BadRow(number + 1, self.where(position + 1), f"cannot be read from here on: {error}")
            except sqlite3.Error as error:
                raise OutputError(
                    f"the temporary file for finding duplicate rows cannot be written ({error}): "
                    "make room, or name another folder in SQLITE_TMPDIR"
                ) from error

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        """Decide which columns have the prompt and the id; `open_ended` if later rows may have further columns.

        Raises `UsageError` if a named column, or any column of prompts, is missing.
        """
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
                raise _UnusableError(f"no prompt: the columns are {listed(value)}")
            if self._id_column is not None:
                identifier = _identifier(value.pop(self._id_column, None), self._id_column)
            if self._prompt_column == "messages" and type(prompt) is str:
                prompt = _messages_in(prompt)
            columns = value
        elif type(value) in (str, list, tuple):
            prompt = value
        elif type(value) is Unreadable:
            raise _UnusableError(str(value))
        else:
            raise _UnusableError("neither a JSON object nor a JSON string")
        if prompt is None or (type(prompt) is str and (not prompt or prompt.isspace())):
            raise _UnusableError("empty prompt")
        try:
            messages = as_messages(prompt)
        except UsageError as error:
            raise _UnusableError(str(error)) from error
        if identifier is None:
            if self._id_required:
                raise _UnusableError(f"no id: the column {self._id_column!r} is empty")
            identifier = str(number + 1)
        # Numbers of rows are unique; they can only clash with ids from a column.
        if self._id_column is not None:
            first = seen.first(identifier, position)
            if first != position:
                raise _UnusableError(f"duplicate id {identifier!r}, first at {self.where(first)}")
        if self._draw_column is None:
            draw = seen.count(messages)
        else:
            draw = _draw(columns.pop(self._draw_column, None), self._draw_column)
        return PromptRow(number, self.where(position), identifier, messages, columns, draw)


class _Seen:
    """Digests of earlier ids and prompts, in a temporary database, which uses the disk when its cache is full."""

    def __init__(self) -> None:
        # Different threads may read rows, but never two at the same time.
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
        """The position at which this id occurred first: `position` itself if it is new."""
        digest = hashlib.blake2b(identifier.encode(), digest_size=16).digest()
        if self._base.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (digest, position)).rowcount:
            return position
        return int(self._base.execute("SELECT position FROM ids WHERE digest = ?", (digest,)).fetchone()[0])

    def count(self, messages: tuple[Message, ...]) -> int:
        """The number of earlier calls with the same messages."""
        if len(messages) == 1:
            written = messages[0].content.encode()
        else:
            # The NUL distinguishes a chat from a prompt that is equal to its JSON.
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
        raise _UnusableError(f"the id in {column!r} must be text or a number")
    return str(value)


def _draw(value: Any, column: str) -> int:
    if type(value) is not int or value < 0:
        raise _UnusableError(f"the draw in {column!r} must be a whole number from 0")
    return value


def _messages_in(text: str) -> Any:
    """The list of messages in a column with JSON text."""
    if not text or text.isspace():
        return None
    data = text.encode()
    try:
        messages = from_json(data)
    except ValueError as error:
        raise _UnusableError(f"messages: {why_not_json(data, error)}") from error
    if not isinstance(messages, list):
        raise _UnusableError("messages: not a JSON list of messages")
    return messages
