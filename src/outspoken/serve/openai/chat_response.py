"""What a client of OpenAI's chat completions is answered: a completion, its chunks, an error. No HTTP here.

Each choice carries an object `outspoken` that clients of the plain protocol ignore.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from outspoken.chat import ChatReply, Usage
from outspoken.distribution import Candidate
from outspoken.errors import (
    MissingExtraError,
    MissingKeyError,
    OutspokenError,
    PromptTooLongError,
    ProviderError,
    ReplyError,
    StoppedError,
    TailError,
    UsageError,
)
from outspoken.models.openai_errors import one_line
from outspoken.serve.openai.chat_request import ChatCall
from outspoken.serve.openai.fields import RequestError
from outspoken.serve.pool.values import ExhaustedError

__all__ = [
    "DONE",
    "ChatResponse",
    "Chunks",
    "Drawn",
    "as_json",
    "completion",
    "declined",
    "error_body",
    "error_event",
    "error_headers",
    "new_id",
    "replied",
    "without_addresses",
]

DONE = b"data: [DONE]\n\n"
_LONGEST_PIECE = 1000
_ADDRESS = re.compile(r"\b(?:https?|wss?)://[^\s'\"<>()]*[^\s'\"<>().,:;#]")
_LONGEST_MESSAGE = 500
_STRUCTURE = re.compile(r"[{}\[\]<>]|^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# What the client can mend; any other status of the upstream is the gateway's failure.
_OF_THE_CLIENT = frozenset({400, 404, 413, 415, 422, 429})
_OVERLOADED = frozenset({503, 529})
_TIMED_OUT = frozenset({408, 504})
_GATEWAY = {502: "upstream_error", 503: "upstream_overloaded", 504: "upstream_timeout"}


class Drawn(Protocol):
    """What a pool hands out."""

    @property
    def candidate(self) -> Candidate: ...

    @property
    def distribution(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def again(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """The content of one choice that was not drawn: a reply of the model, or its refusal."""

    text: str
    finish: str = "stop"
    refusal: str | None = None
    declined: bool = False


def replied(reply: ChatReply) -> ChatResponse:
    """A reply as it is, for a call that is not verbalized."""
    if reply.refusal:
        return ChatResponse("", "stop", reply.refusal)
    return ChatResponse(reply.text, reply.finish if reply.finish in ("length", "content_filter") else "stop")


def declined(error: ReplyError) -> ChatResponse | None:
    """What the model answered instead of candidates, as the answer that it is: a refusal, or a text that does not
    even begin to be a list of them. None where candidates came damaged or cut off."""
    reply = error.reply
    if reply is None:
        return None
    plain = reply.finish == "stop" and reply.text.strip() and not _STRUCTURE.search(reply.text)
    if reply.refusal or reply.finish == "content_filter" or plain:
        return replace(replied(reply), declined=True)
    return None


def new_id() -> str:
    """A new identifier of a completion."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def completion(
    call: ChatCall,
    draws: Iterable[Drawn | ChatResponse],
    *,
    id: str,  # noqa: A002  (the protocol's name)
    created: int,
    usage: Usage = Usage(),
) -> dict[str, Any]:
    """The body of a completion, a choice for each draw. `created` is in seconds since 1970.

    `usage` counts the tokens that this call was made to cost: none where every draw came from the pool.
    """
    choices: list[dict[str, Any]] = []
    for index, draw in enumerate(draws):
        answer, about = _content(call, draw)
        choices.append(
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": answer.text if answer.refusal is None else None,
                    "refusal": answer.refusal,
                },
                "logprobs": None,
                "finish_reason": answer.finish,
                **about,
            }
        )
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": call.asked,
        "choices": choices,
        "usage": _usage(usage),
    }


class Chunks:
    """The events of one streamed completion, a choice after the other.

    The extra field stands in the first chunk of each choice: clients that gather chunks keep what came first.
    """

    def __init__(self, call: ChatCall, *, id: str, created: int) -> None:  # noqa: A002
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": call.asked}
        self._tail: dict[str, Any] = {"usage": None} if call.include_usage else {}
        self._call = call

    def begin(self, index: int, **about: Any) -> bytes:
        """The first chunk of a choice."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, **about)

    def piece(self, index: int, text: str, field: str = "content") -> bytes:
        """A piece of a choice's text."""
        return self._chunk(index, {field: text})

    def end(self, index: int, finish: str) -> bytes:
        """The last chunk of a choice."""
        return self._chunk(index, {}, finish)

    def close(self, usage: Usage) -> bytes:
        """What comes behind the last choice."""
        told = {**self._head, "choices": [], "usage": _usage(usage)}
        return (_event(told) if self._call.include_usage else b"") + DONE

    def whole(self, index: int, draw: Drawn | ChatResponse) -> bytes:
        """A choice that is there as a whole."""
        answer, about = _content(self._call, draw)
        field, text = ("content", answer.text) if answer.refusal is None else ("refusal", answer.refusal)
        pieces = [
            self.piece(index, text[start : start + _LONGEST_PIECE], field)
            for start in range(0, len(text), _LONGEST_PIECE)
        ]
        return b"".join([self.begin(index, **about), *pieces, self.end(index, answer.finish)])

    def _chunk(self, index: int, delta: Mapping[str, Any], finish: str | None = None, **about: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **about}
        return _event({**self._head, "choices": [choice], **self._tail})


