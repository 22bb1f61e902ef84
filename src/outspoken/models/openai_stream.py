"""Streams of OpenAI's protocol: server-sent events, and the reply that they add up to. No HTTP here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import ProviderError
from outspoken.models.openai_errors import ErrorContext, ErrorDetails, error_without_choices
from outspoken.models.openai_wire import (
    MessageParts,
    choice_of,
    decode,
    joined_halves,
    message_of,
    text_of,
    usage_of,
    whole_reply,
)
from outspoken.reply_shape import ReplyShape

__all__ = ["EventReader", "StreamedReply"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_TEXT_ALONE = {"content"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventReader:
    """Reads server-sent events from chunks of bytes, which may be cut at any position, in linear time.

    The data of an event with the name "error" becomes an object with the key "error".
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._failed = False
        self._after_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes."""
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        if not chunk:
            return []
        self._after_return = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        events = []
        for part in ended:
            self._line.append(part)
            line = b"".join(self._line)
            self._line.clear()
            if line:
                self._read_line(line)
                continue
            if self._data:
                data = b"\n".join(self._data)
                events.append(_as_error(data) if self._failed else data)
                self._data.clear()
            self._failed = False
        self._line.append(rest)
        return events

    def close(self) -> list[bytes]:
        """The last event if the stream ends without an empty line."""
        return self.feed(b"\n\n")

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.removeprefix(_BYTE_ORDER_MARK).partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._failed = value.strip() == b"error"


def _as_error(data: bytes) -> bytes:
    try:
        decode(data)
    except ValueError:
        data = json.dumps(data.decode("utf-8", "replace")).encode()
    return b'{"error":' + data + b"}"


class StreamedReply:
    """Assembles a reply from the events of a stream.

    `done` becomes true when the server announces the end, `finished` when it says why the reply ended, `empty`
    becomes false with the first event. `size` is the number of characters so far.
    """

    def __init__(self, errors: ErrorContext) -> None:
        self.done = False
        self.finished = False
        self.empty = True
        self.size = 0
        self._errors = errors
        self._text, self._reasoning, self._refusal = StringIO(), StringIO(), StringIO()
        self._calls: list[tuple[int, str]] = []
        self._half = ""
        self._finish = ""
        self._usage = Usage()
        self._model = ""
        self._problem: ErrorDetails | None = None

    def read(self, event: bytes) -> str:
        """Add the data of one event; returns its piece of text. Raises `ProviderError` as `add` does."""
        if event.strip() == b"[DONE]":
            self.done, self.empty = True, False
            return ""
        try:
            payload = decode(event, halves=True)
        except ValueError:
            raise self._cut_off() from None
        return self.add(payload)

    def add(self, payload: Any) -> str:
        """Add one decoded chunk; returns its piece of text. Raises `ProviderError` for an error in the chunk.

        A character whose halves are in two chunks belongs to the second.
        """
        self.empty = False
        choice = choice_of(payload, self._errors)
        if not isinstance(payload, Mapping):
            return ""
        if not (choice or self._problem or isinstance(payload.get("choices"), list)):
            self._problem = error_without_choices(payload)
        self._model = self._model or text_of(payload.get("model"))
        if payload.get("usage"):
            self._usage = usage_of(payload)
        if finish := text_of(choice.get("finish_reason")):
            self._finish, self.finished = finish, True
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta.keys() == _TEXT_ALONE and isinstance(text := delta["content"], str):
            self.size += len(text)
            return self._whole_characters(text) if text else ""
        text, reasoning, refusal, calls = self._piece(choice)
        if reasoning:
            self._reasoning.write(reasoning)
        if refusal:
            self._refusal.write(refusal)
        if calls:
            self._calls += calls
        self.size += len(text) + len(reasoning) + len(refusal) + sum(64 + len(piece) for _, piece in calls)
        return self._whole_characters(text) if text else ""

    def reply(self, *, structured: bool = False, shape: ReplyShape = ReplyShape()) -> ChatReply:
        """The whole reply, whose text may be longer than the pieces; `shape` is the layout that was asked for.

        Raises `ProviderError` if the stream ended before the reply did, or if the provider says that it failed.
        """
        if not (self.done or self.finished):
            raise self._cut_off() if self._problem is None else self._errors.error(self._problem)
        text, reasoning, refusal = (each.getvalue() for each in (self._text, self._reasoning, self._refusal))
        if self._half:
            text += "\ufffd"
        message = MessageParts(text, joined_halves(reasoning), joined_halves(refusal), self._calls)
        return whole_reply(
            message, self._finish, self._usage, self._model, self._errors, structured=structured, shape=shape
        )

    def _piece(self, choice: Mapping[str, Any]) -> MessageParts:
        """What a chunk adds. Some servers call it a message, others send the whole message after its pieces."""
        delta, message = choice.get("delta"), choice.get("message")
        if not isinstance(message, Mapping):
            return message_of(delta) if isinstance(delta, Mapping) else MessageParts(text_of(choice.get("text")))
        if delta:
            return message_of(delta) if isinstance(delta, Mapping) else MessageParts()
        piece = message_of(message)
        if self.size and (delta is not None or choice.get("finish_reason")):
            so_far = self._text.getvalue()
            return MessageParts(piece.text[len(so_far) :]) if piece.text.startswith(so_far) else MessageParts()
        return piece

    def _whole_characters(self, text: str) -> str:
        """The text without half a character at its end, which waits for the next piece."""
        if text.isascii() and not self._half:
            self._text.write(text)
            return text
        text = self._half + text
        self._half = ""
        if "\ud800" <= text[-1] < "\udc00":
            text, self._half = text[:-1], text[-1]
        try:
            text.encode()
        except UnicodeEncodeError:
            text = joined_halves(text)
        self._text.write(text)
        return text

    def _cut_off(self) -> ProviderError:
        return ProviderError(
            f"{self._errors.url}: the stream broke off before the reply was complete: try again", retryable=True
        )
