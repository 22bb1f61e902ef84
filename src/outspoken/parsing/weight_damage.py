"""Damage in a line that states a weight: a number that a sign got into, a bracket or bold print left open."""

from __future__ import annotations

import re

from outspoken.parsing.weight_patterns import LineWeight

__all__ = ["goes_on", "is_open", "note_damage"]

_PRINT = re.compile(r"(?:\*{1,3}|_{1,2}|`)(?=\w)")
_TORN = re.compile(r"(?<![\d.,])0[.,;][^\d\s]{1,2}\d+")
_CUT_ZERO = re.compile(r"(?<![\d.,])0[.,]$")
_GOES_ON = re.compile(r"[.,]?\d[^\s:：]*")
_OPENING, _CLOSING = "([（【", ")]）】"


def note_damage(line: str, found: LineWeight) -> None:
    """Leave the number unread where a sign got into it, and mark a weight that the end of the line cut off."""
    if _CUT_ZERO.search(line):
        found.written = "0."
    marks = _PRINT.match(line)
    if found.key is not None and marks is not None and line.count(marks[0]) % 2:
        found.is_cut = True
    torn = _TORN.search(line)
    if torn is not None and found.written.rstrip(",.").endswith("0"):
        found.written, found.note = torn[0], ""


def goes_on(line: str, end: int) -> str:
    """The digits and signs directly behind the bracket that ends at `end` and got into a number; "" for none."""
    match = _GOES_ON.match(line, end)
    return match[0] if match is not None else ""


def is_open(line: str, end: int) -> bool:
    """Whether a bracket before `end` is not closed in the whole line."""
    return any(sign in line[:end] for sign in _OPENING) and sum(map(line.count, _OPENING)) > sum(
        map(line.count, _CLOSING)
    )
