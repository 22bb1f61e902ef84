"""The values of a request to a model: messages, sampling settings, schema. No I/O, nothing of one provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from outspoken.errors import UsageError
from outspoken.reply_shape import ReplyShape

__all__ = ["ChatRequest", "Message", "Sampling", "as_messages"]

_ROLES = ("system", "developer", "user", "assistant")
_CHECKS: tuple[tuple[str, type[Any], Callable[[Any], bool], str], ...] = (
    ("temperature", Real, lambda value: 0 <= value <= 10, "a number from 0 to 10"),
    ("top_p", Real, lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    ("max_tokens", int, lambda value: value >= 1, "a whole number from 1 on"),
    ("seed", int, lambda value: 0 <= value < 2**32, f"a whole number from 0 to {2**32 - 1:,}"),
)


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

    `extra` passes settings under the provider's own names (`min_p`, `top_k`, …) unchanged. Raises `UsageError` for
    a value of the wrong type or outside its range.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind, is_allowed, allowed in _CHECKS:
            value: Any = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not is_allowed(value):
                raise UsageError(f"{name} must be {allowed}, not {value!r}")
            if kind is Real:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one setting
        stop: object = self.stop
        if not isinstance(stop, list | tuple) or not all(isinstance(text, str) for text in stop):
            raise UsageError(f"stop must be a list of texts, not {stop!r}")
        object.__setattr__(self, "stop", tuple(stop))
        if not isinstance(self.extra, Mapping) or not all(isinstance(name, str) for name in self.extra):
            raise UsageError(f"extra must map names of settings to values, not {self.extra!r}")

    def to_dict(self) -> dict[str, object]:
        """The settings that are set, so that equal settings give equal dictionaries."""
        settings: dict[str, object] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop) or None,
            "extra": dict(self.extra) or None,
        }
        return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a model.

    `schema` is a JSON schema for the decoder to enforce. A model that cannot enforce one ignores it, as the prompt
    asks for the same layout and the parser is tolerant; any other setting that a model does not support is an
    error. `shape` is for the parser of the reply and is not sent.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Mapping[str, object] | None = None
    shape: ReplyShape = ReplyShape()


def as_messages(prompt: str | Sequence[Message | Mapping[str, object]]) -> tuple[Message, ...]:
    """Read a prompt, or a chat in OpenAI's form, into messages that end with the user's turn.

    Raises `UsageError` for an empty prompt, an unknown role, content that is not text, or a chat whose last
    message is not the user's.
    """
    if isinstance(prompt, str):
        messages: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Sequence):
        messages = tuple(_as_message(entry, index) for index, entry in enumerate(prompt))
    else:
        raise UsageError(f"a prompt must be text or a list of messages, not {type(prompt).__name__}")
    if not messages:
        raise UsageError("the list of messages is empty: end it with the user's message")
    if messages[-1].role != "user":
        raise UsageError(f"the last message is the {messages[-1].role}'s: end the chat with the user's message")
    if not messages[-1].content.strip():
        raise UsageError("the prompt is empty: write what the model should respond to")
    return messages


def _as_message(entry: object, index: int) -> Message:
    role: object
    content: object
    if isinstance(entry, Message):
        role, content = entry.role, entry.content
    elif isinstance(entry, Mapping):
        role, content = entry.get("role"), entry.get("content")
    else:
        raise UsageError(f"message {index} must be a mapping with role and content")
    if not isinstance(role, str) or role not in _ROLES:
        raise UsageError(f"message {index} has the role {role!r}; known: {', '.join(_ROLES)}")
    if isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type") == "text" for part in content
    ):
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise UsageError(f"message {index} must have text as its content; other kinds are not supported")
    return Message(role, content)
