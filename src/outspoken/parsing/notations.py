"""Lines in a notation of their own, brought to the usual one: titles between signs, labels in brackets, rows."""

from __future__ import annotations

import re
from itertools import pairwise

from outspoken.parsing.field_names import TEXTS, WEIGHT_LABEL, plain
from outspoken.parsing.markers import heading_level
from outspoken.parsing.weight_patterns import WEIGHT_FIELD, weight_of

__all__ = ["usual_lines", "with_values"]

_LONGEST = 2_000
_TITLE_BETWEEN = re.compile(
    r"\s*(?P<mark>[=~-])(?P=mark){1,30}\s*(?P<title>[^\s=~|-].{0,200}?)\s*(?P=mark){2,30}\s*"
)
_TITLE_AFTER = re.compile(r"={2,5}[ \t]+(?P<title>[^\s=].{0,200})")  # AsciiDoc
_LABEL_IN_BRACKETS = re.compile(
    rf"\[\s?(?P<label>(?:[GP]|(?i:{WEIGHT_LABEL}))\s?\d{{1,2}})\s?\](?=\s{{0,3}}[^\s:：=(])"
)
_NAME = r"(?:G|(?:Guess|Answer|Response|Option|Candidate)\s?)"
_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_INTRODUCTION = re.compile(r"[^.\n]{3,120}[:：](?=\s1[.)]\s.{1,400}\s2[.)]\s)")
_FIRST_OF_ROW = re.compile(rf"[\W_]{{0,8}}{_NAME}1\s?[:=]\s")
_NEXT_OF_ROW = re.compile(rf"(?<=[\s;,|]){_NAME}(?P<index>\d{{1,2}})\s?[:=](?=\s)")


def usual_lines(line: str) -> list[str]:
    """A line as Markdown: "=== Title ===" as a heading, "[P1] 0.6" as "P1: 0.6", "G1: a G2: b" as two lines."""
    if line[:1] in _INVISIBLE:
        line = line.lstrip(_INVISIBLE)
    if line[:3].strip()[:1] in ("=", "~", "-"):
        title = _TITLE_BETWEEN.fullmatch(line) or _TITLE_AFTER.fullmatch(line)
        if title is not None:
            return [f"## {title['title']}"]
    if len(line) > _LONGEST:
        return [line]
    if line[1:2] == "|" and line[:1] not in " |\\" and not line[:1].isalnum() and line.count("|") > 2:
        line = line[1:]
    if "[" in line:
        line = _LABEL_IN_BRACKETS.sub(r"\g<label>:", line)
    introduction = _INTRODUCTION.match(line) if " 1" in line[:130] else None
    if introduction is not None:
        return [introduction[0], line[introduction.end() :].strip()]
    if _FIRST_OF_ROW.match(line) is None:
        return [line]
    following = list(_NEXT_OF_ROW.finditer(line))
    if [int(match["index"]) for match in following] != list(range(2, len(following) + 2)):
        return [line]
    cuts = [0, *(match.start() for match in following), len(line)]
    return [line[start:end].rstrip(" \t;,|") for start, end in pairwise(cuts)]


def with_values(lines: list[str]) -> list[str]:
    """The lines, with a label of a weight joined to its value where that stands alone on the next line.

    Where the label is a heading, the name of a text alone in a heading is a label, too.
    """
    joined: list[str] = []
    below_headings = False
    for line in lines:
        bare = line.strip(" \t*_`$")
        if 0 < len(bare) < 30 and joined and weight_of(bare):
            above = next((at for at in (-1, -2) if len(joined) >= -at and joined[at].strip()), 0)
            label, is_heading = _label(joined[above]) if above else ("", False)
            if label and WEIGHT_FIELD.fullmatch(label) is not None:
                joined[above:] = [f"{label} {bare}"]
                below_headings |= is_heading
                continue
        joined.append(line)
    return [_text_label(line) for line in joined] if below_headings else joined


def _label(line: str) -> tuple[str, bool]:
    """A line that may be nothing but a label, with its colon, and whether it is a heading; "" for another line."""
    if len(line) > 60:
        return "", False
    label = line.strip(" \t*_`")
    if heading_level(line):
        return label.strip("# *_:") + ":", True
    return (label, False) if label[-1:] in tuple(":：=") else ("", False)


def _text_label(line: str) -> str:
    """A heading that is the name of a text, as a label; any other line as it is."""
    name, is_heading = _label(line)
    return name if is_heading and plain(name.rstrip(":")) in TEXTS else line
