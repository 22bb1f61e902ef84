"""The shape of a generated record: its JSON schema, and the field that is its text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from outspoken.api import validator
from outspoken.errors import UnknownNameError, UsageError

__all__ = ["RecordSchema", "schema_of", "text_field_of"]

# Also a keyword of JSON Schema.
_AMBIGUOUS = ("examples",)


class RecordSchema(TypedDict):
    """The JSON schema of an object; it may have further keywords."""

    properties: dict[str, object]
    type: NotRequired[str]
    required: NotRequired[list[str]]
    additionalProperties: NotRequired[object]


def schema_of(
    schema: str | Mapping[str, object], names: tuple[str, ...], options: Collection[str]
) -> RecordSchema | None:
    """The JSON schema of a record from a file, a mapping, or `names` of text fields; None for records of text.

    `options` are the names of the step's options: one that is found in the schema was written below it in the TOML
    file by mistake. Raises `UsageError` for an invalid schema.
    """
    if names:
        if schema:
            raise UsageError("schema and fields exclude each other: give one of them")
        if not all(name.isidentifier() for name in names):
            raise UsageError(f"fields must be names of letters, digits and _, not {list(names)!r}")
        return {
            "type": "object",
            "properties": {name: {"type": "string", "minLength": 1} for name in names},
            "required": list(names),
            "additionalProperties": False,
        }
    if not schema:
        return None
    loaded: object = schema
    if isinstance(schema, str):
        try:
            loaded = json.loads(Path(schema).read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"the schema {schema} cannot be read: {error}") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("properties"), dict):
        raise UsageError("the schema of a record must be an object with properties")
    validator(loaded)
    for name in loaded:
        if name in options and name not in _AMBIGUOUS:
            raise UsageError(f"{name} stands below the schema and became part of it: write it above [step.schema]")
    return cast(RecordSchema, loaded)


def text_field_of(schema: RecordSchema | None, wanted: str) -> str:
    """The field that is the record's text: `wanted`, or the first that is text; "" for records that are text."""
    if schema is None:
        if wanted:
            raise UsageError("text names a field of a record: give its schema or fields too")
        return ""
    properties = schema["properties"]
    if wanted and wanted not in properties:
        raise UnknownNameError("field for text", wanted, properties)
    types = {name: kind.get("type") for name, kind in properties.items() if isinstance(kind, dict)}
    name = wanted or next((name for name, kind in types.items() if kind == "string"), "")
    if not name:
        raise UsageError('no field of the schema has the type string: name the right field with text = "FIELD"')
    if name not in schema.get("required", ()):
        raise UsageError(
            f'the schema must require the field {name!r}, which is the record\'s text: required = ["{name}"]'
        )
    return name
