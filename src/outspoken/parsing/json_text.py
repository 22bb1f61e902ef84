"""JSON in the text of a reply, among fences and prose; damaged JSON is repaired piece by piece."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.json_signs import is_known, key_at
from outspoken.parsing.json_values import content_of, decode, read_value
from outspoken.parsing.lenient_json import LenientValue, relax
from outspoken.reply_shape import ReplyShape

__all__ = ["balanced", "first_json", "lone_value", "read_json", "read_valid_json"]

_MAX_LONE_OPENINGS = 20
_OPEN = re.compile(
    r"\{\s*+(?:[\"'“„«}]|[^\W\d]\w{0,40}+\s*+[:：]|\d{1,4}\s*+[:：])|\[\s*+(?:[{\[\"'“„(]|$)|(?:\A|(?<=\n))\(\s*+[\"'“]",
    re.MULTILINE,
)
_KNOWN_KEY = re.compile(r"[{(]\s*+[\"'“”„«]?([^\W\d][\w -]{0,40}+)[\"'“”»]?\s*+[:：]")
_BRACKETS = re.compile(r"(?:[\[({]\s*+)*+")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OTHER_QUOTES = re.compile(r"[\[{(\s]*+['“„«＂”]")
_MAX_STRAYS = 8
_MAX_DEPTH = 200


def first_json(text: str) -> tuple[int, int]:
    """The positions of the first known key in a bracket, and of the first opening of any JSON; -1 for none."""
    certain = next((match.start() for match in _KNOWN_KEY.finditer(text) if is_known(match[1])), -1)
    opening = _OPEN.search(text)
    return certain, opening.start() if opening else -1


def read_json(text: str, into: CandidateList, *, last_only: bool = False) -> tuple[int, int] | None:
    """Add the candidates of every JSON value in `text`; returns their span, or None if there are none.

    With `last_only` a later value replaces the earlier ones. Each region is scanned a fixed number of times.
    """
    span: tuple[int, int] | None = None
    position = parts = strays = 0
    while strays < _MAX_STRAYS and (opening := _OPEN.search(text, position)) is not None:
        start = opening.start()
        trial = CandidateList(into.shape)
        end = _read_region(text, start, trial)
        position = start + 1 if end is None else end
        strays += end is None
        into.list_seen |= trial.list_seen
        into.reasoning += trial.reasoning
        if trial.items:
            span = (start if span is None or last_only else span[0], position)
            parts = 1 if last_only else parts + 1
            if last_only:
                into.items.clear()
            into.items += trial.items
            into.repairs += trial.repairs
    if parts > 1:
        into.repairs.append("several")
    return span


def read_valid_json(text: str, into: CandidateList) -> bool:
    """Add the candidates of valid JSON; False if it is not valid."""
    value = decode(text, into.repairs)
    read_value(value, into)
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
    if text[start] == "(" or _OTHER_QUOTES.match(text, start):
        return None
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        sign = match[0]
        if sign in "{[":
            depth += 1
            if depth > _MAX_DEPTH:
                return None
        elif sign in "}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return None


def _read_region(text: str, start: int, into: CandidateList) -> int | None:
    """Read the value that opens at `start`; returns the position after it, or None if its end is unknown."""
    end = balanced(text, start)
    if end is not None and read_valid_json(text[start:end], into):
        return end
    relaxed = relax(text, start, cut=True)
    if relaxed is None or (
        not _is_certain(text, start) and any(_KNOWN_KEY.search(text, *span) for span in relaxed.texts)
    ):
        return None
    before = len(into.items)
    if not read_value(relaxed.value, into):
        return None
    into.repairs += relaxed.repairs
    _record_cut(relaxed, into.items[before:])
    return relaxed.end


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
