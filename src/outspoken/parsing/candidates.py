"""Candidates as read from a reply, and their stated probabilities.

Readers fill a `CandidateList` with weights as written; `stated_probabilities` converts those of a whole reply.
`outspoken.distribution.weights_from_stated` computes the weights for drawing, which sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from outspoken.candidate import Verbalized
from outspoken.parsing.field_names import WEIGHTS, plain
from outspoken.parsing.numbers import number, number_or_text
from outspoken.reply_shape import ReplyShape

__all__ = [
    "REPAIRS",
    "CandidateList",
    "ParsedReply",
    "RawCandidate",
    "stated_probabilities",
]

REPAIRS: Mapping[str, str] = MappingProxyType(
    {
        "as-list": "the candidates were lines of text, numbered, bulleted or labelled",
        "as-mapping": "the candidates were the keys of one object",
        "as-pairs": "the candidates were pairs of text and probability",
        "as-columns": "texts and probabilities were in two lists",
        "as-records": "the candidates were records of fields, as in YAML or TOML",
        "as-table": "the candidates were rows of a table",
        "as-xml": "the candidates were XML elements",
        "bad-escape": "a backslash that begins no valid escape",
        "comment": "comments inside JSON",
        "decoded": "JSON inside a string",
        "draft": "a draft before the answer that replaces it was left out",
        "empty": "a candidate without text was left out",
        "fenced": "a Markdown code fence around the candidates",
        "guessed": "a damaged part was read by guessing",
        "end-token": "a special token of the model's chat format was removed",
        "in-reasoning": "the provider delivered the answer in its field for reasoning",
        "in-tool-call": "the provider delivered the answer as arguments of a tool",
        "inner-quotes": "quotes inside a text were not escaped",
        "missing-brace": "an opening or closing bracket was missing",
        "missing-comma": "a comma or a colon was missing",
        "missing-quote": "a quote around a text was missing or of another kind",
        "numbered-keys": "the candidates were numbered fields of one object",
        "odd-marker": "the number or label before the candidate was missing or damaged",
        "odd-tags": "tags were written with other marks than < and >",
        "percent": "the probability was a percentage",
        "prefixed": "text before the candidates",
        "placeholder": "a template that was written before the answer was left out",
        "python-literal": "the quotes, constants, tuples or calls of Python or another language instead of JSON",
        "raw-newline": "a line break or other control character inside a string",
        "section": "a title or a part between the candidates was left out",
        "several": "the candidates came in several parts",
        "skipped": "signs or words between the candidates were left out",
        "smart-quotes": "typographic quotes as delimiters",
        "suffixed": "text after the candidates",
        "surrogate": "half a surrogate pair, replaced by U+FFFD",
        "text-probability": "the probability was written as text",
        "think-block": "a block of reasoning was removed",
        "too-long": "the reply has more than 10,000 lines of text, and those after them were not read",
        "total": "a total of the probabilities was left out",
        "trailing-comma": "a comma too many",
        "truncated": "the reply was cut off; on a candidate: its text was cut off",
        "unclosed-think": "a block of reasoning that never ends",
        "unclosed": "the reply was cut off after the candidate's text",
        "unmarked": "the candidates had no marks: each is the text above its probability",
        "unread": "a part of the reply that may hold a candidate could not be read",
        "unquoted": "a key or value without quotes",
        "unreadable-probability": "the stated probability could not be read and counts as missing",
        "weights": "the numbers were weights, divided by their sum",
        "wrong-key": "the candidate's text or probability was under another key than requested",
    }
)
"""Every repair that can be recorded for a reply or a candidate, and its meaning."""


class ParsedReply(NamedTuple):
    """The candidates of one reply in their order, the reasoning before them, and the repairs of the reply.

    The repairs of one candidate are recorded with it. `REPAIRS` explains every name.
    """

    candidates: tuple[Verbalized, ...]
    reasoning: str = ""
    repairs: tuple[str, ...] = ()


@dataclass(slots=True)
class RawCandidate:
    """A candidate with its weight as written: `weight` under the key `key` (None if it has no label)."""

    text: str
    weight: object = None
    key: str | None = None
    stated: bool = False
    value: object = None
    repairs: list[str] = field(default_factory=list)
    meta: dict[str, object] = field(default_factory=dict)

    def state(self, written: str, key: str | None) -> None:
        self.weight, self.key, self.stated = number_or_text(written), key, True


@dataclass(slots=True)
class CandidateList:
    """The candidates read so far from a reply of the requested shape.

    `list_seen` is true if a list was read, even an empty one.
    """

    shape: ReplyShape | None = None
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


def stated_probabilities(items: Sequence[RawCandidate], shape: ReplyShape | None) -> tuple[Verbalized, ...]:
    """The candidates with their stated probabilities, read from the weights as written.

    The whole set decides the meaning of numbers without a scale, see `_decide_scale`.
    """
    numbers = [_read(item, shape) for item in items]
    _decide_scale([each for each in numbers if each.scale == "probability" and each.value is not None])
    return tuple(_verbalized(item, each) for item, each in zip(items, numbers, strict=True))


@dataclass(slots=True)
class _Number:
    """One number, its scale ("none" without a number), and the repairs that were needed to read it."""

    value: float | None
    scale: str
    repairs: tuple[str, ...] = ()


def _read(item: RawCandidate, shape: ReplyShape | None) -> _Number:
    if not item.stated:
        return _Number(None, "none")
    value, percent = number(item.weight)
    if value is None:
        return _Number(None, "none", ("unreadable-probability",))
    repairs = ("text-probability",) if isinstance(item.weight, str) and item.key is not None else ()
    if percent:
        return _Number(value, "percent", repairs)
    if shape is not None and (item.key is None or item.key == shape.weight):
        return _Number(value, shape.scale, repairs)
    return _Number(value, WEIGHTS.get(plain(item.key or ""), "probability"), repairs)


def _decide_scale(numbers: Sequence[_Number]) -> None:
    """Decide the meaning of numbers above 1.

    Among fractions below 1 they are mistakes: percents up to 100, unreadable above. If all numbers are 0 or at
    least 1 they share a unit: percents if the largest is above 10 and at most 100, otherwise weights to be divided
    by their sum; a single one is a percent.
    """
    values = [parsed.value or 0.0 for parsed in numbers]
    if not values or max(values) <= 1:
        return
    common = all(value == 0 or value >= 1 for value in values)
    positive = [value for value in values if value > 0]
    weights = common and len(positive) > 1 and not 10 < max(values) <= 100
    total = math.fsum(positive) if weights else 0.0
    for parsed, value in zip(numbers, values, strict=True):
        if value < 0:
            continue
        if weights:
            parsed.value = value / total
            parsed.repairs += ("weights",)
        elif value > 100:
            parsed.value = None
            parsed.repairs += ("unreadable-probability",)
        elif value > 1 or (common and value):
            parsed.scale = "percent"


def _verbalized(item: RawCandidate, parsed: _Number) -> Verbalized:
    stated, log, repairs = _probability(parsed)
    named = dict.fromkeys((*item.repairs, *parsed.repairs, *repairs))
    if stated is None:
        named.pop("text-probability", None)
    return Verbalized(item.text, stated, log, tuple(named), item.value, item.meta)


def _probability(parsed: _Number) -> tuple[float | None, float | None, tuple[str, ...]]:
    """The probability for a number on its scale, its logarithm, and the repairs."""
    value, scale = parsed.value, parsed.scale
    if value is None:
        return None, None, ()
    if scale in ("nll", "logprob"):
        log = -value if scale == "nll" else value
        if log <= 0:
            return math.exp(log), log + 0.0, ()
    elif scale == "perplexity":
        if value >= 1:
            return 1 / value, -math.log(value) + 0.0, ()
    else:
        share = value / 100 if scale == "percent" else value
        if 0 <= share <= 1:
            repairs = ("percent",) if scale == "percent" else ()
            return share + 0.0, math.log(share) if share else -math.inf, repairs
    return None, None, ("unreadable-probability",)