def _content(call: ChatCall, draw: Drawn | ChatResponse) -> tuple[ChatResponse, dict[str, Any]]:
    """What a choice says, cut at the first of the call's stops, and its extra field."""
    about: dict[str, Any] = {}
    if isinstance(draw, ChatResponse):
        answer = draw
        if draw.declined:
            about["outspoken"] = {"verbalized": False}
    else:
        candidate = draw.candidate
        answer = ChatResponse(candidate.text, "length" if "truncated" in candidate.repairs else "stop")
        about["outspoken"] = {
            "probability": candidate.probability,
            "distribution": draw.distribution,
            "draw": draw.number,
            **({"again": True} if draw.again else {}),
        }
    # Half of a surrogate pair can be in a reply's JSON and in no answer of ours.
    text = _whole(answer.text)
    ends = [at for stop in call.stop if (at := text.find(stop)) >= 0]
    if ends:
        answer = replace(answer, text=text[: min(ends)], finish="stop")
    elif text is not answer.text:
        answer = replace(answer, text=text)
    return answer, about


def _whole(text: str) -> str:
    """The text; what has no UTF-8 as a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def as_json(payload: Any) -> bytes:
    """A value as JSON in UTF-8; what has no UTF-8 as a question mark."""
    try:
        return orjson.dumps(payload, default=str)
    except orjson.JSONEncodeError:  # half of a surrogate pair, or a number of more than 64 bits
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode("utf-8", "replace")


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + as_json(payload) + b"\n\n"


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body that tell of an error, in OpenAI's form.

    Addresses are left out. Of what is not ours, and of what only the operator can mend, nothing is told but that
    it happened.
    """
    status, code, message = _told(error)
    param = error.param if isinstance(error, RequestError) else None
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    line = without_addresses(message)
    return status, {"error": {"message": line, "type": kind, "param": param, "code": code}}


def without_addresses(message: str) -> str:
    """A message in one line, that does not tell where the upstream is."""
    return one_line(_ADDRESS.sub("the upstream", message[: 4 * _LONGEST_MESSAGE]), longest=_LONGEST_MESSAGE)


def error_headers(error: Exception) -> dict[str, str]:
    """The headers that belong to an error: when to come again, how to say who one is."""
    headers = {}
    wait = error.retry_after if isinstance(error, RequestError | ProviderError) else None
    if wait is not None and math.isfinite(wait):
        headers["Retry-After"] = str(math.ceil(wait))
    if isinstance(error, RequestError) and error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def error_event(error: Exception) -> bytes:
    """An error that befell a stream which had begun."""
    return _event(error_body(error)[1])


def _told(error: Exception) -> tuple[int, str | None, str]:
    """Status, code and message."""
    match error:
        case RequestError():
            return error.status, error.code, str(error)
        case ExhaustedError():
            return 422, "pool_exhausted", str(error)
        case PromptTooLongError():
            return 400, "context_length_exceeded", str(error)
        case MissingExtraError() | MissingKeyError():
            return (
                500,
                "server_misconfigured",
                "this server cannot reach the model: its operator finds why in the log",
            )
        case UsageError():
            return 400, None, str(error)
        case TailError():
            return 422, "empty_tail", str(error)
        case ReplyError():
            return 502, "unreadable_reply", str(error)
        case ProviderError():
            return _of_provider(error)
        case StoppedError():
            return 503, "stopping", str(error)
        case OutspokenError():
            return 500, "internal_error", "this server failed at its own work: its operator finds why in the log"
    return 500, "internal_error", "something went wrong in this server: its operator finds what in the log"


def _of_provider(error: ProviderError) -> tuple[int, str | None, str]:
    status = error.status
    if status in (401, 402, 403):
        why = "the upstream did not accept this server's key: its operator must check it"
        return 502, "upstream_authentication", why
    if status in _OF_THE_CLIENT:
        return status, {404: "model_not_found", 429: "rate_limit_exceeded"}.get(status), str(error)
    if status in _TIMED_OUT or (status is None and isinstance(error.original, TimeoutError)):
        status = 504
    else:
        status = 503 if status in _OVERLOADED else 502
    return status, _GATEWAY[status], str(error)
