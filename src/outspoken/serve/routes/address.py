"""An address of the server: its row in the table, the lookup of a path, and its part of the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from starlette.requests import Request
from starlette.responses import Response

from outspoken._version import __version__
from outspoken.serve.openai.chat_request import BODY_FIELDS, LONGEST_STOP, MAX_STOPS, OWN_FIELDS
from outspoken.serve.openai.errors import ErrorDocument
from outspoken.serve.openai.fields import DeclaredField
from outspoken.serve.service import Service

__all__ = ["Address", "AddressTable", "Handler", "Schema", "chat_schema", "document", "openapi_path"]

Handler = Callable[[Service, Request], Awaitable[Response]]
Schema = Mapping[str, object]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
_BOUNDS = {"low": "minimum", "high": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_STOP: Schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant"]},
            "content": {"type": ["string", "array"]},
        },
    },
    "examples": [[{"role": "user", "content": "Name a US state."}]],
}


@dataclass(frozen=True)
class Address:
    """An address of the server.

    `path` is in starlette's form: `{name}` stands for a segment, `{name:path}` for the rest. `open`: it needs no
    client key, and a call does not count against the limits of one. `needs_upstream`: it exists only with an
    upstream.

    `summary` and `details` document it. `listed`: docs/serve.md lists it. `response` is the type of the response
    in the OpenAPI document, which contains only addresses that have one; `request` returns the schema of the body.
    `events`: the response can also be a stream of events.
    """

    path: str
    handler: Handler
    summary: str
    _: KW_ONLY
    details: str = ""
    methods: tuple[str, ...] = ("GET",)
    open: bool = False
    needs_upstream: bool = False
    listed: bool = True
    request: Callable[[], Schema] | None = None
    response: Any = None
    events: bool = False

    @cached_property
    def label(self) -> str:
        """The path without its variable part, as metrics name it."""
        prefix, brace, _ = self.path.partition("{")
        return f"{prefix}…" if brace else prefix


class AddressTable:
    """The addresses. `paths` are those of the API without a variable part."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = addresses
        self._fixed = {address.path: address for address in addresses if "{" not in address.path}
        self._variable = {address.path.partition("{")[0]: address for address in addresses if "{" in address.path}
        self.paths = [path for path in self._fixed if path.startswith("/v1/")]

    def find(self, path: str) -> Address | None:
        """The address that a path belongs to, with any HTTP method."""
        if (fixed := self._fixed.get(path)) is not None:
            return fixed
        return next((address for prefix, address in self._variable.items() if path.startswith(prefix)), None)


@cache
def document(addresses: tuple[Address, ...]) -> Schema:
    """The OpenAPI document of the addresses that have a response."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outspoken",
            "version": __version__,
            "summary": "OpenAI-compatible: responses are drawn from the distribution that a model verbalizes.",
        },
        "paths": {
            openapi_path(address): {method.lower(): _operation(address) for method in address.methods}
            for address in addresses
            if address.response is not None
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def openapi_path(address: Address) -> str:
    """The path of an address in OpenAPI's form."""
    return _PARAMETER.sub(r"{\1}", address.path)


def _operation(address: Address) -> Schema:
    content = _content(address.response) | ({"text/event-stream": {}} if address.events else {})
    operation: dict[str, object] = {
        "summary": address.summary,
        "responses": {
            "200": {"description": "Done.", "content": content},
            "4XX": {"description": "Errors that the caller can fix.", "content": _content(ErrorDocument)},
            "5XX": {"description": "Failures of the server or its upstream.", "content": _content(ErrorDocument)},
        },
    }
    if address.details:
        operation["description"] = address.details
    if address.open:
        operation["security"] = []
    if address.request is not None:
        schema = {"schema": address.request()}
        operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
    if names := _PARAMETER.findall(address.path):
        schema = {"schema": {"type": "string", "minLength": 1}}
        operation["parameters"] = [{"name": name, "in": "path", "required": True, **schema} for name in names]
    return operation


def _content(kind: Any) -> dict[str, object]:
    media = "text/plain" if kind is str else "application/json"
    return {media: {"schema": _schema_of(kind)}}


def _schema_of(kind: Any) -> Schema:
    """The JSON schema of a type: a plain type, a union or list of them, or a `TypedDict`.

    `Annotated[T, {...}]` adds keywords to the schema of T.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**_schema_of(arguments[0]), **arguments[1]}
    if origin is NotRequired:
        return _schema_of(arguments[0])
    if origin is Literal:
        return {"const": arguments[0]}
    if origin is list:
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin in (Union, UnionType):
        return {"type": [_TYPES[part] for part in arguments]}
    if not is_typeddict(kind):
        return {"type": _TYPES[kind]}
    parts = get_type_hints(kind, include_extras=True)
    required = [name for name, part in parts.items() if kind.__total__ and get_origin(part) is not NotRequired]
    properties = {name: _schema_of(part) for name, part in parts.items()}
    return {"type": "object", "required": required, "properties": properties}


def chat_schema() -> Schema:
    """The body of a chat completion; it may have further fields, for the model."""
    declared = _declared(BODY_FIELDS)
    properties: dict[str, Schema] = {
        "model": {"type": "string", "examples": ["smollm2:vs"]},
        "messages": _MESSAGES,
        **declared,
        "max_completion_tokens": declared["max_tokens"],
        "stop": {"anyOf": [_STOP, {"type": "array", "maxItems": MAX_STOPS, "items": _STOP}, {"type": "null"}]},
        "stream_options": {"type": ["object", "null"]},
        "outspoken": {
            "type": ["object", "null"],
            "description": "How the responses are verbalized; the server's defaults apply to omitted fields.",
            "properties": _declared(OWN_FIELDS),
            "additionalProperties": False,
        },
    }
    return {"type": "object", "required": ["model", "messages"], "properties": properties}


def _declared(declared: Mapping[str, DeclaredField]) -> dict[str, Schema]:
    """The schemas of fields that a dataclass declares. A client may send null for each of them."""
    schemas: dict[str, Schema] = {}
    for name, entry in declared.items():
        schema: dict[str, object] = {"type": [_TYPES[entry.kind], "null"], "description": entry.metadata["help"]}
        schema |= {_BOUNDS[key]: value for key, value in entry.metadata.items() if key in _BOUNDS}
        if entry.choices is not None:
            schema["enum"] = [*entry.choices(), None]
        if isinstance(entry.default, bool):
            schema["default"] = entry.default
        schemas[name] = schema
    return schemas
