"""Recorded replies: `Recorder` writes the replies of a model to a file, `Replay` returns them from it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.chat import ChatRequest, Message, as_messages
from outspoken.chat_reply import ChatReply
from outspoken.errors import UsageError
from outspoken.io.atomic import output_errors, owner_only
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import json_bytes, read_bytes
from outspoken.models.base import Capabilities, Model

__all__ = ["Recorder", "Replay"]

_PIECE = 16
_MOST = 2**33

Chat = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class _Recorded:
    reply: ChatReply
    messages: Chat | None
    pieces: tuple[str, ...]


class Replay(Model):
    """Returns the replies in a file of JSON lines, each once.

    A line is `{"text": …}` and may have `finish`, `usage`, `reasoning`, `model`, `refusal`, `structured`, and
    `pieces` (of the streamed text). A line with `messages` answers only requests with exactly these messages; the
    other lines answer the other requests in order. All sampling settings are accepted and ignored. Raises
    `UsageError`, with the line number, for a file that cannot be read.
    """

    capabilities = Capabilities(schema=True, seed=True, extra=True, stream=True)

    def __init__(self, path: str | Path) -> None:
        self.name = f"replay/{path}"
        self._lock = threading.Lock()
        self._by_chat: dict[Chat, deque[_Recorded]] = {}
        self._in_order: deque[_Recorded] = deque()
        for recorded in _read(Path(path)):
            chat = recorded.messages
            queue = self._in_order if chat is None else self._by_chat.setdefault(chat, deque())
            queue.append(recorded)
        self._total = len(self._in_order) + sum(map(len, self._by_chat.values()))

    async def complete(self, request: ChatRequest) -> ChatReply:
        return self._next(request).reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        recorded = self._next(request)
        for piece in recorded.pieces:
            yield piece
            await asyncio.sleep(0)
        yield recorded.reply

    def _next(self, request: ChatRequest) -> _Recorded:
        with self._lock:
            queue = self._by_chat.get(request.messages) or self._in_order
            if queue:
                return queue.popleft()
            remaining = sum(map(len, self._by_chat.values()))
        reason = "those left are for other messages" if remaining else "all are used"
        raise UsageError(
            f"{self.name} has no reply left ({self._total} recorded, {reason}): record more, or ask for less"
        )


class Recorder(Model):
    """Passes requests on to `model` and appends each reply to a file that `Replay` reads.

    Raises `UsageError` if the file cannot be opened, and `OutputError` if a reply cannot be written.
    """

    def __init__(self, model: Model, path: str | Path) -> None:
        self.name = model.name
        self.capabilities = model.capabilities
        self._model = model
        self._path = Path(path)
        self._lock = threading.Lock()
        # Methods that return no reply are the model's.
        for method in ("identity", "scores", "score_identity", "chat_text", "embed", "aclose"):
            setattr(self, method, getattr(model, method))
        try:
            with open(self._path, "ab+", opener=owner_only) as file:
                if file.tell():
                    file.seek(-1, 2)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
        except OSError as error:
            raise UsageError(
                f"cannot write replies to {path} ({error.strerror or error}): name another file"
            ) from error

    async def complete(self, request: ChatRequest) -> ChatReply:
        reply = await self._model.complete(request)
        self._write(request, reply)
        return reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        pieces: list[str] = []
        async for item in self._model.stream(request):
            if isinstance(item, ChatReply):
                self._write(request, item, pieces)
            else:
                pieces.append(item)
            yield item

    def _write(self, request: ChatRequest, reply: ChatReply, pieces: Sequence[str] = ()) -> None:
        messages = [message.to_dict() for message in request.messages]
        line = to_json(reply) | {"usage": reply.usage.to_dict(), "messages": messages, "pieces": pieces}
        for name in ("reasoning", "refusal", "found_in", "pieces"):
            if not line[name]:
                del line[name]
        data = json_bytes(line) + b"\n"
        with output_errors(self._path), self._lock, self._path.open("ab") as file:
            file.write(data)


def _read(path: Path) -> list[_Recorded]:
    recorded = []
    for number, line in enumerate(read_bytes(path, "file of replies", most=_MOST).split(b"\n"), 1):
        if line.strip():
            try:
                recorded.append(_recorded(json.loads(line.decode("utf-8-sig"))))
            except (ValueError, RecursionError) as error:
                reason = str(error)
                if isinstance(error, UnicodeDecodeError):
                    reason = "it is not UTF-8 text"
                elif isinstance(error, json.JSONDecodeError | RecursionError):
                    reason = "it is not JSON"
                raise UsageError(f"line {number} of {path} is not a recorded reply: {reason}") from error
    return recorded


def _recorded(line: Any) -> _Recorded:
    """Raises `ValueError` for a line without a text, or with values of a wrong type."""
    reply = from_json(ChatReply, line)
    text = reply.text
    pieces = line.get("pieces") or [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    if (
        not isinstance(pieces, list)
        or any(not isinstance(piece, str) for piece in pieces)
        or "".join(pieces) != text
    ):
        raise UsageError('"pieces" must be texts that make up "text"')
    messages = as_messages(line["messages"]) if "messages" in line else None
    return _Recorded(reply, messages, tuple(pieces))
