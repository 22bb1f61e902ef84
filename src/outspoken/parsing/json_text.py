"""JSON in the text of a reply, among fences and prose: where its values begin and end."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.json_answers import Document, is_template, the_answer
from outspoken.parsing.json_encodings import encoded_opening, plain_json
from outspoken.parsing.json_signs import is_known, key_at
from outspoken.parsing.json_values import content_of, decode, read_value
from outspoken.parsing.lenient_json import LenientValue, relax
from outspoken.parsing.string_ends import StringEnds
from outspoken.reply_shape import ReplyShape

__all__ = ["balanced", "first_json", "lone_value", "read_json", "read_valid_json"]

_MAX_LONE_OPENINGS = 20
_MAX_STRAYS = 30
_STRAY_WORK = 100
_DOCUMENT_WORK = 30
_MAX_DEPTH = 100
_IN_BRACE = (
    r"\s*+(?:[\"'“„«「『＂}]|[^\W\d][\w$-]{0,40}+\s*+(?:[:：]|=>?(?!=))|:[^\W\d]\w{0,40}+\s*=>|\d{1,4}\s*+[:：]"
    r"|[{｛(]\s*+[\"'“\w\[]|\[[\"']|[^\W\d][\w -]{0,40}+[\"'”]\s{0,9}[:：])"
)
_IN_SQUARE = (
    r"(?!\s*+\[\s*+[\d.,]++\s*+%?+\s*+\]|\[[^\W\d][\w. -]{0,60}\]\])"
    r"\s*+(?:[{｛\[［\"'“„«「(]|$|(?:new\s)?[^\W\d][\w.]{0,60}+\()"
)
_TUPLE = r"\s*+[\"'“]"
_KEY_ALONE = r"(?:[^\W\d_]{1,20}[ _-]?1|text|response|answer|output|completion|content)\"\s*+:\s*+[\"\d]"
_ARGUMENT = r"\(\s*+(?=[\"'\[{]|[^\W\d]\w{0,40}+(?:\s?=|\())"
_CALL = re.compile(rf"(?<![\w.\"'(])(?:new\s)?[^\W\d][\w.]{{0,60}}+{_ARGUMENT}")
_OPEN = re.compile(
    rf"[{{｛]{_IN_BRACE}|[\[［]{_IN_SQUARE}|(?:\A|(?<=\n))(?:\({_TUPLE}|\"{_KEY_ALONE})|{_CALL.pattern}",
    re.MULTILINE,
)
# The same in parts that begin with a sign, which are found twenty times as fast; and the bracket of a call.
_OPEN_BRACKET = re.compile(rf"[{{｛\[［](?:(?<=[{{｛]){_IN_BRACE}|(?<=[\[［]){_IN_SQUARE})", re.MULTILINE)
_OPEN_LINE = re.compile(rf"[(\"](?:(?<=^\(){_TUPLE}|(?<=^\"){_KEY_ALONE})", re.MULTILINE)
_OPEN_CALL = re.compile(r"\((?<=[\w.]\()" + _ARGUMENT[2:])
_LONGEST_NAME = 66
_MOST_BRACKETS = 200
_KNOWN_KEY = re.compile(r"[{(｛]\s*+[\"'“”„«「『＂]?([^\W\d][\w -]{0,40}+)[\"'”“»」』＂]?\s*+(?:[:：]|=>?(?!=))")
_BRACKETS = re.compile(r"(?:new\s)?(?:[^\W\d][\w.]{0,60}+\(\s*+)?(?:[\[({｛［]\s*+){0,8}+")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OTHER_SIGNS = re.compile(r"[^{\[]|[\[{(\s]*+['“„«＂”]")


def first_json(text: str) -> tuple[int, int]:
    """The positions of the first known key in a bracket, and of the first opening of any JSON; -1 for none."""
    certain = next((match.start() for match in _KNOWN_KEY.finditer(text) if is_known(match[1])), -1)
    possible = _first_opening(text)
    if certain < 0 <= possible and text[possible] == '"' and text.find("}", possible) >= 0:
        certain = possible
    encoded = encoded_opening(text, possible)
    if encoded >= 0:
        return encoded, encoded
    return certain, possible


def _first_opening(text: str) -> int:
    """The position of the first opening, or -1: what `_OPEN` finds, without holding up other threads for long."""
    found = [
        match.start() for pattern in (_OPEN_BRACKET, _OPEN_LINE) if (match := pattern.search(text)) is not None
    ]
    for number, bracket in enumerate(_OPEN_CALL.finditer(text)):
        if found and bracket.start() > min(found) + _LONGEST_NAME:
            break
        start = max(0, bracket.start() - _LONGEST_NAME)
        end = bracket.end() + _LONGEST_NAME if number < _MOST_BRACKETS else len(text)
        call = _CALL.search(text, start, end)
        if call is not None and (number == _MOST_BRACKETS or call.start() < bracket.start()):
            found.append(call.start())
            break
        if number == _MOST_BRACKETS:
            break
    return min(found, default=-1)


def read_json(text: str, into: CandidateList, *, last_only: bool = False) -> tuple[int, int] | None:
    """Add the candidates of the answer in `text`; returns its span, or None if there are none.

    The answer is one JSON value, or several that continue one another. One that replaces those before it is the
    answer alone; with `last_only` each one does. Linear in the length of the text.
    """
    encoded = encoded_opening(text, _first_opening(text))
    if encoded >= 0:
        plain, end = plain_json(text, encoded)
        if read_json(plain, into, last_only=last_only) is not None:
            into.repairs.append("decoded")
            return encoded, end
        return None
    documents = _documents(text, into)
    answer = the_answer(documents, text, into, last_only=last_only)
    for document in answer:
        into.items += document.read.items
        into.repairs += document.read.repairs
    if len(answer) > 1:
        into.repairs.append("several")
    return (answer[0].start, answer[-1].end) if answer else None


def _documents(text: str, into: CandidateList) -> list[Document]:
    """Every JSON value in the text that holds candidates or describes them."""
    documents: list[Document] = []
    ends = StringEnds(text)
    position = strays = 0
    while ends.work > 0 and (start := _next_opening(text, position, certain=strays >= _MAX_STRAYS)) >= 0:
        read = CandidateList(into.shape)
        value, end = _read_region(text, start, read, ends)
        into.list_seen |= read.list_seen
        into.reasoning += read.reasoning
        if end is None:
            strays += 1
            ends.work -= _STRAY_WORK
            position = ends.reached if ends.too_deep else start + 1
            continue
        position = end
        documents.append(Document(start, end, value, read))
    return documents


def _next_opening(text: str, position: int, *, certain: bool) -> int:
    """The position of the next bracket that may open JSON, or with `certain` of one before a known key; or -1."""
    if not certain:
        opening = _OPEN.search(text, position)
        return opening.start() if opening is not None else -1
    return next((match.start() for match in _KNOWN_KEY.finditer(text, position) if is_known(match[1])), -1)


def read_valid_json(text: str, into: CandidateList) -> bool:
    """Add the candidates of valid JSON; False if it is not valid."""
    value = decode(text, into.repairs)
    read_value(value, into)
    if is_template(value, into.items):
        into.items.clear()
    return value is not None


def lone_value(text: str, shape: ReplyShape) -> tuple[str, Any, tuple[str, ...]]:
    """The text and the value of the one JSON value in a reply, and the repair if it was in a fence or among prose.

    Without a JSON value, the text is the value.
    """
    content, value = content_of(text, shape)
    if not isinstance(value, str):
        return content, value, ()
    for opening in islice(_OPEN.finditer(text), _MAX_LONE_OPENINGS):
        end = balanced(text, opening.start())
        if end is None:
            break
        content, inner = content_of(text[opening.start() : end], shape)
        if not isinstance(inner, str):
            return content, inner, ("fenced" if "```" in text else "prefixed",)
    return text, value, ()


def balanced(text: str, start: int) -> int | None:
    """The position after the bracket that closes the one at `start`, for JSON with its own quotes, or None."""
    return _balanced(text, start)[0]


def _balanced(text: str, start: int) -> tuple[int | None, int]:
    """The position after the closing bracket, and the one up to which it was looked for."""
    if _OTHER_SIGNS.match(text, start):
        return None, start
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        sign = match[0]
        if sign in "{[":
            depth += 1
            if depth > _MAX_DEPTH:
                return None, match.end()
        elif sign in "}]":
            depth -= 1
            if depth == 0:
                return match.end(), match.end()
    return None, len(text)


def _read_region(text: str, start: int, into: CandidateList, ends: StringEnds) -> tuple[Any, int | None]:
    """Read the value that opens at `start`: the value and the position after it, or None without candidates."""
    end, reached = _balanced(text, start) if ends.work > 0 else (None, start)
    ends.work -= (reached - start) // 10 + _DOCUMENT_WORK
    if end is not None:
        value = decode(text[start:end], into.repairs)
        if value is not None:
            read_value(value, into)
            if any(isinstance(item.value, (dict, list)) and _holds_text(item.value) for item in into.items):
                into.repairs.append("guessed")
            return value, end
    relaxed = relax(text, start, cut=True, ends=ends)
    if relaxed is None:
        return None, None
    certain = _is_certain(text, start)
    if not certain and _has_swallowed(relaxed):
        return None, None
    before = len(into.items)
    if not read_value(relaxed.value, into):
        return None, None
    if not certain and text[start].isalpha() and not _is_statement(text, start, relaxed.value):
        into.items.clear()
        return None, None
    if any(_holds_candidate(item.text) for item in into.items[before:]):
        into.repairs.append("guessed")
    into.repairs += relaxed.repairs
    _record_cut(relaxed, into.items[before:])
    return relaxed.value, relaxed.end


def _has_swallowed(relaxed: LenientValue) -> bool:
    """Whether a text of the value holds candidates of its own, because it began with a bracket of prose."""
    value = relaxed.value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    texts = [part for part in parts if isinstance(part, str)] if relaxed.texts else []
    return any(map(_holds_candidate, texts))


def _holds_text(value: Any) -> bool:
    """Whether the value of a candidate holds a list of objects with texts, which may be the candidates."""
    parts = value.values() if isinstance(value, dict) else value
    return any(
        "text" in part if isinstance(part, dict) and isinstance(value, list) else _holds_text(part)
        for part in parts
        if isinstance(part, (dict, list))
    )


def _holds_candidate(text: str) -> bool:
    """Whether a text that was read from damaged JSON holds an object with a known key."""
    return any(is_known(match[1]) for match in _KNOWN_KEY.finditer(text))


def _is_statement(text: str, start: int, value: object) -> bool:
    """Whether a call without known keys stands on its own line and has a text and a probability."""
    if text[text.rfind("\n", 0, start) + 1 : start].strip(" \t;>`"):
        return False
    if isinstance(value, list):
        return any(isinstance(entry, dict) and "probability" in entry for entry in value)
    return isinstance(value, dict) and "text" in value and isinstance(value.get("probability"), float)


def _is_certain(text: str, start: int) -> bool:
    """Whether the bracket at `start`, or one directly inside it, is followed by a known key."""
    inside = _BRACKETS.match(text, start).end()  # type: ignore[union-attr]
    key = key_at(text, inside)
    return key is not None and is_known(key.name)


def _record_cut(value: LenientValue, items: list[RawCandidate]) -> None:
    """Record a missing end with the candidate that was cut off."""
    if value.cut in ("string", "object"):
        text_cut = value.partial is not None and items[-1].text == value.partial.strip()
        items[-1].repairs.append("truncated" if text_cut else "unclosed")
