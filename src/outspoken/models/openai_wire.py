"""OpenAI's protocol, JSON and event streams, translated to and from plain values. No HTTP here."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

import jiter

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import ProviderError, UsageError
from outspoken.models.openai_errors import ErrorContext, error_in

__all__ = [
    "EventReader",
    "StreamedReply",
    "chat_body",
    "decode",
    "embedding_body",
    "encode",
    "model_names",
    "optional_fields",
    "read_embeddings",
    "read_reply",
    "send_with_optional",
]

_RESERVED_FIELDS = ("model", "messages", "stream", "n")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def chat_body(
    request: ChatRequest,
    model: str,
    *,
    max_tokens_field: str = "max_tokens",
    stream: bool = False,
    developer_role: bool = True,
) -> dict[str, object]:
    """The body of a chat completion without its optional fields (see `optional_fields`).

    Without `developer_role`, OpenAI's own role "developer" becomes "system". Raises `UsageError` for an extra
    setting that would overwrite another field.
    """
    sampling = request.sampling
    messages = [message.to_dict() for message in request.messages]
    if not developer_role:
        messages = [{**each, "role": each["role"].replace("developer", "system")} for each in messages]
    body: dict[str, object] = {"model": model, "messages": messages}
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        max_tokens_field: sampling.max_tokens,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    body.update((name, value) for name, value in settings.items() if value is not None)
    if stream:
        body["stream"] = True
    for name in sampling.extra:
        if name in body or name in _RESERVED_FIELDS:
            raise UsageError(f"the extra setting {name!r} is set by the request itself: leave it out")
    return body | dict(sampling.extra)


def optional_fields(request: ChatRequest, *, stream: bool = False) -> dict[str, object]:
    """Fields that not every server accepts and that a request can do without.

    A schema whose root is not an object is left out, because OpenAI's API rejects it.
    """
    fields: dict[str, object] = {}
    if request.schema is not None and request.schema.get("type") == "object":
        schema = {"name": "responses", "strict": True, "schema": dict(request.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if stream:
        fields["stream_options"] = {"include_usage": True}
    return {name: value for name, value in fields.items() if name not in request.sampling.extra}


def encode(body: Mapping[str, object]) -> bytes:
    """The body as JSON in UTF-8. Raises `UsageError` for values that JSON cannot represent."""
    try:
        return _ENCODER.encode(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON ({error}): change that value") from error


def decode(body: bytes) -> Any:
    """Read JSON; invalid characters become U+FFFD. Raises `ValueError` for anything that is not JSON."""
    try:
        return jiter.from_json(body)
    except ValueError:
        try:
            value = json.loads(body.decode("utf-8-sig", "replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        # Half of a surrogate pair is valid in a JSON escape, but not in UTF-8.
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def read_reply(payload: Any, errors: ErrorContext, *, structured: bool = False) -> ChatReply:
    """The reply in a decoded body. Raises `ProviderError` if there is none."""
    choice = _choice(payload, errors)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise ProviderError(f"{errors.url}: the answer contains no choice: try again", retryable=True)
    return _chat_reply(
        _texts(message), choice.get("finish_reason"), _usage(payload), payload.get("model"), structured
    )


def embedding_body(texts: Sequence[str], model: str) -> dict[str, object]:
    """The body of a request for embeddings."""
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def read_embeddings(payload: Any, count: int, errors: ErrorContext) -> list[list[float]]:
    """The `count` vectors in a decoded body, in the order of the texts.

    Raises `ProviderError` unless there is one vector for each text, all of the same length.
    """
    if details := error_in(payload):
        raise errors.error(details)
    data = payload.get("data") if isinstance(payload, Mapping) else None
    entries = [entry for entry in data if isinstance(entry, Mapping)] if isinstance(data, list) else []
    vectors: dict[int, list[float]] = {}
    for place, entry in enumerate(entries):
        vector, index = entry.get("embedding"), entry.get("index")
        if not (isinstance(vector, list) and vector and set(map(type, vector)) <= {int, float}):
            raise ProviderError(f"{errors.url}: the server sent an embedding that is not a list of numbers")
        vectors[index if type(index) is int else place] = vector
    if vectors.keys() != set(range(count)):
        raise ProviderError(f"{errors.url}: asked to embed {count} texts, the server sent {len(vectors)} vectors")
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise ProviderError(f"{errors.url}: the server sent embeddings of different lengths")
    return [vectors[index] for index in range(count)]


def model_names(payload: Any) -> list[str]:
    """The names in the answer to GET /models. Raises `ValueError` if it contains no list."""
    entries = payload.get("data") if isinstance(payload, Mapping) else payload
    if not isinstance(entries, list):
        raise ValueError("no list of models")
    names = [_text(entry.get("id")) for entry in entries if isinstance(entry, Mapping)]
    return [name for name in names if name]


class EventReader:
    """Reads server-sent events from chunks of bytes, which may be cut at any position, in linear time."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
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
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        self._line.append(rest)
        return events

    def close(self) -> list[bytes]:
        """The last event if the stream ends without an empty line."""
        return self.feed(b"\n\n")

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.removeprefix(_BYTE_ORDER_MARK).partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))


