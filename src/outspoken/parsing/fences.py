"""Fenced blocks in running text: those around a list, and those inside an entry."""

from __future__ import annotations

import re

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import begins_entry, heading_level, marker_of

__all__ = ["restored", "without_fences"]

_FENCE_LINE = re.compile(
    r"[ \t]{0,12}(?:[-*>][ \t])?(?P<marks>```+|~~~+)(?P<name>[ \t]*[\w+.#-]{0,20}(?:[ \t]+[\w=:{}.\"-]{1,40})?)"
)
_GLUED_FENCE = re.compile(r"^[ \t]{0,8}(?:```+|~~~+)(?=(?:[-*•#(\[]|\d{1,3}[.)]|[^\W\d]+ \d)[^`~]*$)")
_LANGUAGE = re.compile(r"\s?[a-z0-9+#-]{0,20}")
_PROSE = frozenset(
    ("", "text", "txt", "markdown", "md", "plaintext", "plain", "csv", "tsv", "yaml", "yml", "toml", "ini", "json")
)
_FIRST_PLACEHOLDER = 0xF0000
_FIRST_LINES = 6
_MOST_FENCES = 5_000
_PLACEHOLDER = re.compile(f"[{chr(_FIRST_PLACEHOLDER)}-{chr(_FIRST_PLACEHOLDER + _MOST_FENCES)}]")


def without_fences(text: str, into: CandidateList, held: list[str]) -> str:
    """The text without the lines of a fence around a list; a fenced block inside an entry becomes one sign.

    A fence opens and closes at the beginning of a line, and is closed by marks of its own kind. `held` receives
    the blocks that the signs stand for.
    """
    if "```" not in text and "~~~" not in text:
        return text
    lines = [_GLUED_FENCE.sub("", line, count=1) for line in text.split("\n")]
    kept: list[str] = []
    at, begun = 0, False
    closings = _closings(lines)
    while at < len(lines):
        end = closings.get(at)
        if end is None:
            begun = begun or begins_entry(lines[at]) is not None or find_weight(lines[at]) is not None
            kept.append(lines[at])
            at += 1
            continue
        inner = lines[at + 1 : end]
        match = _FENCE_LINE.fullmatch(lines[at].rstrip())
        name = match["name"].strip().lower() if match is not None else ""
        entries = sum(1 for line in inner[:400] if begins_entry(line) or find_weight(line))
        if begun and not name and entries and end == len(lines):
            # The end of a block whose beginning was lost: of the one around the list, or of one inside an entry.
            around = any(line.strip() in ("``", "`", "~~", "~") for line in kept[:_FIRST_LINES])
            kept += [] if around else [lines[at]]
            at += 1
            continue
        around = name in _PROSE and (not begun or entries > 1)
        if around or (entries and not begun) or (end == len(lines) and not entries and not name):
            into.repairs.append("fenced")
            kept += inner
        elif len(held) < _MOST_FENCES:
            kept.append(chr(_FIRST_PLACEHOLDER + len(held)))
            held.append("\n".join(lines[at : end + 1]))
        else:
            kept += lines[at : end + 1]
        at = end + 1
    return "\n".join(kept)


def _closings(lines: list[str]) -> dict[int, int]:
    """The line that closes each fence: the next one of the same marks without a name, or the last line."""
    found: dict[int, int] = {}
    opened: tuple[int, str] | None = None
    for at, line in enumerate(lines):
        match = _FENCE_LINE.fullmatch(line.rstrip()) if "```" in line or "~~~" in line else None
        if match is None:
            continue
        if opened is None:
            opened = (at, match["marks"])
        elif match["marks"][0] == opened[1][0] and not match["name"].strip():
            found[opened[0]] = at
            opened = None
    if opened is not None:
        found[opened[0]] = _glued_closing(lines, *opened)
    return found


def _glued_closing(lines: list[str], opened: int, marks: str) -> int:
    """The line of marks that a text follows ("```Done."), as the end of a fence without another; else the last."""
    if lines[opened].strip() == marks:
        return len(lines)
    glued = (at for at in range(opened + 1, len(lines)) if lines[at].strip().startswith(marks))
    closing = next((at for at in glued if not _LANGUAGE.fullmatch(lines[at].strip().lstrip("`~"))), len(lines))
    if closing < len(lines) or not any(map(_is_title, lines[:opened])):
        return closing
    # Without any end, the block ends above the title of the next entry.
    return next((at - 1 for at in range(opened + 1, len(lines)) if _is_title(lines[at])), len(lines))


def _is_title(line: str) -> bool:
    """Whether a line is the title of an entry, which no line of a program looks like."""
    if marker_of("label", line) is not None or marker_of("ordinal", line) is not None:
        return True
    return heading_level(line) > 0 and find_weight(line) is not None


def restored(text: str, held: list[str]) -> str:
    """The text with the blocks that signs stand for."""
    return _PLACEHOLDER.sub(lambda mark: held[ord(mark[0]) - _FIRST_PLACEHOLDER], text)
