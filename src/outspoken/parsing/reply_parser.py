"""Reading a reply: `parse` reads it whole, `ReplyParser` while it streams, with the same result.

`parse` first tries the requested JSON (`_parse_expected`). `_parse_any` reads anything else: it removes the
reasoning and tries each way of writing candidates, the most reliable first. A `ReplyParser` cuts the stream after
each complete candidate and reads that piece with the same readers; `close` calls `parse`.
"""

from __future__ import annotations

import re
from math import log

from jiter import from_json

from outspoken.candidate import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing.candidates import CandidateList, ParsedReply, RawCandidate, stated_probabilities
from outspoken.parsing.field_names import LISTS, plain
from outspoken.parsing.json_text import first_json, lone_value, read_json, read_valid_json
from outspoken.parsing.json_values import decode, read_value
from outspoken.parsing.lists import first_marker, read_lists
from outspoken.parsing.markup import first_tag, read_xml, split_reasoning
from outspoken.reply_shape import ReplyShape

__all__ = ["ReplyParser", "parse"]

_FENCE = re.compile(r"```[\w-]{0,20}[ \t]*+(?:\n|\Z)|~~~[\w-]{0,20}\s*+")
_new = tuple.__new__
_NO_META = Verbalized("").meta


def parse(text: str, shape: ReplyShape | None = None) -> ParsedReply:
    """Read a whole reply into candidates, in their order in the reply.

    `shape` is the requested shape; without it everything is detected. Raises `ReplyError` (with the reply) for an
    empty reply, an empty list, prose without candidates, and JSON without candidates. Linear in the length.
    """
    if shape is not None and shape.kind == "text":
        return _parse_text(text, shape)
    expected = None
    if shape is None:
        expected = _parse_expected(text, "probability", 0)
    elif shape.kind == "candidates" and shape.scale == "probability" and shape.value_schema is None:
        expected = _parse_expected(text, shape.weight, shape.k)
    return expected or _parse_any(text, shape)


