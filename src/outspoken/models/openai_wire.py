"""OpenAI's protocol, JSON and event streams, translated to and from plain values. No HTTP here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jiter

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import ProviderError, ReplyError, UsageError
from outspoken.models.openai_errors import ErrorContext, error_in, error_without_choices
from outspoken.parsing import parse
from outspoken.reply_shape import ReplyShape

__all__ = [
    "MessageParts",
    "chat_body",
    "choice_of",
    "decode",
    "embedding_body",
    "encode",
    "message_of",
    "model_names",
    "optional_fields",
    "read_embeddings",
    "read_reply",
    "text_of",
    "usage_of",
    "whole_reply",
]

_RESERVED_FIELDS = ("model", "messages", "stream", "n")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MOST_TOKENS = 10**12
_PROSE = ReplyShape()
_BEGINNINGS, _ENDS = ("{", "[", "```", "<response"), ("}", "]", "```", "</response>")

# How providers say that a reply has ended, in lower case, and our word for it. Other words are kept as they are.
_FINISHES = {
    **dict.fromkeys(
        ("", "stop", "stop_sequence", "end_turn", "eos", "eos_token", "complete", "completed"), "stop"
    ),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length"), "length"),
    "model_context_window_exceeded": "length",
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "sensitive", "recitation"), "content_filter"),
    **dict.fromkeys(("prohibited_content", "blocklist", "spii", "refusal", "error_toxic"), "content_filter"),
    **dict.fromkeys(("tool_calls", "tool_call", "function_call", "tool_use"), "tool_calls"),
}
# What a provider calls a reply that it could not complete. Another attempt may be complete.
_FAILED = frozenset(
    {
        *("error", "network_error", "insufficient_system_resource", "server_error", "internal_error"),
        *("abort", "aborted", "cancelled", "failed", "interrupted", "overloaded", "timeout", "unavailable"),
    }
)
_REASONING_PARTS = frozenset({"reasoning", "reasoning_content", "reasoning.text", "thinking"})


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


def decode(body: bytes, *, halves: bool = False) -> Any:
    """Read JSON; invalid characters become U+FFFD. Raises `ValueError` for anything that is not JSON.

    With `halves`, halves of surrogate pairs are kept: the other half may follow in another body.
    """
    try:
        return jiter.from_json(body)
    except ValueError:
        pass
    try:
        text = body.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError:
        text = body.decode("utf-8-sig", "replace")
    try:
        value = json.loads(text)
        return value if halves else json.loads(joined_halves(json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def joined_halves(text: str) -> str:
    """`text` with the halves of each surrogate pair joined, and U+FFFD for each other half."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_reply(
    payload: Any, errors: ErrorContext, *, structured: bool = False, shape: ReplyShape = _PROSE
) -> ChatReply:
    """The reply in a decoded body; `shape` is the layout that was asked for.

    Raises `ProviderError` if there is none, or if the provider says that it failed.
    """
    choice = choice_of(payload, errors)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        message = choice.get("delta") or ({"content": choice["text"]} if "text" in choice else None)
    if not isinstance(message, Mapping):
        if details := error_without_choices(payload):
            raise errors.error(details)
        raise ProviderError(f"{errors.url}: the answer contains no choice: try again", retryable=True)
    usage, model = usage_of(payload), payload.get("model")
    return whole_reply(
        message_of(message), choice.get("finish_reason"), usage, model, errors, structured=structured, shape=shape
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
    names = [text_of(entry.get("id")) for entry in entries if isinstance(entry, Mapping)]
    return [name for name in names if name]


def choice_of(payload: Any, errors: ErrorContext) -> Mapping[str, object]:
    """The first choice, empty if there is none. Raises the error in the payload or in its choice."""
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    choice = first if isinstance(first, Mapping) else {}
    if details := error_in(payload) or error_in(choice):
        raise errors.error(details)
    return choice


class MessageParts(NamedTuple):
    """What a message holds, or a piece of one. `calls` are the numbers and the arguments of its calls of tools."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[tuple[int, str]] = ()


def whole_reply(
    message: MessageParts,
    finish: object,
    usage: Usage,
    model: object,
    errors: ErrorContext,
    *,
    structured: bool,
    shape: ReplyShape,
) -> ChatReply:
    """The reply that a message is. Raises `ProviderError` if the provider says that it failed."""
    text, reasoning, refusal, calls = message
    word = text_of(finish)
    ended = _FINISHES.get(word) or _FINISHES.get(word.lower(), word)
    if ended.lower() in _FAILED:
        raise ProviderError(
            f"{errors.url}: the provider could not complete the reply (finish_reason {word}): try again",
            retryable=True,
        )
    found_in = ""
    if calls and (arguments := _arguments(calls)):
        if not text.strip() or (_is_answer(arguments, shape) and not _is_answer(text, shape)):
            text, found_in = arguments, "tool_calls"
            ended = "tool_calls" if ended == "stop" else ended
    elif reasoning and not (refusal or text.strip()) and _is_answer(reasoning, shape, cut_off=ended == "length"):
        text, reasoning, found_in = reasoning, "", "reasoning"
    return ChatReply(text, ended, usage, text_of(model), reasoning, refusal, structured, found_in)


def _is_answer(text: str, shape: ReplyShape, *, cut_off: bool = False) -> bool:
    """Whether a text ends as the layout does that was asked for, and can be read.

    One that was `cut_off` must begin as the layout does.
    """
    if shape.kind == "text" and (shape.value_schema or {}).get("type") != "object":
        return False
    text = text.strip()
    if not (text.endswith(_ENDS) or (cut_off and text.startswith(_BEGINNINGS))):
        return False
    try:
        return bool(parse(text, shape).candidates)
    except ReplyError:
        return False


def _arguments(calls: Sequence[tuple[int, str]]) -> str:
    """The arguments of each call, put together from their pieces, below each other."""
    parts: dict[int, list[str]] = {}
    for number, piece in calls:
        parts.setdefault(number, []).append(piece)
    return "\n".join("".join(pieces) for pieces in parts.values()).strip()


def message_of(message: Mapping[str, object]) -> MessageParts:
    """What a message holds, or a piece of one."""
    content = message.get("content")
    text, thoughts, refusal = (content, "", "") if isinstance(content, str) else _content(content)
    reasoning = text_of(message.get("reasoning_content")) or _text_in(message.get("reasoning")) or thoughts
    calls = _calls(message) if "tool_calls" in message or "function_call" in message else ()
    return MessageParts(text, reasoning, text_of(message.get("refusal")) or refusal, calls)


def _content(value: object) -> tuple[str, str, str]:
    """Text, reasoning and refusal in a content that is not text: a list of parts, one part, or JSON."""
    if isinstance(value, str):
        return value, "", ""
    if isinstance(value, list):
        parts = [_content(part) for part in value]
        text, reasoning, refusal = ("".join(part[place] for part in parts) for place in range(3))
        return text, reasoning, refusal
    if not isinstance(value, Mapping):
        return "", "", ""
    if "type" not in value and not {"text", "thinking"} & value.keys():
        return json.dumps(value, ensure_ascii=False), "", ""
    if value.get("type") == "refusal":
        return "", "", text_of(value.get("refusal"))
    text = _text_in(value.get("text"))
    thoughts = _content(value.get("thinking"))[0]
    return ("", text + thoughts, "") if value.get("type") in _REASONING_PARTS else (text, thoughts, "")


def _calls(message: Mapping[str, object]) -> list[tuple[int, str]]:
    """The number and the arguments of each call of a tool, or of the pieces of them."""
    calls = message.get("tool_calls")
    entries = calls if isinstance(calls, list) else []
    if isinstance(message.get("function_call"), Mapping):
        entries = [*entries, {"function": message["function_call"]}]
    found = []
    for place, entry in enumerate(entries):
        function = entry.get("function") if isinstance(entry, Mapping) else None
        if isinstance(function, Mapping):
            arguments, index = function.get("arguments"), entry.get("index")
            if isinstance(arguments, Mapping | list):
                arguments = json.dumps(arguments, ensure_ascii=False)
            found.append((index if type(index) is int else place, text_of(arguments)))
    return found


def _text_in(value: object) -> str:
    """A text, or that of an object, as some libraries write it."""
    if isinstance(value, Mapping):
        value = value.get("value") or value.get("content")
    return text_of(value)


def text_of(value: object) -> str:
    """The value if it is text, "" for any other."""
    return value if isinstance(value, str) else ""


def usage_of(payload: Mapping[str, Any]) -> Usage:
    """The usage in a decoded body; what it does not state, or not as a number of tokens, is 0."""
    usage = payload.get("usage")
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    if type(value) is int:
        return value if 0 < value < _MOST_TOKENS else 0
    if not isinstance(value, float | str):
        return 0
    try:
        number = float(value)
    except ValueError:
        return 0
    return round(number) if 0 < number < _MOST_TOKENS else 0
