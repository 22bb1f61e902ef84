"""The candidates of a reply before its end: only those of which nothing that follows can change anything.

A reply counts if it begins, after reasoning that has ended, with the requested JSON or XML. Its candidates are
handed out up to the first one that needs a repair or a comparison with the others.
"""

from __future__ import annotations

import re

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import LISTS, REASONING, plain
from outspoken.parsing.json_answers import may_be_placeholder
from outspoken.parsing.json_values import decode, read_value
from outspoken.parsing.markup import read_xml
from outspoken.parsing.reasoning import REASONING_END, REASONING_STARTS
from outspoken.reply_shape import ReplyShape

__all__ = ["EarlyReader"]

_INSIDE_STRING = re.compile(r'["\\]')
_OUTSIDE_STRING = re.compile(r'["{}\[\]]')
_ELEMENT = re.compile(r"<response(?:\s[^<>]*)?>.*?</response\s?>", re.IGNORECASE | re.DOTALL)
_ELEMENT_END = re.compile(r"</response\s?>", re.IGNORECASE)
_XML_START = re.compile(r"<responses?[\s>]", re.IGNORECASE)
_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.){0,40})"\s*:')
_LONGEST_START = 32
_LONGEST_KEY = 64


class EarlyReader:
    """Reads a stream that begins with the requested shape; `items` are the candidates handed out so far.

    `end` is the position after the last of them in the whole text.
    """

    def __init__(self, shape: ReplyShape) -> None:
        self.shape = shape
        self.items: list[RawCandidate] = []
        self.end = 0
        self._offset = 0
        self._held = ""
        self._state = "closed" if shape.kind in ("text", "answer") else "start"
        self._cutter: _JsonCutter | _XmlCutter = (_XmlCutter if shape.kind == "xml" else _JsonCutter)(shape)

    @classmethod
    def whole(cls, text: str, shape: ReplyShape) -> EarlyReader:
        """The reader after the whole text."""
        reader = cls(shape)
        reader.feed(text)
        return reader

    def feed(self, piece: str) -> list[RawCandidate]:
        """The candidates that this piece completes."""
        if self._state == "closed":
            return []
        if self._state != "candidates":
            piece = self._skip(piece)
            if not piece:
                return []
        found: list[RawCandidate] = []
        for item, end in self._cutter.feed(piece):
            if item is None or not self._is_final(item):
                self._state = "closed"
                break
            self.end = self._offset + end
            found.append(item)
        self.items += found
        return found

    def _is_final(self, item: RawCandidate) -> bool:
        """Whether the meaning of a candidate does not depend on the others."""
        if item.repairs or may_be_placeholder(item.text):
            return False
        if not item.stated:
            return self.shape.kind != "candidates"
        if self.shape.scale != "probability":
            return True
        return isinstance(item.weight, (int, float)) and 0 <= item.weight < 1

    def _skip(self, piece: str) -> str:
        """Skip blanks and a block of reasoning at the start; returns the text after them once it is there."""
        held = self._held + piece
        while True:
            if self._state == "reasoning":
                end = REASONING_END.search(held)
                if end is None:
                    cut = max(0, len(held) - _LONGEST_START)
                    self._offset, self._held = self._offset + cut, held[cut:]
                    return ""
                if end.end() == len(held) and not held.endswith((">", "]", "▷")):
                    self._held = held
                    return ""
                self._offset, held, self._state = self._offset + end.end(), held[end.end() :], "start"
            bare = held.lstrip("\ufeff \t\r\n")
            self._offset, held = self._offset + len(held) - len(bare), bare
            head = held[:_LONGEST_START].lower()
            start = next((tag for tag in REASONING_STARTS if head.startswith(tag)), None)
            if start is not None:
                if "channel" in start or ("start|>" in start and "thinking" not in start) or start == "<details":
                    self._state = "closed"
                    return ""
                self._state = "reasoning"
                continue
            if not head or any(tag.startswith(head) for tag in REASONING_STARTS):
                self._held = held
                return ""
            return self._begin(held)

    def _begin(self, held: str) -> str:
        """Decide whether the answer begins with the requested shape; "" while that is open or if it does not."""
        begins: bool | None
        if self.shape.kind == "xml":
            begins = _XML_START.match(held) is not None or (None if len(held) < 11 else False)
        elif held[0] == "[":
            begins = self.shape.kind in ("candidates", "strings", "list")
        elif self.shape.kind == "list" or held[0] != "{":
            begins = False
        else:
            key = _FIRST_KEY.match(held)
            begins = None if len(held) < _LONGEST_KEY else False
            if key is not None:
                begins = plain(key[1]) in LISTS or plain(key[1]) in REASONING
        if begins is None:
            self._held = held
            return ""
        self._held, self._state = "", "candidates" if begins else "closed"
        return held if begins else ""


