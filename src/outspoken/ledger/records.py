"""The rows of a ledger: replies, and the parts of outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from operator import add

__all__ = ["PartCounts", "PartRecord", "StoredReply"]


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One row: key, request in canonical JSON, reply in JSON, duration in seconds, Unix time of the reply."""

    key: str
    request: str
    reply: str
    seconds: float
    created: float


@dataclass(frozen=True, slots=True)
class PartCounts:
    """The figures of a part of an output: prompts that were asked, and how many of them `failed` or are `short` of
    responses; responses, and how many are distinct within their prompt; the replies that they were read from."""

    prompts: int = 0
    responses: int = 0
    distinct: int = 0
    short: int = 0
    replies: int = 0
    failed: int = 0

    def __add__(self, other: PartCounts) -> PartCounts:
        return PartCounts(*map(add, astuple(self), astuple(other)))

    @classmethod
    def of(cls, parts: Iterable[PartRecord]) -> PartCounts:
        """The sum of the figures of several parts."""
        return sum((part.counts for part in parts), cls())


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part of an output that was written.

    `digest` identifies the prompts and the settings that it was made from, `settings` the latter alone; `size` is
    that of its file in bytes. `complete` says that nothing in it is left to ask.
    """

    digest: str
    size: int
    complete: bool
    counts: PartCounts = PartCounts()
    settings: str = ""
