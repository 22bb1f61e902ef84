"""Labels with one wrong letter ("Probabiliy:", "Respnse 3:") or a lost index, written as they were meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice, takewhile

from outspoken.parsing.field_names import BOOKKEEPING, LISTS, QUESTIONS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import FIELD, marker_of
from outspoken.parsing.numbers import number
from outspoken.parsing.weight_patterns import WEIGHT_FIELD

__all__ = ["as_written", "is_misspelt_weight", "with_mended_labels"]

# A word with at most one sign in it, an index, and a colon or a bracket.
_LABEL = re.compile(
    r"(?P<lead>\W{0,8}?)(?P<word>[^\W\d_]{1,24}(?:[^\w\s*(（\[][^\W\d_]{0,24})?)"
    r"(?P<index>\s?[^\w\s*(（\[]?(?:\d{1,3}|(?<=\s)[A-Z]))?(?P<end>[*_]{0,3}(?:[:：]{1,2}(?=[\s*_]|$)|\s{0,2}[(（\[]|(?<=\d)\s*$))"
)
_SHORTEST = 6
_OTHER_NAMES = frozenset(
    name for names in (LISTS, QUESTIONS, REASONING, BOOKKEEPING, TEXTS, WEIGHTS) for name in names
)
_Ends = tuple[str, str]


def _ends(word: str) -> tuple[_Ends, _Ends]:
    """The first letters of a word, and its last ones: a word that is near to it shares these or those."""
    return (word[: _SHORTEST // 2], ""), ("", word[-_SHORTEST // 2 :])


def _by_ends(names: Iterable[str]) -> dict[_Ends, list[str]]:
    groups: dict[_Ends, list[str]] = {}
    for name in names:
        for ends in _ends(name):
            groups.setdefault(ends, []).append(name)
    return groups


_WEIGHTS = _by_ends(name for name in WEIGHTS if len(name) > _SHORTEST)


_BEHIND = 8  # How many signs behind a label must be the same for it to be the one that was set right.
_MOST_CHANGES = 50


def as_written(texts: list[str], before: list[str], after: list[str]) -> list[str]:
    """Texts with their labels as the reply has them: `after` are the lines `before` with labels set right."""
    changes = []
    for old, new in islice(
        ((old, new) for old, new in zip(before, after, strict=True) if old != new), _MOST_CHANGES
    ):
        same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(old), reversed(new), strict=False))
        kept = max(0, sum(1 for _ in same) - _BEHIND)
        changes.append((new[: len(new) - kept].strip(), old[: len(old) - kept].strip()))
    for new, old in changes:
        texts = [text.replace(new, old) for text in texts]
    return texts


def with_mended_labels(lines: list[str], repairs: list[str]) -> list[str]:
    """The lines with labels that are one letter away from a label of other lines, or of a weight, set right.

    A label that lost the index that the same labels above and below it have gets it back.
    """
    return _with_lost_index(_with_lost_letter(lines, repairs), repairs)


_INDEXED = re.compile(
    r"(?P<before>\W{0,6}(?P<word>[^\W\d_]{1,16}))(?P<index>\s?(?:\d{1,3}|(?<=\s)[A-Z]))?(?=\W{0,4}[:：])"
)


def _with_lost_index(lines: list[str], repairs: list[str]) -> list[str]:
    labels: dict[str, list[tuple[int, re.Match[str]]]] = {}
    for at, line in enumerate(lines):
        match = _INDEXED.match(line)
        if match is not None:
            labels.setdefault(match["word"], []).append((at, match))
    for found in labels.values():
        lost = [place for place, (_, match) in enumerate(found) if match["index"] is None]
        if len(lost) != 1 or len(found) < 2:
            continue
        at, match = found[lost[0]]
        index = _index_between(found, lost[0])
        # A last one may also name the choice: "Answer: 2".
        is_entry = lost[0] + 1 < len(found) or any(map(find_weight, lines[at : at + 3]))
        if index is not None and is_entry:
            repairs.append("wrong-key")
            lines = [*lines[:at], match["before"] + index + lines[at][match.end() :], *lines[at + 1 :]]
    return lines


def _index_between(found: list[tuple[int, re.Match[str]]], place: int) -> str | None:
    """The index that fits between those of the labels before and after; None where there is no place for one."""
    step = -1 if place == 0 else 1
    beside = found[place - step][1]["index"]
    blank, sign = beside[: -len(beside.lstrip())] if beside[:1].isspace() else "", beside.strip()
    index = str(int(sign) + step) if sign.isdecimal() else chr(ord(sign) + step)
    after = found[place + 1][1]["index"].strip() if place + 1 < len(found) else None
    taken = {match["index"].strip() for _, match in found if match["index"] is not None}
    if index in taken or index in ("-1", "0", "@") or (place and after not in (None, _next(index))):
        return None
    return blank + index


def _next(index: str) -> str:
    return str(int(index) + 1) if index.isdecimal() else chr(ord(index) + 1)


def _with_lost_letter(lines: list[str], repairs: list[str]) -> list[str]:
    known: dict[tuple[str, bool], str] = {}
    unknown: list[tuple[int, re.Match[str]]] = []
    for at, line in enumerate(lines):
        match = _LABEL.match(line) if any(sign in line for sign in ":：(（[#") else None
        if match is None:
            continue
        word, has_index = match["word"], match["index"] is not None
        if word.isalpha() and _is_label(line):
            known.setdefault((word.casefold(), has_index), word)
        elif plain(word) not in _OTHER_NAMES:
            unknown.append((at, match))
    by_ends = {flag: _by_ends(name for name, has_index in known if has_index is flag) for flag in (True, False)}
    found = ((at, _mended(match, lines[at], known, by_ends)) for at, match in unknown)
    mended = {at: line for at, line in found if line is not None}
    if not mended:
        return lines
    repairs.append("wrong-key")
    return [mended.get(at, line) for at, line in enumerate(lines)]


def _is_label(line: str) -> bool:
    return any(marks.match(line) for marks in (FIELD, WEIGHT_FIELD)) or marker_of("label", line) is not None


def _mended(
    match: re.Match[str],
    line: str,
    known: dict[tuple[str, bool], str],
    by_ends: dict[bool, dict[_Ends, list[str]]],
) -> str | None:
    """The line with its label as it was meant; None where that is not known."""
    letters, index = re.sub(r"\W", "", match["word"]).casefold(), match["index"]
    if len(letters) < _SHORTEST:
        return None
    has_index = index is not None
    word = known.get((_nearest(letters, by_ends[has_index]), has_index), "")
    rest = line[match.end() :]
    if not word and match["end"][-1:] in ":：" and number(rest)[0] is not None and is_misspelt_weight(letters):
        word = "probability"
    if not word:
        return None
    return f"{match['lead'].lstrip(',;.:')}{word}{index or ''}{match['end']}{rest}"


def is_misspelt_weight(name: str) -> bool:
    """Whether a name is one letter away from that of a weight."""
    return len(name) >= _SHORTEST and bool(_nearest(name, _WEIGHTS))


def _nearest(word: str, names: dict[_Ends, list[str]]) -> str:
    """The first of the names that is near to the word, "" for none."""
    return next((name for ends in _ends(word) for name in names.get(ends, ()) if _is_near(word, name)), "")


def _is_near(one: str, other: str) -> bool:
    """Whether two words are the same but for one letter that was lost, added or replaced."""
    if abs(len(one) - len(other)) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[at + 1 :] == other[at + 1 :] or one[at:] == other[at + 1 :] or one[at + 1 :] == other[at:]
