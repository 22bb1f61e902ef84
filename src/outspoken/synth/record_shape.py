"""The shape of a generated record: its JSON schema, and the field that says what it is about."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from outspoken.api import validator
from outspoken.errors import UnknownNameError, UsageError

__all__ = ["schema_of", "subject_of"]

# Also a word of JSON Schema.
_BOTH = ("examples",)


def schema_of(schema: str | Mapping[str, Any], names: tuple[str, ...], options: Collection[str]) -> Any:
    """The JSON schema of a record, None where it is text: from a file, a mapping, or the `names` of text fields.

    `options` are the step's: one that stands in the schema slipped below it in the TOML file. Raises `UsageError`.
    """
    if names:
        if schema:
            raise UsageError("schema and fields exclude each other: say one of them")
        if not all(name.isidentifier() for name in names):
            raise UsageError(f"fields must be names of letters, digits and _, not {list(names)!r}")
        properties = {name: {"type": "string", "minLength": 1} for name in names}
        return {
            "type": "object",
            "properties": properties,
            "required": list(names),
            "additionalProperties": False,
        }
    if not schema:
        return None
    found: Any = schema
    if isinstance(schema, str):
        try:
            found = json.loads(Path(schema).read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"the schema {schema} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("properties"), dict):
        raise UsageError("the schema of a record must be an object with properties")
    validator(found)
    for name in found:
        if name in options and name not in _BOTH:
            raise UsageError(f"{name} stands below the schema and became part of it: write it above [step.schema]")
    return found


def subject_of(schema: Mapping[str, Any] | None, text: str) -> str:
    """The field whose text is the record's: `text`, or the first that is text; "" where the record is text."""
    if schema is None:
        if text:
            raise UsageError("text names a field of a record: give its schema or fields too")
        return ""
    properties: Mapping[str, Any] = schema["properties"]
    if text and text not in properties:
        raise UnknownNameError("field for text", text, properties)
    kinds = {name: kind.get("type") for name, kind in properties.items() if isinstance(kind, dict)}
    found = text or next((name for name, kind in kinds.items() if kind == "string"), "")
    if not found:
        raise UsageError(
            'no field of the schema has the type string: name the one that counts with text = "FIELD"'
        )
    if found not in schema.get("required", ()):
        raise UsageError(
            f'the schema must require the field {found!r}, which is the record\'s text: required = ["{found}"]'
        )
    return found
