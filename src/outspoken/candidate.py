"""One response: as read from a reply, and with its weight in a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["NO_META", "Candidate", "Verbalized"]

NO_META: Mapping[str, object] = MappingProxyType({})


class Verbalized(NamedTuple):
    """A candidate as read from a reply, before it has a weight among the others.

    `log_stated` is the natural logarithm of `stated`, kept because the negative log-likelihood of a long text
    underflows as a probability. Both are None if nothing readable was stated. `value` is the JSON value of a
    structured candidate.
    """

    text: str
    stated: float | None = None
    log_stated: float | None = None
    repairs: tuple[str, ...] = ()
    value: Any = None
    meta: Mapping[str, object] = NO_META

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self[:-1], dict(self.meta))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response: `probability` is its weight for drawing, `stated` the model's stated probability, if any.

    `repairs` names what was repaired while reading it; `value` is the validated value of a structured candidate.
    """

    text: str
    probability: float
    stated: float | None = None
    repairs: tuple[str, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict, hash=False)
    value: Any = field(default=None, hash=False)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "text": self.text,
            "probability": self.probability,
            "stated": self.stated,
            "repairs": list(self.repairs),
        }
        if self.meta:
            entry["meta"] = dict(self.meta)
        if self.value is not None:
            dump = getattr(self.value, "model_dump", None)
            entry["value"] = dump(mode="json") if dump is not None else self.value
        return entry

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Candidate:
        return cls(
            entry["text"],
            entry["probability"],
            entry.get("stated"),
            tuple(entry.get("repairs", ())),
            dict(entry.get("meta", {})),
            entry.get("value"),
        )