def _parse_expected(text: str, key: str, k: int) -> ParsedReply | None:
    """A reply in exactly the requested JSON; None for any other.

    A repeated key in an object hides a candidate: with `k` candidates there is none, so it is not searched for.
    """
    candidates = []
    try:
        for item in (value := from_json(text.encode(), catch_duplicate_keys=not k))["responses"]:
            content, stated = item["text"], item[key]
            content = content.strip()
            if not 0.0 < stated < 1.0 or len(item) != 2 or not content:
                return None
            # The constructor of `Verbalized` would take as long as the rest of this loop.
            candidates.append(_new(Verbalized, (content, stated, log(stated), (), None, _NO_META)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not candidates or len(candidates) < k or len(value) != 1:
        return None
    return ParsedReply(tuple(candidates))


def _parse_text(text: str, shape: ReplyShape) -> ParsedReply:
    """A reply that is one candidate as a whole."""
    text, repairs = _valid_unicode(text)
    reasoning, body, removed = split_reasoning(text, anchored=False)
    body = body.strip()
    if not body:
        raise _empty_reply(text, reasoning)
    if shape.value_schema is None:
        return ParsedReply((Verbalized(body),), reasoning, (*repairs, *removed))
    content, value, own_repairs = lone_value(body, shape)
    return ParsedReply((Verbalized(content, repairs=own_repairs, value=value),), reasoning, (*repairs, *removed))


def _parse_any(text: str, shape: ReplyShape | None) -> ParsedReply:
    original = text
    text, repairs = _valid_unicode(text)
    candidates = CandidateList(shape)
    reasoning = body = ""
    looks_like_json = text.lstrip()[:1] in ("{", "[", '"')
    if not (looks_like_json and read_valid_json(text.strip(), candidates) and candidates.items):
        candidates = CandidateList(shape)
        reasoning, body, removed = split_reasoning(text)
        if not body.strip():
            raise _empty_reply(original, reasoning)
        repairs += removed
        _read_first_format(body, candidates, last_only="unclosed-think" in removed)
    if not candidates.items:
        raise _no_candidates(original, candidates, body)
    return ParsedReply(
        stated_probabilities(candidates.items, shape),
        "\n\n".join(part for part in (reasoning, *candidates.reasoning) if part),
        tuple(dict.fromkeys((*repairs, *candidates.repairs))),
    )


def _read_first_format(body: str, into: CandidateList, *, last_only: bool) -> None:
    """Try each way of writing candidates until one gives some: by reliability, then by position in the text."""
    certain, possible = first_json(body)
    tag, marker = first_tag(body), first_marker(body)
    formats = [(2, 0, "lists")]
    if certain >= 0:
        formats.append((0, certain, "json"))
    elif possible >= 0:
        formats.append((1 if marker < 0 or possible < marker else 3, possible, "json"))
    if tag >= 0:
        formats.append((0, tag, "xml"))
    for _, _, name in sorted(formats):
        if name == "lists" and (into.list_seen or "empty" in into.repairs):
            return
        if name == "lists":
            read_lists(_FENCE.sub("", body), into)
        else:
            _read_delimited(name, body, into, last_only)
        if into.items:
            return


def _read_delimited(name: str, body: str, into: CandidateList, last_only: bool) -> None:
    """Read JSON or XML, and record what was before and after it."""
    if name == "json":
        span = read_json(body, into, last_only=last_only)
    else:
        span = read_xml(body, into)
        if into.items and (into.shape is None or into.shape.kind != "xml"):
            into.repairs.append("as-xml")
    if span is None or not into.items:
        return
    before, after = body[: span[0]], body[span[1] :]
    if _FENCE.search(before):
        into.repairs.insert(0, "fenced")
    prose = _FENCE.sub("", before).strip()
    if prose:
        into.repairs.insert(0, "prefixed")
        into.reasoning.insert(0, prose)
    if after.replace("```", "").strip(" \n\t\r;,.`~"):
        into.repairs.append("suffixed")


def _valid_unicode(text: str) -> tuple[str, tuple[str, ...]]:
    """Join surrogate pairs and replace halves of pairs, which cannot be encoded; remove a byte order mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return joined, ("surrogate",) if "\ufffd" in joined else ()
    return text.removeprefix("\ufeff"), ()


def _empty_reply(text: str, reasoning: str) -> ReplyError:
    if reasoning:
        return ReplyError(
            "the reply ends inside its reasoning: raise max_tokens, or ask for less thinking", text=text
        )
    return ReplyError("the reply is empty: ask again, or raise max_tokens", text=text)


def _no_candidates(text: str, read: CandidateList, body: str) -> ReplyError:
    start = " ".join(text.split())[:80]
    if read.list_seen:
        message = "the reply's list holds no candidates: ask again"
    elif body.lstrip()[:1] in ("{", "[") or not body:
        message = "the reply is JSON without candidates: ask again, or raise max_tokens if it was cut off"
    else:
        message = (
            "the reply is prose without candidates, perhaps a refusal: reword the prompt or ask another model"
        )
    return ReplyError(f"{message} ({start!r})", text=text)


_INSIDE_STRING = re.compile(r'["\\]')
_OUTSIDE_STRING = re.compile(r'["{}\[\]]')
_REASONING_TAGS = ("<think>", "<thinking>")
_REASONING_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ELEMENT_END = re.compile(r"</(?:response|candidate|item|option)\s?>", re.IGNORECASE)
_STRING_LISTS = frozenset(("responses", "candidates", "answers"))
_LONGEST_TAG = 16
_LONGEST_KEY = 64


class ReplyParser:
    """Reads a reply piece by piece; `close` returns the same `ParsedReply` as `parse` on the whole text.

    Candidates in JSON (the entries of a list, or objects in a row) and in XML are returned as soon as they are
    complete. Others (lines of text, damaged parts, drafts that a later answer replaces) wait for `close`. The
    `stated` of an early candidate is provisional if it is above 1: the whole set decides between percents and
    weights.
    """

    def __init__(self, shape: ReplyShape | None = None) -> None:
        self._shape = shape
        self._pieces: list[str] = []
        self._held = ""
        self._state = "start"
        self._cutter: _JsonCutter | _XmlCutter = _JsonCutter(shape)

    def feed(self, piece: str) -> list[Verbalized]:
        """The candidates that this piece completes. Never raises."""
        self._pieces.append(piece)
        if self._shape is not None and self._shape.kind == "text":
            return []
        if self._state != "candidates":
            piece = self._skip_reasoning(piece)
        if not piece:
            return []
        return [entry for item in self._cutter.feed(piece) for entry in stated_probabilities([item], self._shape)]

    def close(self) -> ParsedReply:
        """The whole result. Raises `ReplyError` as `parse` does."""
        return parse("".join(self._pieces), self._shape)

    def _skip_reasoning(self, piece: str) -> str:
        """Skip a block of reasoning at the start; returns the text after it, once it has ended."""
        held = self._held + piece
        if self._state == "start":
            held = held.lstrip("\ufeff \t\r\n")
            head = held[:_LONGEST_TAG].lower()
            if any(tag.startswith(head) for tag in _REASONING_TAGS):
                self._held = held
                return ""
            if head.startswith(_REASONING_TAGS):
                self._state = "reasoning"
        if self._state == "reasoning":
            end = _REASONING_END.search(held)
            if end is None:
                self._held = held[-_LONGEST_TAG:]
                return ""
            self._held, self._state = "", "start"
            return self._skip_reasoning(held[end.end() :])
        if self._shape is None or self._shape.kind == "xml":
            self._cutter = _XmlCutter(self._shape) if held.startswith("<") or self._shape else self._cutter
        self._held, self._state = "", "candidates"
        return held


class _XmlCutter:
    """Cuts a stream after the end tag of each element that is a candidate."""

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
                candidates = CandidateList(self.shape)
                read_xml(element, candidates)
                items += candidates.items
            self.parts.clear()
        self.parts.append(window[max(start, done) :])
        self.carry = window[max(done, len(window) - _LONGEST_TAG) :]
        return items


class _JsonCutter:
    """Follows the strings and brackets of a stream, and cuts out each object or string that may be a candidate."""

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
        position = item_start = 0
        while position < len(piece):
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
                candidates = CandidateList(self.shape)
                value = decode("".join(self.item))
                read_value([value] if self.level else value, candidates)
                items += candidates.items
                self.item = None
        if self.item is not None:
            self.item.append(piece[item_start:])
        return items

    def begins_item(self, sign: str) -> bool:
        """Whether a candidate begins with this sign. One inside another replaces it."""
        if self.in_string or (self.item is not None and self.level):
            return False
        if sign == "{":
            begins = not self.stack or self.in_list(LISTS)
        else:
            begins = sign == '"' and self.strings and self.in_list(_STRING_LISTS)
        if begins:
            self.level = len(self.stack)
        return begins

    def in_list(self, names: frozenset[str]) -> bool:
        """Whether the innermost container is a list of candidates."""
        sign, key = self.stack[-1] if self.stack else ("", "")
        return sign == "[" and (len(self.stack) == 1 or key in names)

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
        elif sign in "{[":
            self.stack.append((sign, plain(self.key)))
            return False
        elif self.stack:
            self.stack.pop()
        return len(self.stack) == self.level
