"""OpenAI's chat-completions JSON and event stream, translated from and to plain values. No HTTP here."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jiter

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import ProviderError, UsageError
from outspoken.models.openai_errors import ErrorContext, fault_of

__all__ = [
    "EventReader",
    "StreamedReply",
    "chat_body",
    "decode",
    "embedding_body",
    "encode",
    "model_names",
    "offering",
    "optional",
    "read_embeddings",
    "read_reply",
]

_OWN_FIELDS = ("model", "messages", "stream", "n")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def chat_body(
    request: ChatRequest, model: str, *, max_tokens_field: str = "max_tokens", stream: bool = False
) -> dict[str, Any]:
    """What a chat-completions endpoint is asked, apart from the `optional` fields.

    Raises `UsageError` where an extra setting would change what the rest of the request says.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.to_dict() for message in request.messages],
    }
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
        if name in body or name in _OWN_FIELDS:
            raise UsageError(f"the extra setting {name!r} is set by the request itself: leave it out")
    return body | dict(sampling.extra)


def optional(request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
    """Fields that not every server takes and without which the request still makes sense.

    A schema whose root is no object is left out: the published interface takes none.
    """
    fields: dict[str, Any] = {}
    if request.schema is not None and request.schema.get("type") == "object":
        schema = {"name": "responses", "strict": True, "schema": dict(request.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if stream:
        fields["stream_options"] = {"include_usage": True}
    return {name: value for name, value in fields.items() if name not in request.sampling.extra}


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as UTF-8 JSON. Raises `UsageError` for what JSON cannot hold."""
    try:
        return _ENCODER.encode(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error


def decode(body: bytes) -> Any:
    """Read JSON; damaged characters become replacement marks. Raises `ValueError` for what is not JSON."""
    try:
        return jiter.from_json(body)
    except ValueError:
        try:
            value = json.loads(body.decode("utf-8-sig", "replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        # Half of a surrogate pair is legal in a JSON escape and in no text file.
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def read_reply(payload: Any, peer: ErrorContext, *, structured: bool = False) -> ChatReply:
    """The reply in a decoded body. Raises `ProviderError` where there is none."""
    if fault := fault_of(payload):
        raise peer.error(fault)
    choice = _first_choice(payload)
    if fault := fault_of(choice):
        raise peer.error(fault)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise ProviderError(f"{peer.url}: the server answered without a choice", retryable=True)
    text, thoughts = _content(message.get("content"))
    return ChatReply(
        text=text,
        finish=_text(choice.get("finish_reason")) or "stop",
        usage=_usage(payload.get("usage")),
        model=_text(payload.get("model")),
        reasoning=_reasoning(message) or thoughts,
        refusal=_text(message.get("refusal")),
        structured=structured,
    )


def embedding_body(texts: Sequence[str], model: str) -> dict[str, Any]:
    """What an embeddings endpoint is asked."""
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def read_embeddings(payload: Any, count: int, peer: ErrorContext) -> list[list[float]]:
    """The `count` vectors in a decoded body, in the order of the texts.

    Raises `ProviderError` where they are not one for each text, all of the same length.
    """
    if fault := fault_of(payload):
        raise peer.error(fault)
    data = payload.get("data") if isinstance(payload, Mapping) else None
    entries = [entry for entry in data if isinstance(entry, Mapping)] if isinstance(data, list) else []
    found: dict[int, list[float]] = {}
    for place, entry in enumerate(entries):
        vector, index = entry.get("embedding"), entry.get("index")
        if not (isinstance(vector, list) and vector and set(map(type, vector)) <= {int, float}):
            raise ProviderError(f"{peer.url}: the server sent an embedding that is no list of numbers")
        found[index if type(index) is int else place] = vector
    if found.keys() != set(range(count)):
        raise ProviderError(f"{peer.url}: asked to embed {count} texts, the server sent {len(found)} vectors")
    if len({len(vector) for vector in found.values()}) > 1:
        raise ProviderError(f"{peer.url}: the server sent embeddings of different lengths")
    return [found[place] for place in range(count)]


def model_names(payload: Any) -> list[str]:
    """The identifiers in an answer of GET /models. Raises `ValueError` where it holds no list."""
    entries = payload.get("data") if isinstance(payload, Mapping) else payload
    if not isinstance(entries, list):
        raise ValueError("no list of models")
    names = [_text(entry.get("id")) for entry in entries if isinstance(entry, Mapping)]
    return [name for name in names if name]


class EventReader:
    """Reads server-sent events from bytes cut anywhere, in time linear in their number."""

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
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        self._line.append(rest)
        return events

    def close(self) -> list[bytes]:
        """The event that the stream's end leaves without its empty line."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes) -> None:
        name, _, value = line.removeprefix(_BYTE_ORDER_MARK).partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))


class StreamedReply:
    """Puts a reply together from the events of a stream.

    `done` tells that the server has said everything; `empty` that no event came at all.
    """

    def __init__(self, peer: ErrorContext) -> None:
        self.done = False
        self.empty = True
        self._peer = peer
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._finish = ""
        self._usage = Usage()
        self._model = ""

    def read(self, event: bytes) -> str:
        """Take the data of one event; returns the piece of text in it. Raises `ProviderError` as `add` does."""
        if event.strip() == b"[DONE]":
            self.done, self.empty = True, False
            return ""
        try:
            payload = decode(event)
        except ValueError:
            raise self._cut_off() from None
        return self.add(payload)

    def add(self, payload: Any) -> str:
        """Take one decoded chunk; returns the piece of text in it. Raises `ProviderError` for an error in it."""
        self.empty = False
        if fault := fault_of(payload):
            raise self._peer.error(fault)
        if not isinstance(payload, Mapping):
            return ""
        self._model = self._model or _text(payload.get("model"))
        if payload.get("usage"):
            self._usage = _usage(payload["usage"])
        choice = _first_choice(payload)
        if fault := fault_of(choice):
            raise self._peer.error(fault)
        self._finish = _text(choice.get("finish_reason")) or self._finish
        delta = choice.get("delta")
        return self._add_delta(delta) if isinstance(delta, Mapping) else ""

    def reply(self, *, structured: bool = False) -> ChatReply:
        """The whole reply. Raises `ProviderError` where the stream ended before the reply did."""
        if not (self.done or self._finish):
            raise self._cut_off()
        return ChatReply(
            text="".join(self._text),
            finish=self._finish or "stop",
            usage=self._usage,
            model=self._model,
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            structured=structured,
        )

    def _add_delta(self, delta: Mapping[str, Any]) -> str:
        text, thoughts = _content(delta.get("content"))
        self._text.append(text)
        self._reasoning.append(_reasoning(delta) or thoughts)
        self._refusal.append(_text(delta.get("refusal")))
        return text

    def _cut_off(self) -> ProviderError:
        return ProviderError(
            f"{self._peer.url}: the stream broke off before the reply was complete", retryable=True
        )


def _first_choice(payload: Any) -> Mapping[str, Any]:
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _content(value: Any) -> tuple[str, str]:
    """Text and reasoning of a message's content, which is text or a list of parts."""
    if not isinstance(value, list):
        return _text(value), ""
    text, thoughts = [], []
    for part in value:
        if isinstance(part, Mapping):
            text.append(_text(part.get("text")))
            thoughts.append(_content(part.get("thinking"))[0])
        else:
            text.append(_text(part))
    return "".join(text), "".join(thoughts)


def _reasoning(message: Mapping[str, Any]) -> str:
    return _text(message.get("reasoning_content")) or _text(message.get("reasoning"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _usage(value: Any) -> Usage:
    if not isinstance(value, Mapping):
        return Usage()
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(_count(value.get("prompt_tokens")), _count(value.get("completion_tokens")), _count(cached))


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


T = TypeVar("T")

_REFUSALS = frozenset({400, 422, 501})
# (server, model, field), for the life of the process.
_refused: set[tuple[str, str, str]] = set()


async def offering(
    server: str, model: str, fields: Mapping[str, Any], send: Callable[[Mapping[str, Any]], Awaitable[T]]
) -> tuple[T, Mapping[str, Any]]:
    """Call `send` with `fields`, and after a refusal with fewer of them.

    Returns what it gave and the fields that it gave it for. The fields left out of a success that followed a
    refusal are left out from then on; where nothing succeeds, the last error is raised and nothing is remembered.
    """
    offered = {name: value for name, value in fields.items() if (server, model, name) not in _refused}
    for sent in _fewer_and_fewer(offered):
        try:
            answer = await send(sent)
        except ProviderError as error:
            if not sent or error.status not in _REFUSALS:
                raise
        else:
            break
    _refused.update((server, model, name) for name in offered.keys() - sent.keys())
    return answer, sent


def _fewer_and_fewer(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for size in range(len(fields), -1, -1):
        for names in itertools.combinations(fields, size):
            yield {name: fields[name] for name in names}
