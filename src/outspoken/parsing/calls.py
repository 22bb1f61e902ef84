"""Objects of almost-JSON with their repairs, and what calls and constructors of Python stand for."""

from __future__ import annotations

from typing import Any

from outspoken.parsing.field_names import TEXTS, WEIGHTS, plain

__all__ = ["Fields", "called"]

_MAPPINGS = frozenset(
    ("dict", "ordereddict", "counter", "defaultdict", "mappingproxytype", "simplenamespace", "map")
)
_SEQUENCES = frozenset(
    ("list", "tuple", "set", "frozenset", "array", "deque", "sorted", "iter", "stringify", "dumps", "print")
)
_SCALARS = frozenset(
    ("decimal", "float", "int", "str", "string", "number", "float64", "float32", "double", "bool")
)


class Fields(dict[str, Any]):
    """The fields of an object, and the repairs that were needed to read them."""

    __slots__ = ("repairs",)

    def __init__(self) -> None:
        super().__init__()
        self.repairs: list[str] = []


def called(name: str, positional: list[Any], fields: Fields) -> Any:
    """The value of a call: a mapping, a sequence, a number, or the fields of the object that it makes."""
    short = name.replace("::", ".").rpartition(".")[2].lower()
    if short in _SCALARS and len(positional) == 1:
        return positional[0]
    if short == "fraction" and len(positional) == 2:
        return f"{positional[0]}/{positional[1]}"
    if short in _SEQUENCES and not fields:
        return positional[0] if len(positional) == 1 and isinstance(positional[0], (list, dict)) else positional
    if short in _MAPPINGS:
        for part in positional:
            pairs = part.items() if isinstance(part, dict) else part if isinstance(part, list) else ()
            fields.update(
                (str(pair[0]), pair[1]) for pair in pairs if isinstance(pair, (list, tuple)) and len(pair) == 2
            )
        return fields
    if len(positional) == 1 and isinstance(positional[0], (list, dict)) and not fields:
        return positional[0]
    _name_arguments(positional, fields)
    return fields


def _name_arguments(positional: list[Any], fields: Fields) -> None:
    """Give names to arguments without one: the first string is the text, the first number its probability."""
    names = {plain(name) for name in fields}
    objects = [argument for argument in positional if isinstance(argument, Fields)]
    if len(objects) > 1:
        # The calls after one whose bracket was not closed.
        fields["responses"] = objects
        positional = [argument for argument in positional if not isinstance(argument, Fields)]
    has_text, has_weight = not names.isdisjoint(TEXTS), not names.isdisjoint(WEIGHTS)
    for index, argument in enumerate(positional, 1):
        if isinstance(argument, str) and not has_text:
            fields["text"], has_text = argument, True
        elif isinstance(argument, (int, float)) and not isinstance(argument, bool) and not has_weight:
            fields["probability"], has_weight = argument, True
        elif isinstance(argument, (list, dict)) and "responses" not in fields:
            fields["responses"] = argument
        else:
            fields[f"argument_{index}"] = argument
