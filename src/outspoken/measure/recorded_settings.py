"""The settings of a recorded response: how its row says that it was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from outspoken.measure.response_rows import Row, has_value
from outspoken.parsing.numbers import number

__all__ = ["SETTINGS", "plain_value", "settings_of"]

SETTINGS = ("template", "k", "tau", "words", "temperature", "top_p", "settings")
"""The columns of settings, by which responses are grouped."""

_WHOLE = ("k", "words")
_NUMBERS = (*_WHOLE, "tau", "temperature", "top_p")


def settings_of(row: Row, by: Sequence[str] = ()) -> dict[str, object]:
    """The settings that a row names, and its values of the columns `by`, None where these are empty.

    Numbers are equal however a format writes them: 1, 1.0 and "1" are one temperature. The less usual settings, a
    JSON object in the column `settings`, appear under their own names.
    """
    found: dict[str, object] = {}
    for name in SETTINGS:
        value = row.get(name)
        if name == "settings" and (others := _object(value)) is not None:
            found |= {key: plain_value(each) for key, each in others.items() if has_value(each)}
        elif (plain := plain_value(value, name)) is not None:
            found[name] = plain
    return found | {name: plain_value(row.get(name), name) for name in by}


def plain_value(value: object, name: str = "") -> object:
    """The value of a column as JSON holds it, a number in a column of numbers; None where the cell is empty."""
    if not has_value(value):
        return None
    if name in _NUMBERS and not isinstance(value, bool):
        read, percent = number(value)
        if read is not None and not percent:
            return int(read) if name in _WHOLE and read.is_integer() else read
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) else str(value)


def _object(value: object) -> Mapping[str, object] | None:
    """The JSON object in the column `settings`, None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) else None
