"""Labels with one wrong letter, such as "Probabiliy:" or "Respnse 3:", written as they were meant."""

from __future__ import annotations

import re

from outspoken.parsing.field_names import BOOKKEEPING, LISTS, QUESTIONS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.markers import FIELD, marker_of
from outspoken.parsing.numbers import number
from outspoken.parsing.weight_patterns import WEIGHT_FIELD

__all__ = ["is_misspelt_weight", "with_mended_labels"]

_PREFIX = re.compile(r"(?P<lead>\W{0,8})(?P<name>[^\W\d_][^\n]{4,26}?)(?P<end>[*_]{0,3}[:：]{1,2}(?=[\s*_]|$))")
_SHORTEST = 6
_OTHER_NAMES = frozenset(
    name for names in (LISTS, QUESTIONS, REASONING, BOOKKEEPING, TEXTS, WEIGHTS) for name in names
)
_WEIGHTS = tuple(name for name in WEIGHTS if len(name) > _SHORTEST)


def with_mended_labels(lines: list[str], repairs: list[str]) -> list[str]:
    """The lines with labels that are one letter away from a label of other lines, or of a weight, set right."""
    known: dict[str, str] = {}
    unknown: list[tuple[int, re.Match[str]]] = []
    for at, line in enumerate(lines):
        match = _PREFIX.match(line) if ":" in line or "：" in line else None
        if match is None:
            continue
        name = match["name"]
        if any(marks.match(line) for marks in (FIELD, WEIGHT_FIELD)) or marker_of("label", line) is not None:
            known.setdefault(_letters(name), name)
        elif plain(name) not in _OTHER_NAMES:
            unknown.append((at, match))
    mended = dict(_mended(unknown, lines, known))
    if not mended:
        return lines
    repairs.append("wrong-key")
    return [mended.get(at, line) for at, line in enumerate(lines)]


def _mended(
    unknown: list[tuple[int, re.Match[str]]], lines: list[str], known: dict[str, str]
) -> list[tuple[int, str]]:
    found = []
    for at, match in unknown:
        letters, digits = _letters(match["name"]), "".join(filter(str.isdecimal, match["name"]))
        if len(letters) < _SHORTEST:
            continue
        rest = lines[at][match.end() :]
        near = next((each for each in known if _is_near(letters, each)), None)
        if near is not None and bool(digits) == any(map(str.isdecimal, known[near])):
            name = re.sub(r"\d+", digits, known[near])
        elif number(rest)[0] is not None and is_misspelt_weight(letters):
            name = f"probability {digits}".strip()
        else:
            continue
        found.append((at, f"{match['lead'].lstrip(',;.:')}{name}{match['end']}{rest}"))
    return found


def is_misspelt_weight(name: str) -> bool:
    """Whether a name is one letter away from that of a weight."""
    return len(name) >= _SHORTEST and any(_is_near(name, known) for known in _WEIGHTS)


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name).casefold()


def _is_near(one: str, other: str) -> bool:
    """Whether two words are the same but for one letter that was lost, added or replaced."""
    if abs(len(one) - len(other)) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[at + 1 :] == other[at + 1 :] or one[at:] == other[at + 1 :] or one[at + 1 :] == other[at:]