class StreamedReply:
    """Assembles a reply from the events of a stream.

    `done` becomes true when the server announces the end, `empty` becomes false with the first event.
    """

    def __init__(self, errors: ErrorContext) -> None:
        self.done = False
        self.empty = True
        self._errors = errors
        self._texts = [("", "", "")]
        self._finish = ""
        self._usage = Usage()
        self._model = ""

    def read(self, event: bytes) -> str:
        """Add the data of one event; returns its piece of text. Raises `ProviderError` as `add` does."""
        if event.strip() == b"[DONE]":
            self.done, self.empty = True, False
            return ""
        try:
            payload = decode(event)
        except ValueError:
            raise self._cut_off() from None
        return self.add(payload)

    def add(self, payload: Any) -> str:
        """Add one decoded chunk; returns its piece of text. Raises `ProviderError` for an error in the chunk."""
        self.empty = False
        choice = _choice(payload, self._errors)
        if not isinstance(payload, Mapping):
            return ""
        self._model = self._model or _text(payload.get("model"))
        if payload.get("usage"):
            self._usage = _usage(payload)
        self._finish = _text(choice.get("finish_reason")) or self._finish
        delta = choice.get("delta")
        if not isinstance(delta, Mapping):
            return ""
        texts = _texts(delta)
        self._texts.append(texts)
        return texts[0]

    def reply(self, *, structured: bool = False) -> ChatReply:
        """The whole reply. Raises `ProviderError` if the stream ended before the reply did."""
        if not (self.done or self._finish):
            raise self._cut_off()
        texts = map("".join, zip(*self._texts, strict=True))
        return _chat_reply(texts, self._finish, self._usage, self._model, structured)

    def _cut_off(self) -> ProviderError:
        return ProviderError(
            f"{self._errors.url}: the stream broke off before the reply was complete: try again", retryable=True
        )


def _choice(payload: Any, errors: ErrorContext) -> Mapping[str, object]:
    """The first choice, empty if there is none. Raises the error in the payload or in its choice."""
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    choice = first if isinstance(first, Mapping) else {}
    if details := error_in(payload) or error_in(choice):
        raise errors.error(details)
    return choice


def _chat_reply(texts: Iterable[str], finish: object, usage: Usage, model: object, structured: bool) -> ChatReply:
    text, reasoning, refusal = texts
    return ChatReply(text, _text(finish) or "stop", usage, _text(model), reasoning, refusal, structured)


def _texts(message: Mapping[str, object]) -> tuple[str, str, str]:
    """Text, reasoning and refusal of a message, or of a piece of one."""
    text, thoughts = _content(message.get("content"))
    reasoning = _text(message.get("reasoning_content")) or _text(message.get("reasoning")) or thoughts
    return text, reasoning, _text(message.get("refusal"))


def _content(value: object) -> tuple[str, str]:
    """Text and reasoning of a message's content, which is text or a list of parts."""
    if not isinstance(value, list):
        return _text(value), ""
    text, reasoning = [], []
    for part in value:
        if isinstance(part, Mapping):
            text.append(_text(part.get("text")))
            reasoning.append(_content(part.get("thinking"))[0])
        else:
            text.append(_text(part))
    return "".join(text), "".join(reasoning)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _usage(payload: Mapping[str, Any]) -> Usage:
    usage = payload.get("usage")
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


T = TypeVar("T")

_REJECTIONS = frozenset({400, 422, 501})
# (server, model, field), for the lifetime of the process.
_rejected: set[tuple[str, str, str]] = set()


async def send_with_optional(
    server: str, model: str, fields: Mapping[str, object], send: Callable[[Mapping[str, object]], Awaitable[T]]
) -> tuple[T, Mapping[str, object]]:
    """Call `send` with the optional `fields`; if the server rejects them, call it again with fewer.

    Returns the result and the sent fields. Fields missing from the first successful request are left out from then
    on, for this server and model. If no request succeeds, the last error is raised and nothing is remembered.
    """
    accepted = {name: value for name, value in fields.items() if (server, model, name) not in _rejected}
    for sent in (
        dict(part) for size in range(len(accepted), -1, -1) for part in combinations(accepted.items(), size)
    ):
        try:
            result = await send(sent)
        except ProviderError as error:
            if not sent or error.status not in _REJECTIONS:
                raise
        else:
            break
    _rejected.update((server, model, name) for name in accepted.keys() - sent.keys())
    return result, sent
