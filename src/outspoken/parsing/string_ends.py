"""Where a string of damaged JSON ends: quotes inside a text may be unescaped, and the last one may be missing.

A quote ends a string if what follows it continues the object, list or call around it. That is looked up in the
text after the quote, to the next bracket; JSON inside a text does not continue the object around it.
"""

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

__all__ = ["Place", "StringEnd", "StringEnds"]

_LEAST_WORK = 300_000
_FIELDS = TEXTS.keys() | WEIGHTS.keys()
_SEPARATOR = re.compile(rf"[{BLANK}]*+(?:([{COMMAS}])[{BLANK}]*+)?")
_QUOTE = re.compile("[\"'“”‘’«»「」]")
_BLANKS = re.compile(rf"[{BLANK}]*+")
_BARE = re.compile(r"(?:[^,，،;}\]｝］)）\n\"]|[,，](?=\d))++")
_WORDS = re.compile(r"[^,，،;}\]｝］\n\"]++")
_FLAT = re.compile(r"[{\[(](?:[^{}\[\]()\"\n]++|\"[^\"\n]{0,400}+\")*+[}\])]")
_VALUE = re.compile(
    r"[\"'“„«「『＂{\[(｛［（\d.+-]|(?:true|false|null|none)\b|(?:new\s)?[^\W\d][\w.]{0,60}+\(", re.IGNORECASE
)
_NUMBER_AND_END = re.compile(r"\s*+[,，]\s*+[-+.\d]{1,20}+(?:[eE][-+]?\d{1,3})?\s?%?\s*+[)\]]")
_ENTRY_END = re.compile(r"\s*+[:：]\s*+[-+.\d]{1,20}+(?:[eE][-+]?\d{1,3})?\s?%?\s*+\}[\s,]*+\{")
_NOTE = re.compile(r"[(（][^()（）\"\n]{0,60}+[)）]")
_NUMBER_IN_BRACKETS = re.compile(r"[(（]\s?[\d.,]{1,9}\s?%?\s?[)）]")
_WORDS_BEFORE_BRACE = re.compile(r"[^\"'{}\[\]\n]{1,60}+\{")
_FENCE_END = re.compile(r"(?:```|~~~)\s*+(?:\n|\Z)")
_JOINT = re.compile(r"//|/\*|#|<!--|\+\s*+[\"'`]")
_NEXT_PART = re.compile(r"[^\S\n]*+(?:\n\s*+|\+\s*+)[rbfu]?[\"'`]")
_NEXT_PART_IN_CALL = re.compile(r"\s++[rbfu]?[\"'`]")
_PARTIAL_KEY = re.compile(r"[\"'“«「]?[\w $-]{0,60}+[\"'”»」]?\s*+\Z")
_ARGUMENT = re.compile(r"[^\W\d]\w{0,40}+\s?=")


class Place(NamedTuple):
    """Where a string stands: in which part of what, which brackets would end that, and the first key around it."""

    role: str
    closers: Sequence[str]
    first: str | None = None
    keys: tuple[str, ...] | dict[str, object] = ()


class StringEnd(NamedTuple):
    """The end of a string's inside, the position after it, and what was wrong: "", or the name of a repair.

    It is "truncated" if the text ends first.
    """

    end: int
    after: int
    repair: str = ""


@cache
def _first(quotes: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[^{quotes}\\]++|\\.)*+([{quotes}]|\\?\Z)", re.DOTALL)


@cache
def _scan(quotes: str, role: str) -> re.Pattern[str]:
    """Escapes, quotes that something may follow, and keys before which a quote may be missing."""
    after = ":：=＝" if role == "key" else rf"{COMMAS}}}\]）｝］）/#+\"'“”‘„«»「『`{{｛"
    key = (
        r"(?:[,，{｛]["
        + BLANK
        + r"]*+|\n[^\S\n]*+)[\"'“‘«「]?(?P<name>[^\W\d][\w -]{0,40}+)[\"'”’»」]?\s{0,9}[:：]"
    )
    return re.compile(
        rf"(?:\\.)++|(?P<quote>[{quotes}])(?=[{BLANK}]*+(?:[{after})]|\Z)|[^\S\n]*+\n)|(?P<key>{key})"
        r"|(?P<other>[\"'”])(?=\s*+[,，}\])])",
        re.DOTALL,
    )


