"""JSON schemas of users: checked before anything is sent, and the function that validates a value.

A schema may be somebody else's. So nothing that it refers to is fetched, and one that could keep the validation
busy without end is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from outspoken.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from referencing import Registry
    from referencing._core import Resolved, Resolver

__all__ = ["validator"]

_MAX_SIZE = 200_000
_MAX_PARTS, _IN_WORK = 10_000, 0
_IN_PLACE = ("allOf", "anyOf", "oneOf")
_IN_PLACE_ONE = ("not", "if", "then", "else")
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


def validator(
    schema: type[BaseModel] | Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any] | None, Callable[[Any], Any] | None]:
    """The JSON schema of a candidate's value, and the function that validates a value or raises `ValueError`.

    Raises `UsageError` for what is no schema, a reference to another document or to nothing, one that leads back
    to itself, a schema that is too large to be checked, and a pattern that repeats a repetition.
    """
    if schema is None:
        return None, None
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return schema.model_json_schema(), schema.model_validate
    if not isinstance(schema, Mapping):
        raise UsageError("schema must be a pydantic model class or a JSON schema (a mapping)")
    from jsonschema import Draft202012Validator, SchemaError, ValidationError
    from referencing import Registry

    document, registry = dict(schema), Registry[Any]()
    try:
        if (size := len(json.dumps(document))) > _MAX_SIZE:
            raise UsageError(f"the schema has {size:,} characters of JSON: at most {_MAX_SIZE:,} are allowed")
        Draft202012Validator.check_schema(document)
        _Checked(registry).check(document)
    except SchemaError as error:
        raise UsageError(f"this is not a JSON schema: {error.message}") from error
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema is not JSON: {error}") from error
    except RecursionError as error:
        raise UsageError("the schema is nested too deeply to be checked: write it with fewer levels") from error
    checker = Draft202012Validator(document, registry=registry)

    def validate(value: Any) -> Any:
        try:
            checker.validate(value)
        except ValidationError as error:
            raise ValueError(error.message) from error
        except RecursionError as error:
            raise ValueError("the value is nested too deeply to be checked") from error
        return value

    return schema, validate


class _Checked:
    """The parts of a schema that were visited, each with the parts that are applied to the same value."""

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry
        self._applied: dict[int, list[int]] = {}
        self._sizes: dict[int, int] = {}

    def check(self, document: dict[str, Any]) -> None:
        from referencing.jsonschema import DRAFT202012

        waiting = [(document, self._registry.resolver_with_root(DRAFT202012.create_resource(document)))]
        while waiting:
            part, resolver = waiting.pop()
            if not isinstance(part, dict) or id(part) in self._applied:
                continue
            resource = DRAFT202012.create_resource(part)
            resolver = resolver.in_subresource(resource)
            waiting += [(inner.contents, resolver) for inner in resource.subresources()]
            targets = [_target(part[key], resolver) for key in ("$ref", "$dynamicRef") if key in part]
            waiting += [(target.contents, target.resolver) for target in targets]
            self._applied[id(part)] = [
                *(id(target.contents) for target in targets),
                *(id(inner) for inner in _applied_in_place(part)),
            ]
            _check_patterns([part.get("pattern", ""), *part.get("patternProperties", ())])
        for each in self._applied:
            self._size(each)

    def _size(self, part: int) -> int:
        """How many parts are applied to a value that this part is applied to."""
        if part not in self._applied:  # true or false
            return 1
        if part not in self._sizes:
            self._sizes[part] = _IN_WORK
            self._sizes[part] = 1 + sum(map(self._size, self._applied[part]))
        if self._sizes[part] == _IN_WORK:
            raise UsageError("a reference in the schema leads back to itself without end: remove the circle")
        if self._sizes[part] > _MAX_PARTS:
            raise UsageError(
                f"the schema applies more than {_MAX_PARTS:,} parts to one value: refer to each part once"
            )
        return self._sizes[part]


def _target(reference: str, resolver: Resolver[Any]) -> Resolved[Any]:
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(reference)
    except Unresolvable as error:
        reason = (
            "which is not in it: add it, or correct the reference"
            if reference.startswith("#")
            else "and references to other documents are not fetched: copy what it refers to into "
            '"$defs" of the schema, and refer to "#/$defs/NAME"'
        )
        raise UsageError(f"the schema refers to {reference!r}, {reason}") from error


def _applied_in_place(part: Mapping[str, Any]) -> Iterator[object]:
    """The direct subschemas that are applied to the same value as this one."""
    for key in _IN_PLACE:
        yield from part.get(key, ())
    for key in _IN_PLACE_ONE:
        if key in part:
            yield part[key]
    yield from part.get("dependentSchemas", {}).values()


def _check_patterns(patterns: Iterable[str]) -> None:
    for pattern in patterns:
        if _repeats_a_repetition(re._parser.parse(pattern)):  # type: ignore[attr-defined]
            raise UsageError(
                f"the pattern {pattern!r} repeats a repetition, which may take for ever on a long text: write it "
                "without one inside the other"
            )


def _repeats_a_repetition(items: Any) -> bool:
    """Whether something of a parsed pattern is repeated that is itself a repetition and nothing else, as `(a+)*`.

    Such a pattern can divide a text in exponentially many ways before it fails.
    """
    return any(
        (name in _REPEATS and _is_endless(argument) and _is_repetition(argument[2]))
        or any(map(_repeats_a_repetition, _bodies(name, argument)))
        for name, argument in _named(items)
    )


def _is_repetition(items: Any) -> bool:
    """Whether one of the ways to read this, without its optional parts, is an endless repetition alone."""
    entries = [entry for entry in _named(items) if entry[0] != "AT"]
    required = [(name, argument) for name, argument in entries if name not in _REPEATS or argument[0]]
    if not required:
        return any(name in _REPEATS and _is_endless(argument) for name, argument in entries)
    ((name, argument), *others) = required
    is_endless = name in _REPEATS and _is_endless(argument)
    return not others and (is_endless or any(map(_is_repetition, _bodies(name, argument))))


def _named(items: Any) -> list[tuple[str, Any]]:
    return [(str(operation), argument) for operation, argument in items]


def _is_endless(repeat: tuple[int, object, object]) -> bool:
    return str(repeat[1]) == "MAXREPEAT"


def _bodies(name: str, argument: Any) -> list[Any]:
    if name in _REPEATS:
        return [argument[2]]
    if name == "SUBPATTERN":
        return [argument[-1]]
    if name == "BRANCH":
        return list(argument[1])
    return [argument[1]] if name in ("ASSERT", "ASSERT_NOT") else []
