"""Which of the JSON values in a reply are its answer: not a template, not a draft that a later one replaces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.numbers import number

__all__ = ["Document", "is_template", "may_be_placeholder", "the_answer"]

_TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
_SHOWN = r"<[^<>]{1,120}>|\.{3}|…+|\{\{?[\w .-]{1,80}\}?\}|(?:Array|List|list)[<\[].{0,80}"
_PLACEHOLDER = re.compile(
    rf"{_SHOWN}|\[[\d ./-]*+[^\W\d][\w ./-]{{0,120}}\]|(?:str|string|text|float|number|int|any)\b.{{0,20}}"
    r"|(?:the|your|an?|first|second|third|next|another) (?:response|answer|candidate|completion|text|option)"
    r"(?: text| here| goes here)?|(?:response|answer|candidate|text|option)(?: text| here| goes here| \d| [A-Z])",
    re.IGNORECASE,
)
_CERTAIN_PLACEHOLDER = re.compile(rf"{_SHOWN}|(?:str|string)\b.{{0,20}}")
_FENCES = re.compile(r"(?:```+|~~~+)[\w+.-]{0,20}")
_CONTINUES = re.compile(
    r"\b(?:part|continu\w*|remaining|additional|further|batch|half|teil|weitere\w*|suite|parte|другие|часть|далее)\b"
    r"|\b\d\s?(?:/|of)\s?\d\b|另外|继续|繼續|部分|続き|残り|계속",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“”][^\"“”\n]*[\"“”]")
_WORD = re.compile(r"[^\W\d_]{2,}|\d\s*+[}\])]")


class Document(NamedTuple):
    """One JSON value, its span in the text, and the candidates in it."""

    start: int
    end: int
    value: Any
    read: CandidateList

    @property
    def is_entry(self) -> bool:
        """Whether the value is one candidate, and not a list of them."""
        if not isinstance(self.value, dict) or len(self.read.items) != 1:
            return False
        return not any(isinstance(part, (list, dict)) and part for part in self.value.values())


def the_answer(documents: list[Document], text: str, into: CandidateList, *, last_only: bool) -> list[Document]:
    """The documents whose candidates count; what is left out is named in `into.repairs`."""
    kept = _without_templates(documents, into)
    answer: list[Document] = []
    seen = _Seen()
    for document in kept:
        if answer and (last_only or _replaces(document, answer, seen, text, into)):
            if _is_cut_early(document):
                into.repairs += ["draft", "truncated"]
                continue
            answer, seen = [], _Seen()
            into.repairs.append("draft")
        answer.append(document)
        seen.add(document.read.items)
    for one, other in pairwise(answer):
        if _WORD.search(_between(one, other, text)):
            into.repairs.append("skipped")
            break
    return answer


def _between(one: Document, other: Document, text: str) -> str:
    return _FENCES.sub(" ", text[one.end : other.start])


def _without_templates(documents: list[Document], into: CandidateList) -> list[Document]:
    """The documents with candidates, without those that only describe or show what an answer looks like."""
    with_items = [each for each in documents if each.read.items]
    answers = [each for each in with_items if not _is_schema(each.value)]
    shown = [each for each in answers if not _is_example(each.read.items, _PLACEHOLDER)]
    if not shown:
        shown = [each for each in answers if not _is_example(each.read.items, _CERTAIN_PLACEHOLDER)]
    if len(shown) < len(answers) or any(_is_schema(each.value) for each in documents):
        into.repairs.append("placeholder")
    return shown


def is_template(value: object, items: Sequence[RawCandidate]) -> bool:
    """Whether a value only describes an answer or shows what it would look like."""
    return _is_schema(value) or (bool(items) and _is_example(items, _CERTAIN_PLACEHOLDER))


def may_be_placeholder(text: str) -> bool:
    """Whether a text may only say what belongs in its place."""
    return _PLACEHOLDER.fullmatch(text) is not None


def _is_schema(value: object) -> bool:
    """Whether a value is a JSON schema, or the description of a function with one."""
    if not isinstance(value, Mapping):
        return False
    properties = value.get("properties")
    if (
        isinstance(properties, Mapping)
        and properties
        and all(isinstance(p, (Mapping, bool)) for p in properties.values())
    ):
        return True
    if str(value.get("type")) in _TYPES and not value.keys().isdisjoint(
        ("items", "required", "additionalProperties")
    ):
        return True
    return any(
        _is_schema(value.get(key)) for key in ("schema", "json_schema", "parameters", "function", "input_schema")
    )


def _is_example(items: Sequence[RawCandidate], pattern: re.Pattern[str]) -> bool:
    """Whether all candidates are placeholders, and no number is stated with those of which that is not certain."""
    certain = pattern is _CERTAIN_PLACEHOLDER
    return all(
        pattern.fullmatch(item.text) is not None and not (certain and number(item.weight)[0] is not None)
        for item in items
    )


@dataclass(slots=True)
class _Seen:
    """The texts of candidates, and the sum of their stated probabilities."""

    texts: set[str] = field(default_factory=set)
    count: int = 0
    unread: int = 0
    percents: float = 0.0
    others: float = 0.0
    largest: float = 0.0

    def add(self, items: Sequence[RawCandidate]) -> None:
        for item in items:
            value, percent = number(item.weight)
            self.texts.add(item.text)
            self.count += 1
            self.unread += value is None
            self.percents += (value or 0.0) if percent else 0.0
            self.others += 0.0 if percent else (value or 0.0)
            self.largest = max(self.largest, value or 0.0)

    @property
    def is_whole(self) -> bool:
        """Whether the stated probabilities of several candidates sum to 1."""
        total = self.percents / 100 + self.others / (100 if self.largest > 1 else 1)
        return self.count > 1 and not self.unread and 0.95 <= total <= 1.05


def _replaces(document: Document, answer: Sequence[Document], seen: _Seen, text: str, into: CandidateList) -> bool:
    """Whether a document replaces the answer so far, and does not continue it."""
    # Imported here: the patterns of running text take long to build, and most replies have one value.
    from outspoken.parsing.prose import replaces

    between = _between(answer[-1], document, text)
    continues = _CONTINUES.search(between) is not None
    if replaces(_QUOTED.sub("", between)) and not continues:
        return True
    items = document.read.items
    if document.is_entry:
        return seen.count > 1 and items[0].text == answer[0].read.items[0].text
    if sum(item.text in seen.texts for item in items) * 2 >= len(items):
        return True
    shape = into.shape
    if shape is not None and shape.k > 1 and len(items) == shape.k == seen.count:
        return True
    if continues or not seen.is_whole:
        return False
    own = _Seen()
    own.add(items)
    return own.is_whole


def _is_cut_early(document: Document) -> bool:
    """Whether a document was cut off before its first whole candidate."""
    items = document.read.items
    return len(items) == 1 and not {"truncated", "unclosed"}.isdisjoint(items[0].repairs)
