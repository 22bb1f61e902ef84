"""What surrounds the answer in running text: a draft before it, a choice after it, a refusal."""

from __future__ import annotations

import re

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import FIELD, begins_entry, is_rule
from outspoken.parsing.words import pattern

__all__ = ["answer_lines", "cut_epilogue", "is_refusal", "replaces"]

_REPLACES = re.compile(
    rf"\b(?:{pattern('replaces')})\b|{pattern('replaces_unspaced')}",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    rf"\W*(?:"
    rf"{pattern('choice')}"
    r")s?(?:\s[^\W\d]{2,12})?\W*(?:(?<=[:：—–*-])\s?.*|(?:[^\W\d]+\s?){0,3}#?\d{1,2}\W*)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    rf"(?:"
    rf"{pattern('refusal')}"
    r")",
    re.IGNORECASE,
)


_MOST_LINES = 5_000


def replaces(text: str) -> bool:
    """Whether a text between two answers says that the second replaces the first."""
    return len(text) < 2_000 and _REPLACES.search(text) is not None


def answer_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the answer, without a draft before it and a choice after it, and the repairs."""
    repairs: list[str] = []
    cut = _last_replacement(lines) or _end_of_thought(lines)
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


_THOUGHT = re.compile(
    r"\W{0,6}(?:thinking|thoughts?|thought process|reasoning|analysis)\b\W{0,3}[:：]", re.IGNORECASE
)
_ANSWER = re.compile(r"\W{0,6}(?:answers?|responses?|output|candidates?)\W{1,6}", re.IGNORECASE)


def _end_of_thought(lines: list[str]) -> int:
    """The position after "Answer:" on a line of its own, where the reply begins with "Thinking:"; else 0."""
    if _THOUGHT.match(next(filter(str.strip, lines), "")) is None:
        return 0
    end = next((at for at, line in enumerate(lines) if len(line) < 40 and _ANSWER.fullmatch(line)), -1) + 1
    return end if any(map(find_weight, lines[end : end + 50])) else 0


def _last_replacement(lines: list[str]) -> int:
    """The position after the last line that announces a corrected or final answer; 0 without one.

    The parts before and after it both state weights; the part after states at least half as many.
    """
    marks = [at for at, line in enumerate(lines) if at and 3 < len(line) < 240 and _REPLACES.search(line)]
    if not marks or len(lines) > _MOST_LINES:
        return 0
    weighted = [at for at, line in enumerate(lines) if _states_weight(line)]
    for at in reversed(marks):
        before = sum(1 for each in weighted if each < at)
        after = sum(1 for each in weighted if each > at)
        if at not in weighted and before and after * 2 >= before and _announces(lines, at):
            return at + 1
    return 0


def _states_weight(line: str) -> bool:
    if find_weight(line) is not None:
        return True
    marker = begins_entry(line)
    return marker is not None and find_weight(line[marker.end :]) is not None


def _announces(lines: list[str], at: int) -> bool:
    """Whether a line says that what follows replaces what was before, and is no part of an entry itself.

    It is a title, or ends in a colon, or is a sentence that begins with such a word above a list that begins anew.
    """
    line = lines[at].strip()
    if FIELD.match(line) is not None or begins_entry(line) is not None:
        return False
    bare = line.rstrip("*_ ")
    if bare[-1:] in (":", "："):
        return True
    if line[:1] == "#" or (line[:2] == "**" and line[-2:] == "**"):
        return len(line) < 80
    found = _REPLACES.search(line)
    if found is None or found.start() > 30 or bare[-1:] not in (".", "。", "!", "！"):
        return False
    following = next((after for after in lines[at + 1 :] if after.strip()), "")
    marker = begins_entry(following)
    return marker is not None and marker.written.rpartition(" ")[2] in ("1", "A", "a", "", "一", "①", "I")


def is_refusal(lines: list[str]) -> bool:
    """Whether the first lines decline to answer."""
    head = " ".join(" ".join(lines[:8]).split())[:400]
    match = _REFUSAL.search(head)
    return match is not None and match.start() < 160


_CLOSING = re.compile(
    rf"\W*(?:"
    rf"{pattern('closing')}"
    r")",
    re.IGNORECASE,
)


_BRACKETS = re.compile(r"\s*[(（\[][^()（）\[\]]{0,20}\d[^()（）\[\]]{0,20}[)）\]]\W*")


def cut_epilogue(blocks: list[list[str]], into: CandidateList, *, titled: bool) -> None:
    """Remove the prose after the list from its last entry.

    It begins at a rule, at a paragraph that closes a reply, or where the last entry has more paragraphs than the
    others have.
    """
    if not blocks:
        return
    last = blocks[-1]
    most = max((_paragraphs(block) for block in blocks[:-1]), default=99)
    indented = all(line[:1].isspace() for block in blocks[:-1] for line in block[1:] if line.strip()) and any(
        line.strip() for block in blocks[:-1] for line in block[1:]
    )
    title = find_weight(last[0])
    named = titled and title is not None and not title.tail and not title.alone
    seen = (
        bool(last[0].strip(" :：*_")) and (title is None or not title.alone) and not _BRACKETS.fullmatch(last[0])
    )
    paragraphs = 1 if last[0].strip() else 0
    ends = sum(map(_ends_in_weight, blocks[:-1]))
    weights_end = ends > 0 and ends * 2 >= len(blocks) - 1
    for at in range(1, len(last)):
        line = last[at]
        if not line.strip():
            continue
        starts = not last[at - 1].strip() or is_rule(last[at - 1])
        if is_rule(line):
            if not seen or at == 1:
                continue
            rest = last[at + 1 :]
            if not any(find_weight(part) for part in rest):
                _drop(last, at, into)
                return
        elif starts and seen:
            paragraphs += 1
            weighted = any(find_weight(part) is not None and find_weight(part).alone for part in last[at:])  # type: ignore[union-attr]
            stray = indented and not line[:1].isspace() and len(blocks) > 1
            ended = weights_end and _ends_in_weight(last[:at])
            if not weighted and (_CLOSING.match(line) or paragraphs > max(most, 1 + named) or stray or ended):
                _drop(last, at, into)
                return
        elif (
            seen
            and _CLOSING.match(line)
            and len(blocks) > 1
            and find_weight(last[at - 1]) is not None
            and find_weight(line) is None
        ):
            _drop(last, at, into)
            return
        seen = True


def _drop(block: list[str], at: int, into: CandidateList) -> None:
    if any(line.strip() and not is_rule(line) for line in block[at:]):
        into.repairs.append("suffixed")
    del block[at:]


def _ends_in_weight(block: list[str]) -> bool:
    """Whether the last line of an entry that has any letters ends in its weight."""
    line = next((line for line in reversed(block) if any(map(str.isalnum, line))), "")
    weight = find_weight(line)
    return weight is not None and not weight.tail


def _paragraphs(block: list[str]) -> int:
    """The number of paragraphs in an entry: runs of lines that are neither blank nor signs alone."""
    count, inside = 0, False
    for line in block:
        text = any(map(str.isalnum, line)) and not is_rule(line)
        count += text and not inside
        inside = text
    return count
