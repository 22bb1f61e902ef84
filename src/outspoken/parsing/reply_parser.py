"""Reading a reply while it arrives: candidates come out as soon as their own end has come."""

from __future__ import annotations

import re

from outspoken.distribution import Verbalized
from outspoken.parsing.field_names import LISTS, plain
from outspoken.parsing.json_candidates import Found, decode, interpret
from outspoken.parsing.markup import read_xml
from outspoken.parsing.parsed_reply import Reading
from outspoken.parsing.probabilities import Item, weigh
from outspoken.parsing.whole_reply import parse
from outspoken.reply_shape import ReplyShape

__all__ = ["Reader"]

_INSIDE = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_THOUGHTS = ("<think>", "<thinking>")
_THOUGHTS_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ELEMENT_END = re.compile(r"</(?:response|candidate|item|option)\s?>", re.IGNORECASE)
_PLAIN_LISTS = frozenset(("responses", "candidates", "answers"))
_LONGEST_TAG = 16
_LONGEST_KEY = 64


class Reader:
    """Reads a reply piece by piece; `close` gives the same `Reading` as `parse` on the whole.

    JSON (the items of a list, or objects in a row) and XML come out early; what only the end can decide (lines of
    text, damaged parts, drafts that a later answer replaces) waits for `close`. An early candidate's `stated` is
    provisional in one case: whether numbers above 1 are percents or weights is decided over the whole set.
    """

    def __init__(self, shape: ReplyShape | None = None) -> None:
        self._shape = shape
        self._pieces: list[str] = []
        self._held = ""
        self._state = "start"
        self._scan: _JsonScan | _XmlScan = _JsonScan(shape)

    def feed(self, piece: str) -> list[Verbalized]:
        """The candidates that became complete with this piece. Never raises."""
        self._pieces.append(piece)
        if self._shape is not None and self._shape.kind == "text":
            return []
        if self._state != "scan":
            piece = self._begin(piece)
        if not piece:
            return []
        return [entry for item in self._scan.feed(piece) for entry in weigh([item], self._shape)]

    def close(self) -> Reading:
        """The whole reading. Raises `ReplyError` as `parse` does."""
        return parse("".join(self._pieces), self._shape)

    def _begin(self, piece: str) -> str:
        """Skip a block of thoughts at the start; what is left to scan of the pieces so far."""
        held = self._held + piece
        if self._state == "start":
            held = held.lstrip("\ufeff \t\r\n")
            head = held[:_LONGEST_TAG].lower()
            if any(tag.startswith(head) for tag in _THOUGHTS):
                self._held = held
                return ""
            if head.startswith(_THOUGHTS):
                self._state = "thoughts"
        if self._state == "thoughts":
            end = _THOUGHTS_END.search(held)
            if end is None:
                self._held = held[-_LONGEST_TAG:]
                return ""
            self._held, self._state = "", "start"
            return self._begin(held[end.end() :])
        if self._shape is None or self._shape.kind == "xml":
            self._scan = _XmlScan(self._shape) if held.startswith("<") or self._shape else self._scan
        self._held, self._state = "", "scan"
        return held


class _XmlScan:
    """Cuts behind the end tag of each element that is a candidate."""

    def __init__(self, shape: ReplyShape | None) -> None:
        self.shape = shape
        self.parts: list[str] = []
        self.carry = ""

    def feed(self, piece: str) -> list[Item]:
        items: list[Item] = []
        window = self.carry + piece
        start = len(self.carry)
        done = 0
        for end in _ELEMENT_END.finditer(window):
            self.parts.append(window[max(start, done) : end.end()])
            done = end.end()
            element = "".join(self.parts)
            if element.rfind("<![CDATA[") <= element.rfind("]]>"):
                found = Found()
                read_xml(element, self.shape, found)
                items += found.items
            self.parts.clear()
        self.parts.append(window[max(start, done) :])
        self.carry = window[max(done, len(window) - _LONGEST_TAG) :]
        return items


class _JsonScan:
    """Follows strings and brackets, and cuts out every object or string that stands where candidates do."""

    def __init__(self, shape: ReplyShape | None) -> None:
        self.shape = shape
        self.stack: list[tuple[str, str]] = []
        self.in_string = self.escaped = False
        self.string = ""
        self.key = ""
        self.item: list[str] | None = None
        self.level = 0
        self.strings = shape is None or shape.kind in ("strings", "list")

    def feed(self, piece: str) -> list[Item]:
        items: list[Item] = []
        at = taken = 0
        while at < len(piece):
            if self.escaped:
                self.escaped = False
                at += 1
                continue
            found = (_INSIDE if self.in_string else _OUTSIDE).search(piece, at)
            stop = found.start() if found is not None else len(piece)
            if self.in_string and len(self.string) < _LONGEST_KEY:
                self.string += piece[at : min(stop, at + _LONGEST_KEY)]
            if found is None:
                break
            at = found.end()
            if found[0] == "\\":
                self.escaped = True
            elif self.before(found[0]):
                self.item, taken = [], stop
            ended = found[0] != "\\" and self.after(found[0])
            if ended and self.item is not None:
                self.item.append(piece[taken:at])
                items += self.read("".join(self.item))
                self.item = None
        if self.item is not None:
            self.item.append(piece[taken:])
        return items

    def before(self, sign: str) -> bool:
        """Whether a candidate begins with this sign; one inside another replaces it."""
        if self.in_string or (self.item is not None and self.level):
            return False
        if sign == "{":
            begins = not self.stack or self.listing(LISTS)
        else:
            begins = sign == '"' and self.strings and self.listing(_PLAIN_LISTS)
        if begins:
            self.level = len(self.stack)
        return begins

    def listing(self, names: frozenset[str]) -> bool:
        """Whether the innermost container is a list of candidates."""
        sign, key = self.stack[-1] if self.stack else ("", "")
        return sign == "[" and (len(self.stack) == 1 or key in names)

    def after(self, sign: str) -> bool:
        """Take the sign in; whether what began with `before` ends with it."""
        if sign == '"':
            if not self.stack:
                return False
            self.in_string = not self.in_string
            if self.in_string:
                self.string = ""
                return False
            self.key = self.string
        elif sign in "{[":
            self.stack.append((sign, plain(self.key)))
            return False
        elif self.stack:
            self.stack.pop()
        return len(self.stack) == self.level

    def read(self, text: str) -> list[Item]:
        found = Found()
        value = decode(text)
        interpret(value if not self.level else [value], self.shape, found)
        return found.items
