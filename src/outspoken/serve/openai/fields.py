"""JSON at the edge: bodies of requests, their fields read by type, and values written as JSON.

Messages name the field at fault and never repeat a long value. An omitted field is None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

import jiter
import orjson

from outspoken.chat import Message, as_messages
from outspoken.errors import UsageError
from outspoken.serve.openai.errors import RequestError

__all__ = [
    "DeclaredField",
    "Fields",
    "as_json",
    "declared_fields",
    "quoted",
    "read_flag",
    "read_json",
    "read_messages",
    "read_text",
]

Fields = Mapping[str, object]
"""A JSON object of a client, with unchecked values."""

_LONGEST_NAME = 500
_LARGEST_INTEGER = 2**31


def read_json(body: bytes) -> Fields:
    """The JSON object in a request's body. Raises `RequestError` if it is anything else."""
    try:
        payload: object = jiter.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise RequestError("the body must be a JSON object")
    return payload


def as_json(payload: object) -> bytes:
    """A value as JSON in UTF-8; characters without UTF-8 become question marks."""
    try:
        return orjson.dumps(payload, default=str)
    except orjson.JSONEncodeError:  # half of a surrogate pair, or a number of more than 64 bits
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode("utf-8", "replace")


def read_text(fields: Fields, name: str, param: str = "") -> str | None:
    """A field of text. `param` is the name for error messages, if it differs."""
    value = fields.get(name)
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST_NAME):
        return value
    raise _wrong(param or name, f"text of at most {_LONGEST_NAME} characters")


def read_flag(fields: Fields, name: str, param: str = "") -> bool | None:
    """A field that is true or false."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(param or name, "true or false")


def _wrong(param: str, expected: str) -> RequestError:
    return RequestError(f"{param} must be {expected}", param=param)


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """A field of requests that a dataclass declares with `outspoken.settings.option`.

    `kind` is str, bool, int or float, `param` the name in errors, `choices` returns the allowed texts. `metadata`
    has the help and the bounds.
    """

    name: str
    kind: type
    param: str
    default: Any
    metadata: Mapping[str, Any]
    choices: Callable[[], Iterable[str]] | None = None

    def read(self, values: Fields, *, high: int | None = None, hint: str = "") -> Any:
        """The value in a request, or None. `high` lowers the bound of a whole number. Raises `RequestError`."""
        if self.kind is bool:
            return read_flag(values, self.name, self.param)
        if self.kind in (int, float):
            return self._read_number(values.get(self.name), high, hint)
        value = read_text(values, self.name, self.param) or None
        if value is not None and self.choices is not None and value not in (known := tuple(self.choices())):
            message = f"unknown {self.name} {quoted(value)}; known: {', '.join(known)}"
            raise RequestError(message, param=self.param)
        return value

    def _read_number(self, value: Any, high: int | None, hint: str) -> int | float | None:
        if value is None:
            return None
        is_number = isinstance(value, (int, self.kind)) and not isinstance(value, bool)
        if self.kind is float:
            if is_number and abs(value) <= 1e6:
                return float(value)
            raise _wrong(self.param, "a number of at most a million")
        low, most = self.metadata["low"], self.metadata.get("high", _LARGEST_INTEGER)
        high = most if high is None else min(high, most)
        if is_number and low <= value <= high:
            return int(value)
        raise _wrong(self.param, f"a whole number from {low:,} to {high:,}" + (f": {hint}" if hint else ""))


def declared_fields(
    kind: type,
    place: str,
    choices: Mapping[str, Callable[[], Iterable[str]]] = MappingProxyType({}),
) -> dict[str, DeclaredField]:
    """The fields of a dataclass whose metadata has `place` under "request", by name."""
    prefix = "" if place == "body" else f"{place}."
    types = get_type_hints(kind)
    declared = {}
    for entry in fields(kind):
        if entry.metadata.get("request") == place:
            name, hint = entry.name, types[entry.name]
            plain = next((part for part in get_args(hint) if part is not NoneType), hint)
            known = choices.get(name)
            declared[name] = DeclaredField(name, plain, prefix + name, entry.default, entry.metadata, known)
    return declared


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The messages of a chat. A `name` beside a message's role is not sent to the model."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise _wrong("messages", "a list that ends with the user's message")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    try:
        return as_messages(messages)
    except UsageError as error:
        raise RequestError(str(error), param="messages") from error


def _check_message(message: object, param: str) -> None:
    if not isinstance(message, Mapping):
        raise _wrong(param, "an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role in ("tool", "function") or len(role) > _LONGEST_NAME:
        raise _wrong(f"{param}.role", "system, developer, user or assistant")
    if message.get("tool_calls") or message.get("function_call"):
        raise RequestError(f"{param} calls a tool: tools need a model that is passed through", param=param)
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise _wrong(f"{param}.content", "text: a draw accepts no images, sound or files")


def quoted(value: object) -> str:
    """The beginning of a name, in quotes, for a message."""
    return repr(value[:80]) if isinstance(value, str) else "of this name"
