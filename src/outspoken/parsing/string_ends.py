"""Where a string of damaged JSON ends: quotes inside a text may be unescaped, and the last one may be missing.

A quote ends a string if what follows it continues the object, list or call around it. That is looked up in the
text after the quote, to the next bracket; JSON inside a text does not continue the object around it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from outspoken.parsing.json_signs import BLANK, COMMAS, is_known, key_at
from outspoken.parsing.string_context import SEPARATOR, Place, Surroundings, to_first_quote

__all__ = ["StringEnd", "StringEnds"]

_QUOTE = re.compile("[\"'“”‘’«»「」]")
_NUMBER_AND_END = re.compile(r"\s*+[,，]\s*+[-+.\d]{1,20}+(?:[eE][-+]?\d{1,3})?\s?%?\s*+[)\]]")
# The end of one entry and the first quote of the next, and the number before them.
_NEXT_ENTRY = re.compile(r"[)}\]]\s*+[,，]\s*+[({\[]\s*+[\"'“]")
_NEXT_KEY = re.compile(r"(?<=\d)\s*+[,，]\s*+[\"'“]")
_LAST_NUMBER = re.compile(
    r"(?:[\"'`”]\s{0,9})?[,，:：]{1,2}[^\w\"'`“”(){}\[\]]{0,9}[-+.\d](?:[^\"'`“”(){}\[\],，:：]|,(?=\d)){0,24}\Z"
)
_LONGEST_NUMBER = 50
_LONGEST_KEY = 20_000
_OTHER_QUOTE = "\"'`”“’"
_SIGN_BEFORE = re.compile(r"[,，:：={}\[\]]\s{0,9}\Z")
_SIGN_AFTER = re.compile(r"\s{0,9}[,，:：{}\[\]]")
_NEXT_PART = re.compile(r"[^\S\n]*+(?:\n\s*+|\+\s*+)[rbfu]?[\"'`]")
_NEXT_PART_IN_CALL = re.compile(r"\s++[rbfu]?[\"'`]")


class StringEnd(NamedTuple):
    """The end of a string's inside, the position after it, and what was wrong: "", or the name of a repair.

    It is "truncated" if the text ends first.
    """

    end: int
    after: int
    repair: str = ""


@cache
def _scan(quotes: str, role: str) -> re.Pattern[str]:
    """Escapes, quotes that something may follow, and keys before which a quote may be missing."""
    after = ":：=＝" if role == "key" else rf"{COMMAS}}}\]）｝］）/#+\"'“”‘„«»「『`{{｛"
    key = (
        r"(?:[,，{｛]["
        + BLANK
        + r"]*+|\n[^\S\n]*+)[\"'“‘«「]?(?P<name>[^\W\d][\w -]{0,40}+)[\"'”’»」]?\s{0,9}[:：=]"
    )
    return re.compile(
        rf"(?:\\.)++|(?P<quote>[{quotes}])(?=[{BLANK}]*+(?:[{after})]|\Z)|[^\S\n]*+\n)|(?P<key>{key})"
        rf"|(?P<other>[{_OTHER_QUOTE}])(?=\s*+[,，}}\])])",
        re.DOTALL,
    )


@cache
def _weak(quotes: str) -> re.Pattern[str]:
    """Quotes before a closing bracket or a key, whatever follows those."""
    key = rf"[{COMMAS}]?[{BLANK}]*+[\"'“「]?([^\W\d][\w -]{{0,40}}+)[\"'”」]?\s{{0,9}}[:：]"
    word = rf"[{COMMAS}]\s*+([^\W\d]\w{{0,40}}+)\b"
    return re.compile(rf"(?:\\.)++|[{quotes}](?=[{BLANK}]*+(?:[}}\]｝］]|{key}|{word}))", re.DOTALL)


@cache
def _to_quote(quotes: str) -> re.Pattern[str]:
    """A quote that is not escaped, and no apostrophe inside a word."""
    return re.compile(rf"(?<!\\)(?!(?<=\w)['’]\w)[{quotes}]")


class StringEnds(Surroundings):
    """Finds the ends of the strings of one text. Without any work left they end at their first quote.

    `reached` is the position up to which the last value was read, and `too_deep` whether it was nested too deeply.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reached = 0
        self.too_deep = False

    def find(self, start: int, quotes: str, place: Place) -> StringEnd:
        """The end of the string whose inside begins at `start` and which one of `quotes` closes.

        Unescaped quotes inside it that are no whole quotations may end it: the repair is then "missing-quote".
        """
        end = self.first_end(start, quotes, place)
        self.work -= (end.end - start) // 20
        end = self.unless_next_entry(start, end, place)
        if end.repair == "inner-quotes" and self.may_end_before(start, end.end, quotes, place.role):
            return end._replace(repair="missing-quote")
        return end

    def first_end(self, start: int, quotes: str, place: Place) -> StringEnd:
        match = to_first_quote(quotes).match(self.text, start)
        assert match is not None
        self.work -= (match.end() - start) // 100
        closed = bool(match[1]) and match[1] != "\\"
        if closed and (self.follows(match.end(), place) or self.joins(match.end(), place)):
            return StringEnd(match.end() - 1, match.end())
        if self.work > 0:
            if place.role != "key":
                return self.search(start, quotes, place)
            if (end := self.search_key(match.end(), quotes, place)) is not None:
                return end
        return StringEnd(match.end() - 1, match.end()) if closed else self.truncated(match.end())

    def may_end_before(self, start: int, end: int, quotes: str, role: str) -> bool:
        """Whether a quote inside a string stands beside a sign of JSON where it opens or closes no quotation."""
        opens, beside, misplaced = True, False, False
        for match in _to_quote(quotes).finditer(self.text, start, end):
            after = _SIGN_AFTER.match(self.text, match.end(), end) is not None
            blank = self.text[match.end() : match.end() + 1].isspace()
            misplaced |= opens and (after or blank) and not self.text[match.start() - 1].isspace()
            beside |= (
                after or _SIGN_BEFORE.search(self.text, max(start, match.start() - 10), match.start()) is not None
            )
            opens = not opens
        return beside and (misplaced or not opens or role == "key")

    def joins(self, at: int, place: Place) -> bool:
        """Whether a string follows that is joined to the one before it."""
        if place.role == "key":
            return False
        if place.closers and place.closers[-1] == ")":
            part = _NEXT_PART_IN_CALL.match(self.text, at)
        else:
            part = _NEXT_PART.match(self.text, at) if place.role == "value" else None
        return part is not None and key_at(self.text, part.end() - 1) is None

    def unless_next_entry(self, start: int, end: StringEnd, place: Place) -> StringEnd:
        """The end, unless the next entry of a list begins before it, because a last quote is missing."""
        if place.role == "value" or end.end - start < 4:
            return end
        for pattern in (_NEXT_ENTRY, _NEXT_KEY) if place.role == "key" else (_NEXT_ENTRY,):
            opening = pattern.search(self.text, start, end.end)
            if opening is None:
                continue
            before = max(start, opening.start() - _LONGEST_NUMBER)
            number = _LAST_NUMBER.search(self.text, before, opening.start())
            if number is not None:
                missing = number.start()
                return StringEnd(missing, missing + (self.text[missing] in _OTHER_QUOTE), "missing-quote")
        return end

    def truncated(self, end: int) -> StringEnd:
        return StringEnd(end, end, "truncated")

    def search_key(self, position: int, quotes: str, place: Place) -> StringEnd | None:
        last = position
        for match in _scan(quotes, "key").finditer(self.text, position, position + _LONGEST_KEY):
            self.work -= 2 + (match.end() - last) // 5
            last = match.end()
            if match["quote"] and self.follows(match.end(), place):
                return StringEnd(match.start(), match.end(), "inner-quotes")
            if match["key"] and match[0][0] != "\n":
                return None
        self.work -= (min(len(self.text), position + _LONGEST_KEY) - last) // 5
        return None

    def search(self, start: int, quotes: str, place: Place) -> StringEnd:
        """The first quote that what follows confirms; failing that, the likeliest before the next candidate."""
        text, limit = self.text, len(self.text)
        inner: StringEnd | None = None
        last = start
        for match in _scan(quotes, place.role).finditer(text, start):
            self.work -= 2 + (match.end() - last) // 5
            last = match.end()
            if self.work < 0:
                break
            if match["quote"]:
                if inner is not None and self.ends_quotation(start, match):
                    continue
                if not self.follows(match.end(), place):
                    continue
                end = StringEnd(match.start(), match.end(), self.inner_quotes(start, match))
                if place.role == "value" or not self.ends_quotation(start, match):
                    return end
                inner = end
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
        self.work -= (limit - last + limit - start) // 5
        return inner or self.likeliest(start, limit, quotes)

    def confirms(self, quote: re.Match[str], place: Place) -> bool:
        """Whether a quote of another kind than the first surely ends a string."""
        if place.role != "value":
            return _NUMBER_AND_END.match(self.text, quote.end()) is not None
        match = SEPARATOR.match(self.text, quote.end())
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
