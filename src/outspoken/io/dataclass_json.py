"""Dataclasses as JSON values, and back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["finite", "from_json", "to_json"]

T = TypeVar("T")


def to_json(value: object, *, methods: bool = False) -> Any:
    """A dataclass as an object with a key for each field, a sequence as an array; other values unchanged.

    A field's metadata may name another key: `field(metadata={"key": "yield"})`. With `methods`, objects inside the
    value that have a method `to_dict` are converted by it.
    """

    def part(inner: object) -> Any:
        return inner.to_dict() if methods and hasattr(inner, "to_dict") else to_json(inner, methods=methods)

    if is_dataclass(value) and not isinstance(value, type):
        return {_key(entry): part(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): part(entry) for key, entry in value.items()}
    return [part(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def finite(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def from_json(kind: type[T], value: object) -> T:
    """The dataclass `kind` from what `to_json` returned.

    A missing key takes the field's default, an unknown key is ignored. Raises `ValueError` for a missing key
    without a default and for a value of the wrong type.
    """
    return cast(T, _read(kind, value, kind.__name__))


def _key(entry: Any) -> str:
    return str(entry.metadata.get("key", entry.name))


@cache
def _hints(kind: Hashable) -> Mapping[str, object]:
    return get_type_hints(kind)


def _read(kind: Any, value: object, place: str) -> object:
    """`value` converted to the type `kind`; `place` names it in errors."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (inner, *_) = [each for each in arguments if each is not NoneType]
        return _read(inner, value, place)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _read_dataclass(kind, value, place)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_read(arguments[0], entry, f"{place}[{at}]") for at, entry in enumerate(value))
    if origin is not None and isinstance(value, Mapping):
        return {str(key): _read(arguments[1], entry, f"{place}.{key}") for key, entry in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{place} is {value!r:.100}, not {getattr(kind, '__name__', kind)}")


def _read_dataclass(kind: Any, value: Mapping[object, object], place: str) -> object:
    values = {}
    for entry in fields(kind):
        key = _key(entry)
        if key in value:
            values[entry.name] = _read(_hints(kind)[entry.name], value[key], f"{place}.{key}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{place} has no {key}")
    return kind(**values)