class _XmlCutter:
    """Cuts a stream after the end tag of each element that is a candidate."""

    def __init__(self, shape: ReplyShape) -> None:
        self.shape = shape
        self.parts: list[str] = []
        self.carry = ""
        self.at = 0

    def feed(self, piece: str) -> list[tuple[RawCandidate | None, int]]:
        found: list[tuple[RawCandidate | None, int]] = []
        window = self.carry + piece
        start = len(self.carry)
        done = 0
        for end in _ELEMENT_END.finditer(window):
            self.parts.append(window[max(start, done) : end.end()])
            done = end.end()
            element = "".join(self.parts)
            self.parts.clear()
            candidates = CandidateList(self.shape)
            if (
                _ELEMENT.fullmatch(re.sub(r"\A\s*(?:<responses[^<>]{0,80}>)?\s*", "", element))
                and "<![" not in element
            ):
                read_xml(element, candidates)
            single = len(candidates.items) == 1 and not candidates.repairs
            found.append((candidates.items[0] if single else None, self.at + end.end() - start))
            if not single:
                return found
        self.parts.append(window[max(start, done) :])
        self.carry = window[max(done, len(window) - _LONGEST_START) :]
        self.at += len(piece)
        return found


class _JsonCutter:
    """Follows the strings and brackets of a stream, and cuts out each object or string that may be a candidate."""

    def __init__(self, shape: ReplyShape) -> None:
        self.shape = shape
        self.stack: list[tuple[str, str]] = []
        self.in_string = self.escaped = False
        self.string = ""
        self.key = ""
        self.item: list[str] | None = None
        self.level = 0
        self.at = 0
        self.ended = False
        self.strings = shape.kind in ("strings", "list")

    def feed(self, piece: str) -> list[tuple[RawCandidate | None, int]]:
        found: list[tuple[RawCandidate | None, int]] = []
        position = item_start = 0
        while position < len(piece) and not self.ended:
            if self.escaped:
                self.escaped = False
                position += 1
                continue
            match = (_INSIDE_STRING if self.in_string else _OUTSIDE_STRING).search(piece, position)
            stop = match.start() if match is not None else len(piece)
            if self.in_string and len(self.string) < _LONGEST_KEY:
                self.string += piece[position : min(stop, position + _LONGEST_KEY)]
            if match is None:
                break
            position = match.end()
            sign = match[0]
            if sign == "\\":
                self.escaped = True
            elif self.begins_item(sign):
                self.item, item_start = [], stop
            ended = sign != "\\" and self.ends_item(sign)
            if ended and self.item is not None:
                self.item.append(piece[item_start:position])
                item = self.read("".join(self.item))
                found.append((item, self.at + position))
                self.item = None
                if item is None:
                    return found
        if self.item is not None:
            self.item.append(piece[item_start:])
        self.at += len(piece)
        return found

    def read(self, raw: str) -> RawCandidate | None:
        """The one candidate in this piece of JSON; None if it needs a repair."""
        candidates = CandidateList(self.shape)
        value = decode(raw)
        if value is None or not read_value([value], candidates):
            return None
        return candidates.items[0] if len(candidates.items) == 1 and not candidates.repairs else None

    def begins_item(self, sign: str) -> bool:
        """Whether a candidate begins with this sign. One inside another replaces it."""
        if self.in_string or self.item is not None:
            return False
        begins = self.in_list() and (sign == "{" or (sign == '"' and self.strings))
        if begins:
            self.level = len(self.stack)
        return begins

    def in_list(self) -> bool:
        """Whether the innermost container is the list of candidates."""
        if self.stack and self.stack[0][0] == "[":
            return len(self.stack) == 1
        return len(self.stack) == 2 and self.stack[1][0] == "[" and self.stack[1][1] in LISTS

    def ends_item(self, sign: str) -> bool:
        """Follow the sign; returns whether it ends the current item."""
        if sign == '"':
            if not self.stack:
                return False
            self.in_string = not self.in_string
            if self.in_string:
                self.string = ""
                return False
            self.key = self.string
        elif self.in_string:
            return False
        elif sign in "{[":
            self.stack.append((sign, plain(self.key)))
            return False
        elif self.stack:
            self.ended = self.item is None and self.in_list()
            self.stack.pop()
        return len(self.stack) == self.level
