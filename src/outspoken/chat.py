"""Plain values of one exchange with a model. No I/O, no provider's dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from outspoken.errors import UsageError
from outspoken.reply_shape import ReplyShape

__all__ = ["ChatReply", "ChatRequest", "Message", "Sampling", "Usage", "as_messages"]

_ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: `role` is system, developer, user or assistant; `content` is text."""

    role: str
    content: str

    def to_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model samples its tokens. None leaves the model's own default in place.

    `extra` passes settings by the provider's own names (`min_p`, `top_k`, …) untouched.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            if (value := getattr(self, name)) is not None:
                if isinstance(value, bool) or not isinstance(value, Real):
                    raise UsageError(f"{name} must be a number, not {value!r}")
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one setting
        for name in ("max_tokens", "seed"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"{name} must be a whole number, not {value!r}")
        stop: Any = self.stop
        if not isinstance(stop, list | tuple) or not all(isinstance(text, str) for text in stop):
            raise UsageError(f"stop must be a list of texts, not {stop!r}")
        object.__setattr__(self, "stop", tuple(stop))
        if not isinstance(self.extra, Mapping) or not all(isinstance(name, str) for name in self.extra):
            raise UsageError(f"extra must be a table of settings by their names, not {self.extra!r}")
        if self.temperature is not None and not 0 <= self.temperature <= 10:
            raise UsageError(f"temperature must be between 0 and 10, not {self.temperature:g}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must be a whole number from 0 to 2^32 - 1, not {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        """Only what was set, so that equal settings give equal dictionaries."""
        pairs = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop) or None,
            "extra": dict(self.extra) or None,
        }
        return {name: value for name, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a model.

    `schema` is a JSON schema that the decoder should enforce where it can; a model that cannot enforce one
    ignores it, because the wording of the request asks for the same and the reply is read tolerantly either way.
    Everything else that a model cannot do, it refuses. `shape` is for the reader of the reply and is not sent.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Mapping[str, Any] | None = None
    shape: ReplyShape = ReplyShape()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several exchanges; `cached_tokens` of the prompt were not computed anew."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    def to_dict(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back for one request.

    `finish` is why the model stopped: "stop", "length" (cut off at the token limit), "content_filter" or what
    the provider said. `reasoning` is text that the provider delivered apart from the answer; `refusal` is a
    refusal that it marked as one. `structured` tells whether the decoder enforced the request's schema.
    """

    text: str
    finish: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    reasoning: str = ""
    refusal: str = ""
    structured: bool = False


def as_messages(prompt: str | Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read a prompt, or a whole chat in OpenAI's form, into messages that end with the user's turn.

    Raises `UsageError` for an empty prompt, an unknown role, content that is not text, or a chat whose last
    message is not the user's.
    """
    if isinstance(prompt, str):
        messages: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Sequence):
        messages = tuple(_as_message(entry, at) for at, entry in enumerate(prompt))
    else:
        raise UsageError(f"a prompt is text or a list of messages, not {type(prompt).__name__}")
    if not messages:
        raise UsageError("the list of messages is empty: end it with the user's message")
    if messages[-1].role != "user":
        raise UsageError(f"the last message is the {messages[-1].role}'s: end the chat with the user's message")
    if not messages[-1].content.strip():
        raise UsageError("the prompt is empty: say what you want responses to")
    return messages


def _as_message(entry: object, at: int) -> Message:
    if isinstance(entry, Message):
        role: Any = entry.role
        content: Any = entry.content
    elif isinstance(entry, Mapping):
        role, content = entry.get("role"), entry.get("content")
    else:
        raise UsageError(f"message {at} must be a mapping with role and content")
    if role not in _ROLES:
        raise UsageError(f"message {at} has the role {role!r}; known: {', '.join(_ROLES)}")
    if isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type") == "text" for part in content
    ):
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise UsageError(f"message {at} must have text as its content; other kinds are not supported")
    return Message(role, content)
