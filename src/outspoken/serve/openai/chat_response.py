"""Responses of chat completions: whole completions and streamed events. No HTTP here.

Each choice that was drawn has an extra object `outspoken`, which clients of the plain protocol ignore.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import ReplyError
from outspoken.serve.openai.chat_request import ChatCall
from outspoken.serve.openai.errors import error_body
from outspoken.serve.openai.fields import as_json
from outspoken.serve.pool.values import Draw

__all__ = ["DONE", "ChatResponse", "Chunks", "Completion", "completion", "declined", "error_event", "new_id"]

DONE = b"data: [DONE]\n\n"
_LONGEST_PIECE = 1000
_STRUCTURE = re.compile(r"[{}\[\]<>]|^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """The content of one choice that was not drawn: a reply of the model, or its refusal.

    `declined`: the model was asked for candidates, and replied with this instead.
    """

    text: str
    finish: str = "stop"
    refusal: str | None = None
    declined: bool = False

    @classmethod
    def from_reply(cls, reply: ChatReply) -> ChatResponse:
        """The reply itself, for a call that is not verbalized."""
        if reply.refusal:
            return cls("", "stop", reply.refusal)
        cut_off = "length" if reply.cut_off else "stop"
        return cls(reply.text, "content_filter" if reply.finish == "content_filter" else cut_off)


def declined(error: ReplyError) -> ChatResponse | None:
    """The response if the model refused, or wrote prose without a list; None if it wrote unreadable candidates."""
    reply = error.reply
    if reply is None:
        return None
    prose = reply.finish == "stop" and reply.text.strip() and not _STRUCTURE.search(reply.text)
    if reply.refusal or reply.finish == "content_filter" or prose:
        return replace(ChatResponse.from_reply(reply), declined=True)
    return None


class DrawFields(TypedDict, total=False):
    """The extra object of a choice, about how its text was drawn."""

    probability: float
    distribution: str
    draw: int
    again: bool
    verbalized: bool


class ChoiceMessage(TypedDict):
    role: str
    content: str | None
    refusal: str | None


class Choice(TypedDict):
    index: int
    message: ChoiceMessage
    logprobs: None
    finish_reason: str
    outspoken: NotRequired[DrawFields]


class CachedTokens(TypedDict):
    cached_tokens: int


class UsageFields(TypedDict):
    """The tokens of the requests to the model for this call."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Completion(TypedDict):
    """The body of a completion that is not streamed."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: UsageFields


def new_id() -> str:
    """A new identifier of a completion."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def completion(
    call: ChatCall,
    draws: Iterable[Draw | ChatResponse],
    *,
    id: str,  # noqa: A002  (the protocol's name)
    created: int,
    usage: Usage = Usage(),
) -> Completion:
    """The body of a completion, with a choice for each draw. `created` is in seconds since 1970.

    `usage` counts the tokens of the requests for this call: none if every draw came from the pool.
    """
    choices: list[Choice] = []
    for index, draw in enumerate(draws):
        response, fields = _content(call, draw)
        choice: Choice = {
            "index": index,
            "message": {
                "role": "assistant",
                "content": response.text if response.refusal is None else None,
                "refusal": response.refusal,
            },
            "logprobs": None,
            "finish_reason": response.finish,
        }
        if fields is not None:
            choice["outspoken"] = fields
        choices.append(choice)
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": call.requested_model,
        "choices": choices,
        "usage": _usage(usage),
    }


class Chunks:
    """The events of one streamed completion, one choice after another.

    The first chunk of a choice has the extra object: clients that join chunks keep the first object.
    """

    def __init__(self, call: ChatCall, *, id: str, created: int) -> None:  # noqa: A002
        kind, model = "chat.completion.chunk", call.requested_model
        self._head = {"id": id, "object": kind, "created": created, "model": model}
        self._tail: Mapping[str, object] = {"usage": None} if call.include_usage else {}
        self._call = call

    def start(self, index: int, fields: DrawFields | None = None) -> bytes:
        """The first chunk of a choice."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, fields=fields)

    def piece(self, index: int, text: str, field: str = "content") -> bytes:
        """A piece of a choice's text."""
        return self._chunk(index, {field: text})

    def end(self, index: int, finish: str) -> bytes:
        """The last chunk of a choice."""
        return self._chunk(index, {}, finish)

    def close(self, usage: Usage) -> bytes:
        """The events after the last choice."""
        last = {**self._head, "choices": [], "usage": _usage(usage)}
        return (_event(last) if self._call.include_usage else b"") + DONE

    def choice(self, index: int, draw: Draw | ChatResponse) -> bytes:
        """All chunks of a choice that is complete."""
        response, fields = _content(self._call, draw)
        refusal = response.refusal
        field, text = ("content", response.text) if refusal is None else ("refusal", refusal)
        pieces = [
            self.piece(index, text[start : start + _LONGEST_PIECE], field)
            for start in range(0, len(text), _LONGEST_PIECE)
        ]
        return b"".join([self.start(index, fields), *pieces, self.end(index, response.finish)])

    def _chunk(
        self, index: int, delta: Mapping[str, object], finish: str | None = None, fields: DrawFields | None = None
    ) -> bytes:
        own = {} if fields is None else {"outspoken": fields}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **own}
        return _event({**self._head, "choices": [choice], **self._tail})


def error_event(error: Exception) -> bytes:
    """An error in a stream that has begun."""
    return _event(error_body(error)[1])


def _content(call: ChatCall, draw: Draw | ChatResponse) -> tuple[ChatResponse, DrawFields | None]:
    """The content of a choice, cut at the first of the call's stops, and its extra object."""
    fields: DrawFields | None
    if isinstance(draw, ChatResponse):
        response, fields = draw, {"verbalized": False} if draw.declined else None
    else:
        candidate = draw.candidate
        response = ChatResponse(candidate.text, "length" if "truncated" in candidate.repairs else "stop")
        fields = {"probability": candidate.probability, "distribution": draw.distribution, "draw": draw.number}
        if draw.again:
            fields["again"] = True
    # A reply in JSON can contain half of a surrogate pair, which becomes a question mark.
    text = response.text.encode("utf-8", "replace").decode()
    ends = [at for stop in call.stop if (at := text.find(stop)) >= 0]
    if ends:
        response = replace(response, text=text[: min(ends)], finish="stop")
    elif text != response.text:
        response = replace(response, text=text)
    return response, fields


def _usage(usage: Usage) -> UsageFields:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(payload: Mapping[str, object]) -> bytes:
    return b"data: " + as_json(payload) + b"\n\n"