@cache
def _weak(quotes: str) -> re.Pattern[str]:
    """Quotes before a closing bracket or a key, whatever follows those."""
    key = rf"[{COMMAS}]?[{BLANK}]*+[\"'“「]?([^\W\d][\w -]{{0,40}}+)[\"'”」]?\s{{0,9}}[:：]"
    word = rf"[{COMMAS}]\s*+([^\W\d]\w{{0,40}}+)\b"
    return re.compile(rf"(?:\\.)++|[{quotes}](?=[{BLANK}]*+(?:[}}\]｝］]|{key}|{word}))", re.DOTALL)


class StringEnds:
    """Finds the ends of the strings of one text.

    `work` is what reading the text may still cost, in microseconds of a usual machine; without any, strings end at
    their first quote, and what follows is not read. `reached` is the position up to which the last value was read,
    and `too_deep` whether it was nested too deeply.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.work = len(text) + _LEAST_WORK
        self.continues: dict[tuple[int, int], bool] = {}
        self.bare_keys = self.passed_known = False
        self.reached = 0
        self.too_deep = False

    def find(self, start: int, quotes: str, place: Place) -> StringEnd:
        """The end of the string whose inside begins at `start` and which one of `quotes` closes."""
        match = _first(quotes).match(self.text, start)
        assert match is not None
        closed = bool(match[1]) and match[1] != "\\"
        if closed and self.follows(match.end(), place):
            return self.key_end(start, match) if place.role == "key" else StringEnd(match.end() - 1, match.end())
        if closed and place.role != "key" and self.joins(match.end(), place):
            return StringEnd(match.end() - 1, match.end())
        if self.work > 0:
            if place.role != "key":
                return self.search(start, quotes, place)
            if (end := self.search_key(match.end(), quotes, place)) is not None:
                return end
        return StringEnd(match.end() - 1, match.end()) if closed else self.truncated(match.end())

    def joins(self, at: int, place: Place) -> bool:
        """Whether a string follows that is joined to the one before it."""
        if place.closers and place.closers[-1] == ")":
            part = _NEXT_PART_IN_CALL.match(self.text, at)
        else:
            part = _NEXT_PART.match(self.text, at) if place.role == "value" else None
        return part is not None and key_at(self.text, part.end() - 1) is None

    def key_end(self, start: int, match: re.Match[str]) -> StringEnd:
        """The end of a key that is a text: it holds no other field, whose quote would then be missing."""
        end = match.end() - 1
        missing = _ENTRY_END.search(self.text, start, end) if self.text.find("}", start, end) >= 0 else None
        if missing is None:
            return StringEnd(end, match.end())
        return StringEnd(missing.start(), missing.start(), "missing-quote")

    def truncated(self, end: int) -> StringEnd:
        return StringEnd(end, end, "truncated")

    def search_key(self, position: int, quotes: str, place: Place) -> StringEnd | None:
        for match in _scan(quotes, "key").finditer(self.text, position):
            self.work -= 2
            if match["quote"] and self.follows(match.end(), place):
                return StringEnd(match.start(), match.end(), "inner-quotes")
            if match["key"] and match[0][0] != "\n":
                break
        return None

    def search(self, start: int, quotes: str, place: Place) -> StringEnd:
        """The first quote that what follows confirms; failing that, the likeliest before the next candidate."""
        text, limit = self.text, len(self.text)
        inner: StringEnd | None = None
        for match in _scan(quotes, place.role).finditer(text, start):
            self.work -= 2
            if match["quote"]:
                if not self.follows(match.end(), place):
                    continue
                end = StringEnd(match.start(), match.end(), self.inner_quotes(start, match))
                if place.role == "value" or not self.ends_quotation(start, match):
                    return end
                inner = inner or end
            elif match["other"]:
                if match["other"] not in quotes and self.confirms(match, place):
                    return StringEnd(match.start(), match.end(), "missing-quote")
            elif match["key"]:
                if match[0][0] in "{｛":
                    if self.begins_candidate(match.start(), match["name"], place):
                        limit = match.start()
                        break
                elif place.role == "value" and self.lacks_quote(match, place):
                    return self.before_key(start, match.start())
        self.work -= (limit - start) // 5
        return inner or self.likeliest(start, limit, quotes)

    def confirms(self, quote: re.Match[str], place: Place) -> bool:
        """Whether a quote of another kind than the first surely ends a string."""
        if place.role != "value":
            return _NUMBER_AND_END.match(self.text, quote.end()) is not None
        match = _SEPARATOR.match(self.text, quote.end())
        key = key_at(self.text, match.end()) if match is not None and match[1] else None
        return key is not None and is_known(key.name) and self.fields_follow(quote.end(), place)

    def inner_quotes(self, start: int, end: re.Match[str]) -> str:
        return "inner-quotes" if end[0] in self.text[start : end.start()] else ""

    def ends_quotation(self, start: int, quote: re.Match[str]) -> bool:
        """Whether the quote before this one in the same string opens a quotation: `say "yes", "no"`."""
        before = self.text.rfind(quote[0], start, quote.start())
        if before < 0:
            return False
        opens = before == start or self.text[before - 1].isspace() or self.text[before - 1] in "([{-—:"
        return opens and not self.text[before + 1].isspace() and before + 1 < quote.start()

    def before_key(self, start: int, end: int) -> StringEnd:
        """The end of a string before a key, if its own quote is missing or has a backslash before it."""
        body = self.text[start:end]
        stripped = body.rstrip()
        if stripped[-2:] in ('\\"', "\\'"):
            return StringEnd(start + len(stripped) - 1, end, "bad-escape")
        return StringEnd(start + len(stripped), end, "missing-quote")

    def begins_candidate(self, at: int, name: str, place: Place) -> bool:
        """Whether the bracket at `at` opens the next candidate of a list, and not a bracket inside a text."""
        before = self.text[max(0, at - 40) : at].rstrip().rstrip(COMMAS).rstrip()[-1:]
        return before in ("}", "]", "｝", '"', "") and (name == place.first or is_known(name)) and bool(before)

    def lacks_quote(self, match: re.Match[str], place: Place) -> bool:
        """Whether a key of the object around a string stands inside it, because its last quote is missing."""
        if not is_known(match["name"]) or match["name"] in place.keys:
            return False
        quoted = self.bare_keys or _QUOTE.search(match[0]) is not None
        return quoted and self.fields_follow(match.start(), place)

    def likeliest(self, start: int, limit: int, quotes: str) -> StringEnd:
        """An end that nothing confirms: before a known key, the last bracket, the last quote, or the limit."""
        closing = last = None
        for match in _weak(quotes).finditer(self.text, start, limit):
            if match[0][0] == "\\":
                continue
            name = match[1] or match[2]
            if name is not None and is_known(name):
                return StringEnd(match.start(), match.end(), "inner-quotes" if last is not None else "")
            last = match
            if name is None:
                closing = match
        if closing is not None:
            return StringEnd(closing.start(), closing.end(), "inner-quotes")
        if limit == len(self.text):
            return self.truncated(limit)
        stripped = len(self.text[start:limit].rstrip(" \t\n\r,}]")) + start
        if stripped > start and self.text[stripped - 1] in quotes:
            return StringEnd(stripped - 1, stripped, "inner-quotes")
        return StringEnd(stripped, stripped, "missing-quote")

    def follows(self, at: int, place: Place) -> bool:
        """Whether the text at `at` continues what is around a string that ends there."""
        role = place.role
        self.work -= 4
        if role == "value":
            return self.fields_follow(at, place)
        match = _SEPARATOR.match(self.text, at)
        assert match is not None
        at = match.end()
        sign = self.text[at : at + 1]
        if role == "key":
            return match[1] is None and sign in tuple(":：=＝-") and sign != ""
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
            return _NUMBER_IN_BRACKETS.match(text, at) is not None
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
        match = _SEPARATOR.match(text, at)
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
            value = _first(CLOSING_QUOTES[sign]).match(text, at + 1)
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
            match = _SEPARATOR.match(text, at + 1)
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
            return match[1] is not None and bool(
                _VALUE.match(text, at) or key_at(text, at) or _JOINT.match(text, at)
            )

    def ends_value(self, blanks: re.Match[str], *, sure: bool) -> bool:
        """Whether the whole value ends before these blanks: what comes next is not the rest of a text."""
        text, at = self.text, blanks.end()
        if _FENCE_END.match(text, at):
            return True
        if "\n" in blanks[0]:
            return sure or not (text[at].isalnum() or text[at] in CLOSING_QUOTES)
        return not (text[at].isalnum() or text[at] in CLOSING_QUOTES or text[at] in CLOSERS)
