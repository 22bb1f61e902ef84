"""How running text is divided into entries: by labels, numbers, headings, titles, bullets or fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import FIELD, KINDS, Marker, heading_level, marker_of
from outspoken.parsing.weight_patterns import (
    LineWeight,
)

__all__ = ["Layout", "best_layout", "place_of", "with_start_apart"]

_SAMPLE = 1_200
_RELIABILITY = {kind: 0.5 - 0.04 * at for at, kind in enumerate(KINDS)}


@dataclass(slots=True)
class Layout:
    """One way of dividing the lines: where entries begin, and how well their weights fit."""

    kind: str
    starts: list[tuple[int, Marker]]
    level: int = 0
    score: float = 0.0


def best_layout(lines: list[str], weights: Sequence[LineWeight | None], apart: bool) -> Layout | None:
    """The division of the lines that fits best, None if none does. The first lines decide for a long reply."""
    sample, known = lines[:_SAMPLE], weights[:_SAMPLE]
    any_weight = any(known)
    best: Layout | None = None
    for kind in KINDS:
        for layout in _layouts(kind, sample):
            layout.score = _score(layout, sample, known, any_weight)
            if layout.score > (best.score if best is not None else 0.0):
                best = layout
    if best is None:
        return None
    if any_weight and not apart and _unmarked_score(known) > best.score:
        return None
    if not any_weight and not apart and not _is_list(best, sample):
        return None
    if len(lines) > _SAMPLE:
        return next((each for each in _layouts(best.kind, lines) if each.level == best.level), None)
    return best


def with_start_apart(lines: list[str], layout: Layout) -> list[str] | None:
    """The lines with the first label on a line of its own, where it is joined to the words before it."""
    at, marker = layout.starts[0]
    index = marker.written.split()[-1] if marker.written else ""
    head = lines[at][: marker.end].strip()
    if index not in ("2", "B", "二") or layout.kind not in ("label", "ordinal", "dynamic") or len(head) < 4:
        return None
    before, _, after = head.rpartition(index)
    first = before + {"2": "1", "B": "A", "二": "一"}[index] + after
    joined = next((place for place in range(at) if lines[place].find(first) > 0), None)
    if joined is None:
        return None
    position = lines[joined].find(first)
    return [*lines[:joined], lines[joined][:position], lines[joined][position:], *lines[joined + 1 :]]


def _is_list(layout: Layout, lines: list[str]) -> bool:
    """Whether entries without any weight are a list: headings and bold words alone are not, nor is one bullet."""
    if layout.kind in ("heading", "bold"):
        return False
    if layout.kind in ("bullet", "letter", "dynamic"):
        return len(layout.starts) > 1
    return True


def _layouts(kind: str, lines: list[str]) -> list[Layout]:
    """The divisions by markers of this kind: one for each level of headings, else one."""
    starts: list[tuple[int, Marker]] = []
    for at, line in enumerate(lines):
        if line and (marker := marker_of(kind, line)) is not None:
            starts.append((at, marker))
    if not starts:
        return []
    if kind == "heading":
        levels = sorted({heading_level(lines[at]) for at, _ in starts})
        return [
            Layout(kind, [each for each in starts if heading_level(lines[each[0]]) == level], level)
            for level in levels
        ]
    if kind == "dynamic":
        names = [marker.written.rpartition(" ")[0] for _, marker in starts]
        common = max(set(names), key=lambda name: (names.count(name), -names.index(name)))
        starts = [start for start, name in zip(starts, names, strict=True) if name == common]
        return [Layout(kind, starts)] if len(starts) > 1 else []
    shallow = min(_depth(lines[at]) for at, _ in starts)
    if kind == "bold":
        starts = [(at, marker) for at, marker in starts if _is_title(lines, at)]
    elif kind != "field":
        starts = [(at, marker) for at, marker in starts if _depth(lines[at]) <= shallow + 1]
    if kind in ("number", "letter", "cjk"):
        starts = _in_sequence(starts)
    return [Layout(kind, starts)] if starts else []


def _is_title(lines: list[str], at: int) -> bool:
    """Whether a line that begins in bold is a title: after a blank line or with a weight, and no field itself."""
    weight = find_weight(lines[at])
    if (weight is not None and weight.alone) or FIELD.match(lines[at]) is not None:
        return False
    return at == 0 or not lines[at - 1].strip() or weight is not None


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


_ORDER = {sign: at for at, sign in enumerate("一二三四五六七八九十", 1)}


def place_of(index: str) -> int:
    """The number that an index states, -1 for an unknown one."""
    if index.isdecimal():
        return int(index)
    if index in _ORDER:
        return _ORDER[index]
    if len(index) == 1 and index.isalpha():
        for first in "aAаАαΑ":
            if 0 <= ord(index) - ord(first) < 26:
                return ord(index) - ord(first) + 1
    return -1


_ROMAN = dict(
    zip(("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"), range(1, 13), strict=True)
)


def _in_sequence(starts: list[tuple[int, Marker]]) -> list[tuple[int, Marker]]:
    """Without the numbers that do not go on from the one before, nor begin again at 1."""
    kept: list[tuple[int, Marker]] = []
    last = 0
    roman = starts[0][1].written in ("I", "i") and len(starts) > 1
    for start in starts:
        place = _ROMAN.get(start[1].written.upper(), -1) if roman else place_of(start[1].written)
        is_next = last <= place <= last + 3 or (place == 2 and len(kept) == 1)  # The first index may be damaged.
        if place < 0 or not kept or place in (0, 1) or is_next:
            kept.append(start)
            last = place if place >= 0 else last + 1
    return kept


def _score(layout: Layout, lines: list[str], weights: Sequence[LineWeight | None], any_weight: bool) -> float:
    """How well a division fits: entries with one weight count for it, those with several or none against it."""
    starts = layout.starts
    reliability = _RELIABILITY[layout.kind]
    if layout.kind in ("heading", "bold") and not any_weight:
        return 0.0
    if not any_weight:
        return reliability + 0.01 * min(len(starts), 5)
    one = many = none = named = fields = 0
    titled = False
    for (at, marker), (end, _) in pairwise([*starts, (len(lines), starts[-1][1])]):
        count = sum(1 for weight in weights[at + 1 : end] if weight is not None)
        alone = sum(1 for weight in weights[at + 1 : end] if weight is not None and (weight.alone or weight.key))
        first = find_weight(lines[at][marker.end :])
        count = alone + (first is not None) if alone + (first is not None) == 1 else count + (first is not None)
        one, many, none = one + (count == 1), many + (count > 1), none + (count == 0)
        titled = titled or first is not None
        fields += first is not None and first.is_field
        if count and layout.kind in ("heading", "bold"):
            named += any(marker_of(kind, lines[at]) for kind in ("label", "ordinal", "number"))
    if layout.kind == "bullet" and fields * 2 >= len(starts):
        return 0.0
    if layout.kind in ("heading", "bold") and (named * 2 > one + many or (one + many < 2 and not titled)):
        return 0.0
    before = sum(1 for weight in weights[: starts[0][0]] if weight is not None)
    if layout.kind in ("heading", "bold"):
        none *= one < 1
    return one + 0.7 * many - 0.4 * none - 0.4 * before + reliability if one or many else 0.0


def _unmarked_score(weights: Sequence[LineWeight | None]) -> float:
    return 0.5 * sum(1 for weight in weights if weight is not None)
