"""The OpenAPI document of the server, derived from its addresses, its types and the declared settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from outspoken._version import __version__
from outspoken.serve.openai.chat_request import LONGEST_STOP, MAX_STOPS, OWN_FIELDS, SETTINGS
from outspoken.serve.openai.errors import ErrorDocument
from outspoken.serve.openai.fields import DeclaredField
from outspoken.serve.routes.address import Address, Schema

__all__ = ["chat_schema", "document", "openapi_path", "schema_of"]

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


def schema_of(kind: Any) -> Schema:
    """The JSON schema of a type: a plain type, a union or list of them, or a `TypedDict`.

    `Annotated[T, {...}]` adds keywords to the schema of T.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema_of(arguments[0]), **arguments[1]}
    if origin is NotRequired:
        return schema_of(arguments[0])
    if origin is Literal:
        return {"const": arguments[0]}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (Union, UnionType):
        return {"type": [_TYPES[part] for part in arguments]}
    if is_typeddict(kind):
        fields = get_type_hints(kind, include_extras=True)
        required = [
            name for name, part in fields.items() if kind.__total__ and get_origin(part) is not NotRequired
        ]
        return _object({name: schema_of(part) for name, part in fields.items()}, required)
    return {"type": _TYPES[kind]}


def _object(properties: Mapping[str, Schema], required: Iterable[str]) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _declared(fields: Mapping[str, DeclaredField]) -> dict[str, Schema]:
    """The schemas of fields that a dataclass declares. A client may send null for each of them."""
    schemas: dict[str, Schema] = {}
    for name, field in fields.items():
        schema: dict[str, object] = {"type": [_TYPES[field.kind], "null"], "description": field.metadata["help"]}
        schema |= {_BOUNDS[key]: value for key, value in field.metadata.items() if key in _BOUNDS}
        if field.choices is not None:
            schema["enum"] = [*field.choices(), None]
        if isinstance(field.default, bool):
            schema["default"] = field.default
        schemas[name] = schema
    return schemas


def chat_schema() -> Schema:
    """The body of a chat completion, as far as its fields are known here."""
    integer, flag = {"type": ["integer", "null"]}, {"type": ["boolean", "null"]}
    settings = _declared(SETTINGS)
    own = {
        "type": ["object", "null"],
        "description": "How the responses are verbalized; the server's defaults apply to omitted fields.",
        "properties": _declared(OWN_FIELDS),
        "additionalProperties": False,
    }
    properties: dict[str, Schema] = {
        "model": {"type": "string", "examples": ["smollm2:vs"]},
        "messages": _MESSAGES,
        "n": {**integer, "minimum": 1},
        "seed": integer,
        **{name: schema for name, schema in settings.items() if name not in OWN_FIELDS},
        "max_completion_tokens": settings["max_tokens"],
        "stop": {"anyOf": [_STOP, {"type": "array", "maxItems": MAX_STOPS, "items": _STOP}, {"type": "null"}]},
        "stream": flag,
        "stream_options": {"type": ["object", "null"]},
        "outspoken": own,
    }
    return _object(properties, ("model", "messages"))


def openapi_path(address: Address) -> str:
    """The path of an address in OpenAPI's form."""
    return _PARAMETER.sub(r"{\1}", address.path)


def _content(kind: Any) -> dict[str, object]:
    media = "text/plain" if kind is str else "application/json"
    return {media: {"schema": schema_of(kind)}}


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
    names = _PARAMETER.findall(address.path)
    if names:
        schema = {"schema": {"type": "string", "minLength": 1}}
        operation["parameters"] = [{"name": name, "in": "path", "required": True, **schema} for name in names]
    return operation


def document(addresses: Iterable[Address]) -> Schema:
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
