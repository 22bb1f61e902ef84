"""The fields of a record, and templates that are filled with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from outspoken.errors import UnknownNameError

__all__ = ["fields_of", "fill", "names_in"]

_NAME = r"[^\W\d]\w*"
_FIELD = re.compile(
    rf"\{{\{{\{{(?P<braced>{_NAME})\}}\}}\}}|\{{\{{(?P<literal>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}"
)


def fields_of(row: Mapping[str, object]) -> dict[str, object]:
    """The fields of a record by name: its columns, and the fields of its `value` if that is a JSON object."""
    value = row.get("value")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    columns = {name: entry for name, entry in row.items() if name != "value"}
    return {**value, **columns} if isinstance(value, dict) else columns


def fill(template: str, fields: Mapping[str, object]) -> str:
    """The template with `{name}` replaced by that field. As in Python's formats `{{name}}` gives `{name}` itself,
    and `{{{name}}}` the field in braces. Other braces stay as they are.

    Raises `UnknownNameError` for a name that is not a field.
    """

    def replacement(match: re.Match[str]) -> str:
        if match["literal"]:
            return f"{{{match['literal']}}}"
        name = match["name"] or match["braced"]
        if name not in fields:
            raise UnknownNameError("field in a template", name, fields, see=f"write {{{{{name}}}}} for braces")
        value = fields[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return f"{{{text}}}" if match["braced"] else text

    return _FIELD.sub(replacement, template)


def names_in(template: str) -> set[str]:
    """The names of the fields in a template."""
    names = (match["name"] or match["braced"] for match in _FIELD.finditer(template))
    return {name for name in names if name}
