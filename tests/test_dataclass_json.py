"""Dataclasses as JSON values, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from outspoken.io.dataclass_json import from_json, to_json

pytestmark = pytest.mark.core


@dataclass(frozen=True)
class Inner:
    name: str
    share: float | None = field(default=None, metadata={"key": "yield"})


@dataclass(frozen=True)
class Outer:
    number: int
    inner: Inner
    others: tuple[Inner, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    anything: Mapping[str, object] = field(default_factory=dict)


def test_a_dataclass_survives_json() -> None:
    outer = Outer(3, Inner("茶", 0.5), (Inner("a"), Inner("b", 1.0)), {"x": 1}, {"list": [1, {"y": None}]})
    document = to_json(outer)
    assert document["inner"] == {"name": "茶", "yield": 0.5}
    assert from_json(Outer, json.loads(json.dumps(document))) == outer


def test_missing_keys_take_defaults_and_unknown_ones_are_ignored() -> None:
    read = from_json(Outer, {"number": 1, "inner": {"name": "a", "yield": 1, "more": 2}, "more": []})
    assert read == Outer(1, Inner("a", 1.0))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], r"Outer is \[1\]"),
        ({"number": 1}, "Outer has no inner"),
        ({"number": True, "inner": {"name": "a"}}, "Outer.number is True"),
        ({"number": 1, "inner": {"name": None}}, "Outer.inner.name is None"),
        ({"number": 1, "inner": {"name": "a", "yield": "x"}}, "Outer.inner.yield is 'x'"),
        ({"number": 1, "inner": {"name": "a"}, "others": [{}]}, r"Outer.others\[0\] has no name"),
        ({"number": 1, "inner": {"name": "a"}, "counts": {"x": 0.5}}, "Outer.counts.x is 0.5"),
    ],
)
def test_other_values_are_refused(document: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Outer, document)
