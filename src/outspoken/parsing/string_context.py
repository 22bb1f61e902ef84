"""Whether a text continues the object, list or call around a string that may end there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from outspoken.parsing.field_names import TEXTS, WEIGHTS, plain
from outspoken.parsing.json_signs import (
    BLANK,
    CLOSERS,
    CLOSING_QUOTES,
    COMMAS,
    OPENERS,
    Key,
    is_known,
    key_at,
    weight_name,
)

__all__ = ["SEPARATOR", "Place", "Surroundings", "to_first_quote"]

_FIELDS = TEXTS.keys() | WEIGHTS.keys()
SEPARATOR = re.compile(rf"[{BLANK}]*+(?:([{COMMAS}])[{BLANK}]*+)*+")
_BLANKS = re.compile(rf"[{BLANK}]*+")
_BARE = re.compile(r"(?:[^,，،;}\]｝］)）\n\"]|[,，](?=\d))++")
_WORDS = re.compile(r"[^,，،;}\]｝］\n\"]++")
_FLAT = re.compile(r"[{\[(](?:[^{}\[\]()\"\n]++|\"[^\"\n]{0,400}+\")*+[}\])]")
_VALUE = re.compile(
    r"[\"'“„«「『＂{\[(｛［（\d.+-]|(?:true|false|null|none)\b|(?:new\s)?[^\W\d][\w.]{0,60}+\(", re.IGNORECASE
)
_NUMBER_THEN_END = re.compile(r"\s++[-+.\d]{1,20}+(?:[eE][-+]?\d{1,3})?\s?%?\s*+(?:[)\]}]|[,，]\s*+[\"'“])")
_NOTE = re.compile(r"[(（][^()（）\"\n]{0,60}+[)）]")
_NUMBER_IN_BRACKETS = re.compile(r"[(（]\s?[\d.,]{1,9}\s?%?\s?[)）]")
_CALL = re.compile(r"(?:new\s)?[^\W\d][\w.]{0,60}+\(")
_WORDS_BEFORE_BRACE = re.compile(r"[^\"'{}\[\]\n]{1,60}+\{")
_FENCE_END = re.compile(r"(?:```|~~~)\s*+(?:\n|\Z)")
_JOINT = re.compile(r"//|/\*|#|<!--|\+\s*+[\"'`]")
_PARTIAL_KEY = re.compile(r"[\"'“«「]?[\w $-]{0,60}+[\"'”»」]?\s*+\Z")
_ARGUMENT = re.compile(r"[^\W\d]\w{0,40}+\s?=")
_LEAST_WORK = 300_000


class Place(NamedTuple):
    """Where a string stands: in which part of what, which brackets would end that, and the first key around it."""

    role: str
    closers: Sequence[str]
    first: str | None = None
    keys: tuple[str, ...] | dict[str, object] = ()


@cache
def to_first_quote(quotes: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[^{quotes}\\]++|\\.)*+([{quotes}]|\\?\Z)", re.DOTALL)


class Surroundings:
    """What stands around the strings of one text.

    `work` is what reading the text may still cost, in microseconds of a usual machine. `bare_keys` is true if keys
    have no quotes.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.work = len(text) + _LEAST_WORK
        self.continues: dict[tuple[int, int], bool] = {}
        self.bare_keys = self.passed_known = False

    def follows(self, at: int, place: Place) -> bool:
        """Whether the text at `at` continues what is around a string that ends there."""
        role = place.role
        self.work -= 4
        if role == "value":
            return self.fields_follow(at, place)
        match = SEPARATOR.match(self.text, at)
        assert match is not None
        at = match.end()
        sign = self.text[at : at + 1]
        if role == "key":
            return match[1] is None and (
                sign in tuple(":：=＝-") or _NUMBER_THEN_END.match(self.text, match.start()) is not None
            )
        if not sign:
            return True
        if sign in CLOSERS:
            return self.closes(at, place)
        if match[1] is None:
            return _JOINT.match(self.text, at) is not None or self.lacks_comma(match)
        if role == "argument" and _ARGUMENT.match(self.text, at):
            return True
        return (_VALUE.match(self.text, at) or _JOINT.match(self.text, at)) is not None

    def lacks_comma(self, blanks: re.Match[str]) -> bool:
        """Whether the next value of a list follows without a comma: `"a" "b"`, `"a" (0.6)`."""
        text, at = self.text, blanks.end()
        if text[at] not in CLOSING_QUOTES:
            number = _NUMBER_IN_BRACKETS.match(text, at) or _NUMBER_THEN_END.match(text, blanks.start())
            return number is not None
        if "\n" in blanks[0]:
            return True
        apart = at > blanks.start() and not text[blanks.start() - 2 : blanks.start() - 1].isspace()
        return apart and not text[at + 1 : at + 2].isspace()

    def fields_follow(self, at: int, place: Place) -> bool:
        """Whether other fields follow, or the end of the object, up to a bracket or a known text."""
        passed: list[int] = []
        result: bool | int = at
        depth, sure = len(place.closers), False
        while type(result) is int:
            at = result
            if (before := self.continues.get((at, depth))) is not None:
                result = before
                break
            passed.append(at)
            self.work -= 5
            result = self.after_field(at, place, sure=sure, first=at == passed[0])
            sure |= self.passed_known
        for position in passed:
            self.continues[position, depth] = bool(result)
        return bool(result)

    def after_field(self, at: int, place: Place, *, sure: bool, first: bool) -> bool | int:
        """Whether the object continues or ends at `at`; the position after the next field if that does not say."""
        text = self.text
        match = SEPARATOR.match(text, at)
        assert match is not None
        at, sign = match.end(), text[match.end() : match.end() + 1]
        if not sign:
            return True
        if sign in CLOSERS:
            return self.closes(at, place, sure=sure)
        if sign in "{｛":
            return match[1] is not None and self.is_sibling(at, place.first)
        key = key_at(text, at)
        if key is None:
            if match[1] is not None and (note := _NOTE.match(text, at)) is not None:
                return note.end()
            return _PARTIAL_KEY.match(text, at) is not None or _JOINT.match(text, at) is not None
        known = is_known(key.name)
        unclear = key.repair == "missing-quote" or not known
        if match[1] is None and unclear and "\n" not in match[0] and (first or key.bare):
            return False
        if key.bare and not self.bare_keys and weight_name(key.name) is None:
            return False
        self.passed_known = plain(key.name) in _FIELDS
        return self.after_key(key, known)

    def after_key(self, key: Key, known: bool) -> bool | int:
        text = self.text
        at = _BLANKS.match(text, key.end).end()  # type: ignore[union-attr]
        sign = text[at : at + 1]
        if not sign:
            return True
        is_weight = weight_name(key.name) is not None
        if sign in CLOSING_QUOTES:
            if known and not is_weight:
                return True
            value = to_first_quote(CLOSING_QUOTES[sign]).match(text, at + 1)
        elif sign in OPENERS:
            value = _FLAT.match(text, at)
            if value is None:
                return True
        elif is_weight:
            value = _BARE.match(text, at)
        elif known:
            return True
        else:
            value = _WORDS.match(text, at)
        self.work -= (value.end() - at) // 100 if value is not None else 0
        return value.end() if value is not None else sign in CLOSERS or sign in COMMAS

    def is_sibling(self, at: int, first: str | None) -> bool:
        """Whether the bracket at `at` opens an object with the first key of the one before, or a known key."""
        inside = _BLANKS.match(self.text, at + 1).end()  # type: ignore[union-attr]
        key = key_at(self.text, inside)
        if key is None:
            sign = self.text[inside : inside + 1]
            return sign in tuple("{}[(") or _PARTIAL_KEY.match(self.text, inside) is not None
        return first is None or key.name == first or is_known(key.name)

    def closes(self, at: int, place: Place, *, sure: bool = False) -> bool:
        """Whether the closing brackets at `at` end what is open there, and something sensible follows.

        `sure` is true if a field with a known key was between the string and the brackets.
        """
        text, closers, depth = self.text, place.closers, len(place.closers)
        while True:
            kind, depth = CLOSERS[text[at]], depth - 1
            if closers[depth] != kind:
                depth = next((index for index in range(depth - 1, -1, -1) if closers[index] == kind), -1)
                if depth < 0:
                    return False
            match = SEPARATOR.match(text, at + 1)
            assert match is not None
            at = match.end()
            sign = text[at : at + 1]
            if not sign:
                return True
            if sign in "{｛":
                return sure or self.is_sibling(at, place.first)
            if depth == 0:
                return self.ends_value(match, sure=sure)
            if sign in CLOSERS:
                continue
            if sign in CLOSING_QUOTES:
                return key_at(text, at) is not None or _PARTIAL_KEY.match(text, at) is not None
            words = _WORDS_BEFORE_BRACE.match(text, at)
            if words is not None and self.is_sibling(words.end() - 1, place.first):
                return True
            if sure and _CALL.match(text, at):
                return True
            return match[1] is not None and bool(
                _VALUE.match(text, at) or key_at(text, at) or _JOINT.match(text, at)
            )

    def begins_entry(self, at: int) -> bool:
        """Whether the next entry of a list may begin here, such as a call, or with words before its bracket."""
        return (_CALL.match(self.text, at) or _WORDS_BEFORE_BRACE.match(self.text, at)) is not None

    def ends_value(self, blanks: re.Match[str], *, sure: bool) -> bool:
        """Whether the whole value ends before these blanks: what comes next is not the rest of a text."""
        text, at = self.text, blanks.end()
        if _FENCE_END.match(text, at) or (sure and self.begins_entry(at)):
            return True
        if "\n" in blanks[0]:
            return sure or not (text[at].isalnum() or text[at] in CLOSING_QUOTES)
        return sure if text[at] in CLOSERS else not (text[at].isalnum() or text[at] in CLOSING_QUOTES)
