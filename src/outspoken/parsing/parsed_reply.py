"""The result of parsing a reply, the names of all repairs, and the list that the readers fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from outspoken.distribution import Verbalized

__all__ = ["REPAIRS", "CandidateList", "ParsedReply", "RawCandidate"]

REPAIRS: Mapping[str, str] = MappingProxyType(
    {
        "as-list": "the candidates were lines of text, numbered, bulleted or labelled",
        "as-mapping": "the candidates were the keys of one object",
        "as-pairs": "the candidates were pairs of text and probability",
        "as-columns": "texts and probabilities were in two lists",
        "as-table": "the candidates were rows of a table",
        "as-xml": "the candidates were XML elements",
        "bad-escape": "a backslash that begins no valid escape",
        "comment": "comments inside JSON",
        "decoded": "JSON inside a string",
        "empty": "a candidate without text was left out",
        "fenced": "a Markdown code fence around the candidates",
        "guessed": "broken JSON was repaired by guessing",
        "inner-quotes": "quotes inside a text were not escaped",
        "missing-brace": "an opening or closing bracket was missing",
        "missing-comma": "a comma was missing",
        "percent": "the probability was a percentage",
        "prefixed": "text before the candidates",
        "python-literal": "Python's quotes, constants or tuples instead of JSON",
        "raw-newline": "a line break or other control character inside a string",
        "several": "the candidates came in several parts",
        "smart-quotes": "typographic quotes as delimiters",
        "suffixed": "text after the candidates",
        "surrogate": "half a surrogate pair, replaced by U+FFFD",
        "text-probability": "the probability was written as text",
        "think-block": "a block of reasoning was removed",
        "trailing-comma": "a comma too many",
        "truncated": "the reply was cut off; on a candidate: its text was cut off",
        "unclosed-think": "a block of reasoning that never ends",
        "unclosed": "the reply was cut off after the candidate's text",
        "unquoted": "a key or value without quotes",
        "unreadable-probability": "the stated probability could not be read and counts as missing",
        "weights": "the numbers were weights, divided by their sum",
        "wrong-key": "the candidate's text or probability was under another key than requested",
    }
)
"""Every repair that can be recorded, on a reply or on a candidate, and what it means."""


class ParsedReply(NamedTuple):
    """The candidates of one reply in their order, the reasoning before them, and the repairs of the reply.

    Repairs of one candidate are recorded on that candidate. `REPAIRS` explains every name.
    """

    candidates: tuple[Verbalized, ...]
    reasoning: str = ""
    repairs: tuple[str, ...] = ()


@dataclass(slots=True)
class RawCandidate:
    """A candidate whose weight is as written: `weight` under the key `key` (None if it has no label)."""

    text: str
    weight: object = None
    key: str | None = None
    stated: bool = False
    value: object = None
    repairs: list[str] = field(default_factory=list)
    meta: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class CandidateList:
    """The candidates read so far. `list_seen` is true if a list was read, even an empty one."""

    items: list[RawCandidate] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    list_seen: bool = False

    def add(self, item: RawCandidate) -> None:
        """Add a candidate, unless it has no text."""
        if item.text:
            self.items.append(item)
        else:
            self.repairs.append("empty")

    def extend(self, other: CandidateList) -> None:
        self.items += other.items
        self.reasoning += other.reasoning
        self.repairs += other.repairs
        self.list_seen |= other.list_seen
