"""Reading a reply while it arrives: candidates come out as soon as their own end has come."""

from __future__ import annotations

import re
from math import log

from jiter import from_json

from outspoken.distribution import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing.field_names import LISTS, plain
from outspoken.parsing.json_candidates import FoundCandidates, decode, interpret
from outspoken.parsing.json_finder import decoded, first_json, lone_value, read_json
from outspoken.parsing.lists import first_marker, read_lists
from outspoken.parsing.markup import first_tag, read_xml
from outspoken.parsing.parsed_reply import ParsedReply
from outspoken.parsing.probabilities import RawCandidate, weigh
from outspoken.parsing.reasoning import take_thoughts
from outspoken.reply_shape import ReplyShape

__all__ = ["ReplyParser", "parse"]

_INSIDE = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_THOUGHTS = ("<think>", "<thinking>")
_THOUGHTS_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ELEMENT_END = re.compile(r"</(?:response|candidate|item|option)\s?>", re.IGNORECASE)
_PLAIN_LISTS = frozenset(("responses", "candidates", "answers"))
_LONGEST_TAG = 16
_LONGEST_KEY = 64


class ReplyParser:
    """Reads a reply piece by piece; `close` gives the same `ParsedReply` as `parse` on the whole.

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

    def close(self) -> ParsedReply:
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

    def feed(self, piece: str) -> list[RawCandidate]:
        items: list[RawCandidate] = []
        window = self.carry + piece
        start = len(self.carry)
        done = 0
        for end in _ELEMENT_END.finditer(window):
            self.parts.append(window[max(start, done) : end.end()])
            done = end.end()
            element = "".join(self.parts)
            if element.rfind("<![CDATA[") <= element.rfind("]]>"):
                found = FoundCandidates()
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

    def feed(self, piece: str) -> list[RawCandidate]:
        items: list[RawCandidate] = []
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

    def read(self, text: str) -> list[RawCandidate]:
        found = FoundCandidates()
        value = decode(text)
        interpret(value if not self.level else [value], self.shape, found)
        return found.items


_new = tuple.__new__
_NO_META = Verbalized("").meta

_FENCE = re.compile(r"```[\w-]{0,20}[ \t]*+(?:\n|\Z)|~~~[\w-]{0,20}\s*+")


def parse(text: str, shape: ReplyShape | None = None) -> ParsedReply:
    """Read a whole reply into candidates, in the order in which they stand.

    `shape` is what was asked for; without it everything is detected. Raises `ReplyError` (with the reply) for an
    empty reply, an empty list, prose without candidates, and JSON without candidates. Linear in the length.
    """
    if shape is not None and shape.kind == "text":
        return _single(text, shape)
    reading = None
    if shape is None:
        reading = _quick(text, "probability", 0)
    elif shape.kind == "candidates" and shape.scale == "probability" and shape.value_schema is None:
        reading = _quick(text, shape.weight, shape.k)
    return reading or _read(text, shape)


def _quick(text: str, key: str, k: int) -> ParsedReply | None:
    """The reply that was asked for, without a flaw; None for every other.

    An object whose key comes twice hides a candidate, which costs time to notice and can only be so where there
    are fewer than the `k` that were asked for.
    """
    candidates = []
    try:
        for item in (value := from_json(text.encode(), catch_duplicate_keys=not k))["responses"]:
            content, stated = item["text"], item[key]
            content = content.strip()
            if not 0.0 < stated < 1.0 or len(item) != 2 or not content:
                return None
            # Its own constructor takes as long as all the rest of this loop.
            candidates.append(_new(Verbalized, (content, stated, log(stated), (), None, _NO_META)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not candidates or len(candidates) < k or len(value) != 1:
        return None
    return ParsedReply(tuple(candidates))


def _single(text: str, shape: ReplyShape) -> ParsedReply:
    text, repairs = _whole_characters(text)
    thoughts, body, taken = take_thoughts(text, anchored=False)
    body = body.strip()
    if not body:
        raise _empty(text, thoughts)
    if shape.value_schema is None:
        return ParsedReply((Verbalized(body),), thoughts, (*repairs, *taken))
    content, value, mended = lone_value(body, shape)
    return ParsedReply((Verbalized(content, repairs=mended, value=value),), thoughts, (*repairs, *taken))


def _read(text: str, shape: ReplyShape | None) -> ParsedReply:
    original = text
    text, repairs = _whole_characters(text)
    found = FoundCandidates()
    thoughts = body = ""
    if not (text.lstrip()[:1] in ("{", "[", '"') and decoded(text.strip(), shape, found) and found.items):
        found = FoundCandidates()
        thoughts, body, taken = take_thoughts(text)
        if not body.strip():
            raise _empty(original, thoughts)
        repairs += taken
        _search(body, shape, found, last_only="unclosed-think" in taken)
    if not found.items:
        raise _nothing(original, found, body)
    reasoning = "\n\n".join(part for part in (thoughts, *found.reasoning) if part)
    return ParsedReply(weigh(found.items, shape), reasoning, tuple(dict.fromkeys((*repairs, *found.repairs))))


def _search(body: str, shape: ReplyShape | None, found: FoundCandidates, *, last_only: bool) -> None:
    """Try the ways of writing candidates, the one that begins first and is surest before the others."""
    sure, weak = first_json(body)
    tag = first_tag(body)
    marker = first_marker(body)
    ways: list[tuple[int, int, str]] = []
    if sure >= 0:
        ways.append((0, sure, "json"))
    elif weak >= 0:
        ways.append((1 if marker < 0 or weak < marker else 3, weak, "json"))
    if tag >= 0:
        ways.append((0, tag, "xml"))
    ways.append((2, 0, "lists"))
    for _, _, way in sorted(ways):
        if way == "lists" and (found.listed or "empty" in found.repairs):
            return
        if way == "lists":
            read_lists(_FENCE.sub("", body), shape, found)
        else:
            _marked(way, body, shape, found, last_only)
        if found.items:
            return


def _marked(way: str, body: str, shape: ReplyShape | None, found: FoundCandidates, last_only: bool) -> None:
    if way == "json":
        span = read_json(body, shape, found, last_only=last_only)
    else:
        span = read_xml(body, shape, found)
        if found.items and (shape is None or shape.kind != "xml"):
            found.repairs.append("as-xml")
    if span is None or not found.items:
        return
    before, after = body[: span[0]], body[span[1] :]
    if _FENCE.search(before):
        found.repairs.insert(0, "fenced")
    prose = _FENCE.sub("", before).strip()
    if prose:
        found.repairs.insert(0, "prefixed")
        found.reasoning.insert(0, prose)
    if after.replace("```", "").strip(" \n\t\r;,.`~"):
        found.repairs.append("suffixed")


def _whole_characters(text: str) -> tuple[str, tuple[str, ...]]:
    """Join surrogate pairs and replace halves of them, which no other program would take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return joined, ("surrogate",) if "\ufffd" in joined else ()
    return text.removeprefix("\ufeff"), ()


def _empty(text: str, thoughts: str) -> ReplyError:
    if thoughts:
        return ReplyError(
            "the reply ends inside its reasoning: raise max_tokens, or ask for less thinking", text=text
        )
    return ReplyError("the reply is empty: ask again, or raise max_tokens", text=text)


def _nothing(text: str, found: FoundCandidates, body: str) -> ReplyError:
    start = " ".join(text.split())[:80]
    if found.listed:
        return ReplyError(f"the reply's list holds no candidates: ask again ({start!r})", text=text)
    if body.lstrip()[:1] in ("{", "[") or not body:
        return ReplyError(
            f"the reply is JSON without candidates: ask again, or raise max_tokens if it was cut off ({start!r})",
            text=text,
        )
    return ReplyError(
        "the reply is prose without candidates, perhaps a refusal: reword the prompt or ask another model "
        f"({start!r})",
        text=text,
    )
