"""Finding the JSON in a reply: fences, prose and brackets around it, several values in a row."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_candidates import FoundCandidates, decode, interpret, payload
from outspoken.parsing.lenient_json import relax
from outspoken.parsing.salvage import mark_cut, mend
from outspoken.reply_shape import ReplyShape

__all__ = ["balanced", "decoded", "first_json", "lone_value", "read_json"]

_MOST_OPENINGS = 20
_OPEN = re.compile(
    r"\{\s*+(?:[\"'“„«}]|[^\W\d]\w{0,40}+\s*+[:：])|\[\s*+(?:[{\[\"'“„(]|$)|(?:\A|(?<=\n))\(\s*+[\"'“]",
    re.MULTILINE,
)
_KNOWN_KEY = re.compile(r"[{(]\s*+[\"'“”„«]?([^\W\d][\w -]{0,40}+)[\"'“”»]?\s*+[:：]")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OTHER_QUOTES = re.compile(r"[\[{(\s]*+['“„«＂”]")
_STRAYS = 8
_DEEPEST = 200


def first_json(text: str) -> tuple[int, int]:
    """Where JSON may begin: at a key that only a reply of ours has, and at any opening. -1 for nowhere."""
    names = TEXTS.keys() | WEIGHTS.keys() | LISTS | REASONING
    sure = next((m.start() for m in _KNOWN_KEY.finditer(text) if plain(m[1]) in names), -1)
    opening = _OPEN.search(text)
    return sure, opening.start() if opening else -1


def read_json(
    text: str, shape: ReplyShape | None, found: FoundCandidates, *, last_only: bool = False
) -> tuple[int, int] | None:
    """Add the candidates of every JSON value in `text`; the span that they cover, or None where there are none.

    With `last_only` a later value replaces the earlier ones. Every region is looked at a fixed number of times.
    """
    span: tuple[int, int] | None = None
    at = parts = strays = 0
    while strays < _STRAYS and (opening := _OPEN.search(text, at)) is not None:
        start = opening.start()
        trial = FoundCandidates()
        end = _region(text, start, shape, trial)
        at = start + 1 if end is None else end
        strays += end is None
        found.listed |= trial.listed
        found.reasoning += trial.reasoning
        if trial.items:
            span = (start if span is None or last_only else span[0], at)
            parts = 1 if last_only else parts + 1
            if last_only:
                found.items.clear()
            found.items += trial.items
            found.repairs += trial.repairs
    if parts > 1:
        found.repairs.append("several")
    return span


def decoded(text: str, shape: ReplyShape | None, found: FoundCandidates) -> bool:
    """Add the candidates of sound JSON; False where it is not sound."""
    value = decode(text)
    interpret(value, shape, found)
    return value is not None


def lone_value(text: str, shape: ReplyShape) -> tuple[str, Any, tuple[str, ...]]:
    """The one JSON value that a reply holds, its text, and what was mended: it stood in a fence or among prose.

    Where there is none, the text is the value.
    """
    content, value = payload(text, shape)
    if not isinstance(value, str):
        return content, value, ()
    for opening in islice(_OPEN.finditer(text), _MOST_OPENINGS):
        end = balanced(text, opening.start())
        if end is None:
            break
        content, found = payload(text[opening.start() : end], shape)
        if not isinstance(found, str):
            return content, found, ("fenced" if "```" in text else "prefixed",)
    return text, value, ()


def _region(text: str, start: int, shape: ReplyShape | None, found: FoundCandidates) -> int | None:
    """Read the value that opens at `start`; the position behind it, or None where it is not known to end."""
    end = balanced(text, start)
    if end is None:
        relaxed = relax(text, start) or relax(text, start, cut=True)
        region = ""
    else:
        region = text[start:end]
        if decoded(region, shape, found):
            return end
        relaxed = relax(region)
    gentle, mended = FoundCandidates(), FoundCandidates()
    if relaxed is not None:
        if interpret(relaxed.value, shape, gentle):
            gentle.repairs += relaxed.repairs
            mark_cut(relaxed, gentle)
        # A string that is never closed and holds a brace may have swallowed candidates.
        if not (relaxed.partial and "}" in relaxed.partial):
            found.absorb(gentle)
            return relaxed.end if end is None else start + relaxed.end
    if mend(region or text[start:], shape, mended) and len(mended.items) > len(gentle.items):
        found.absorb(mended)
        return end or len(text)
    found.absorb(gentle)
    return end or (len(text) if gentle.items else None)


def balanced(text: str, start: int) -> int | None:
    """The position behind the bracket that closes the one at `start`, where strings are in JSON's quotes."""
    if text[start] == "(" or _OTHER_QUOTES.match(text, start):
        return None
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        sign = match[0]
        if sign in "{[":
            depth += 1
            if depth > _DEEPEST:
                return None
        elif sign in "}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return None
