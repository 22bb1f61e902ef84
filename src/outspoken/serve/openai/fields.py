"""The fields of a client's request, each read by its type, and the error that tells which cannot be used.

Messages name the field and never repeat a value of any length. None stands for a field that was not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outspoken.chat import Message, as_messages
from outspoken.errors import UsageError

__all__ = ["NO_TOOLS", "RequestError", "flag", "messages_of", "number", "shown", "text", "whole"]

NO_TOOLS = "it answers in text and calls no tools"
_LONGEST_NAME = 500


class RequestError(UsageError):
    """A request that cannot be answered, with what OpenAI's form of an error says of it.

    `status` is the HTTP status, `param` the field at fault, `retry_after` the seconds after which the same
    request may be answered.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


def text(given: Mapping[str, Any], name: str, param: str = "") -> str:
    """The text in a field; empty where there is none."""
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise RequestError(
            f"{param or name} must be text of at most {_LONGEST_NAME} characters", param=param or name
        )
    return value


def flag(given: Mapping[str, Any], name: str, param: str = "") -> bool | None:
    """The truth value in a field."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{param or name} must be true or false", param=param or name)
    return value


def whole(given: Mapping[str, Any], name: str, low: int, high: int, hint: str = "", param: str = "") -> int | None:
    """The whole number in a field, from `low` to `high`."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(
            f"{param or name} must be a whole number from {low:,} to {high:,}" + (f": {hint}" if hint else ""),
            param=param or name,
        )
    return value


def number(given: Mapping[str, Any], name: str, param: str = "") -> float | None:
    """The number in a field. Infinities and what is no number are none."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e6:
        raise RequestError(f"{param or name} must be a number of at most a million", param=param or name)
    return float(value)


def messages_of(given: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a chat. A `name` beside a message's role is not told to the model."""
    messages = given.get("messages")
    if not isinstance(messages, list):
        raise RequestError("messages must be a list that ends with the user's message", param="messages")
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if not isinstance(message, Mapping):
            raise RequestError(f"{where} must be an object with role and content", param=where)
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role in ("tool", "function") or len(role) > _LONGEST_NAME:
            raise RequestError(f"{where}.role must be system, developer, user or assistant", param=f"{where}.role")
        if message.get("tool_calls") or message.get("function_call"):
            raise RequestError(
                f"{where} calls a tool, and tools are for models that are passed through", param=where
            )
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for part in parts:
            if not (
                isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
            ):
                raise RequestError(
                    f"{where}.content must be text: a draw takes no images, sound or files",
                    param=f"{where}.content",
                )
    try:
        return as_messages(messages)
    except UsageError as error:
        raise RequestError(str(error), param="messages") from error


def shown(value: object) -> str:
    """The beginning of a name, for a message."""
    return repr(value[:80]) if isinstance(value, str) else "of this name"
