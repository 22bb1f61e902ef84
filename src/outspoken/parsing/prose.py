"""What surrounds the answer in running text: drafts that a later version replaces, a choice after it, a "
"refusal."""

from __future__ import annotations

import re

from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import is_rule
from outspoken.parsing.words import pattern

__all__ = ["answer_lines", "is_refusal", "replaces"]

_REPLACES = re.compile(
    rf"\b(?:{pattern('replaces')})\b|{pattern('replaces_unspaced')}",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    rf"\W*(?:"
    rf"{pattern('choice')}"
    r")(?:\s?(?:response|option|answer|idea|candidate))?s?\s?\W*(?:[:：—–-].*|\s?#?\d{1,2}\W*)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    rf"(?:"
    rf"{pattern('refusal')}"
    r")",
    re.IGNORECASE,
)


def replaces(text: str) -> bool:
    """Whether a text between two answers says that the second replaces the first."""
    return len(text) < 2_000 and _REPLACES.search(text) is not None


def answer_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the answer, without a draft before it and a choice after it, and the repairs."""
    repairs: list[str] = []
    cut = _last_replacement(lines)
    if cut:
        lines = lines[cut:]
        repairs.append("draft")
    for at in range(1, len(lines)):
        line = lines[at].strip()
        if (
            not line
            or len(line) > 200
            or (lines[at - 1].strip() and not is_rule(lines[at - 1]) and line[0] not in "#*")
        ):
            continue
        after = lines[at + 1 : at + 200]
        if _CHOICE.fullmatch(line) and any(lines[:at]) and not any(find_weight(rest) for rest in after):
            repairs.append("suffixed")
            return lines[:at], repairs
    return lines, repairs


def _last_replacement(lines: list[str]) -> int:
    """The position after the last line that announces a corrected or final answer; 0 without one.

    The parts before and after it both state weights; the part after states at least half as many.
    """
    if len(lines) > 5_000:
        return 0
    weighted = [at for at, line in enumerate(lines) if find_weight(line) is not None]
    if len(weighted) < 2:
        return 0
    others = set(range(1, len(lines))).difference(weighted)
    marks = [at for at in sorted(others) if 0 < len(lines[at].strip()) < 240 and _REPLACES.search(lines[at])]
    for at in reversed(marks):
        before = sum(1 for each in weighted if each < at)
        after = sum(1 for each in weighted if each > at)
        if at in weighted or not before or after * 2 < before:
            continue
        blank = next((line for line in range(at - 1, -1, -1) if lines[line].strip()), 0)
        announces = (
            lines[at].strip().rstrip("*_ ")[-1:] in tuple(":：.。!")
            or lines[at].lstrip()[:1] in "#*"
            or blank < at - 1
        )
        if announces:
            return at + 1
    return 0


def is_refusal(lines: list[str]) -> bool:
    """Whether the first lines decline to answer."""
    head = " ".join(" ".join(lines[:8]).split())[:400]
    match = _REFUSAL.search(head)
    return match is not None and match.start() < 160
