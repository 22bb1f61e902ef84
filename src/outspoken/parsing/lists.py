"""Candidates in running text: under labels, numbers, headings or bullets, and texts above their probabilities.

Each way in which the entries may begin is tried on the lines, and the one that leaves the most entries with
exactly one probability is taken (`layouts`). `entries.entry_of` then divides each entry into text and weight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import NamedTuple

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.entries import Entry, add_entries, entry_of
from outspoken.parsing.fences import restored, without_fences
from outspoken.parsing.layouts import Layout, best_layout, place_of, with_start_apart
from outspoken.parsing.line_weights import find_weight, forget_lines
from outspoken.parsing.list_lines import (
    MOST_LINES,
    parts,
    texts_in_row,
    weights_apart,
    with_break,
    with_known_labels,
    without_placeholders,
    without_totals,
)
from outspoken.parsing.markers import (
    Marker,
    heading_level,
    is_rule,
    marker_of,
    strip_ornaments,
    without_quote,
)
from outspoken.parsing.misspelt_labels import as_written, with_mended_labels
from outspoken.parsing.notations import usual_lines, with_values
from outspoken.parsing.numbers import number
from outspoken.parsing.prose import answer_lines, cut_epilogue, is_refusal
from outspoken.parsing.tables import read_table
from outspoken.parsing.weight_patterns import (
    LineWeight,
)

__all__ = ["first_marker", "read_lists", "states_weight"]


_FIRST_LINES = 1_000
_CUT_TITLE = re.compile(r"[*_:：]{0,3}\s*[(（\[][^)）\]\d]{0,24}")


def first_marker(text: str) -> int:
    """The position at which a numbered or labelled list begins in the first lines, or -1."""
    position = 0
    for line in islice(text.splitlines(keepends=True), _FIRST_LINES):
        if len(line.strip()) > 3 and any(
            marker_of(kind, line) for kind in ("label", "ordinal", "number", "circled", "cjk")
        ):
            return position
        position += len(line)
    return -1


def states_weight(text: str) -> bool:
    """Whether one of the first lines states a weight."""
    return any(find_weight(line) for line in islice(text.split("\n"), _FIRST_LINES))


def read_lists(text: str, into: CandidateList) -> bool:
    """Add the candidates of a list. False if there is none."""
    before = len(into.items)
    fences: list[str] = []
    text = without_fences(text, into, fences)
    found = _read_lines(text, into)
    forget_lines()
    for item in into.items[before:] if fences else ():
        item.text = restored(item.text, fences).strip()
    return found


def _read_lines(text: str, into: CandidateList) -> bool:
    wholes = (whole for line in text.split("\n") for usual in usual_lines(line) for whole in parts(usual))
    lines = list(islice((part for whole in wholes for part in with_break(whole)), MOST_LINES + 1))
    if len(lines) > MOST_LINES:
        lines.pop()
        into.repairs.append("too-long")
    lines, repairs = answer_lines(lines)
    written = with_values(without_placeholders(lines, repairs))
    lines = mended = with_mended_labels(written, repairs)
    if read_table(text, lines, into):
        into.repairs += repairs
        return True
    lines, by_index, row = weights_apart(with_known_labels(without_totals(lines, repairs)), repairs)
    weights = [find_weight(line) for line in lines]
    any_weight = any(weights) or bool(by_index or row)
    if not any_weight and is_refusal(lines):
        return False
    layout = best_layout(lines, weights, bool(by_index or row))
    if layout is not None and (apart := with_start_apart(lines, layout)) is not None:
        lines, weights = apart, [find_weight(line) for line in apart]
        layout = best_layout(lines, weights, bool(by_index or row))
    entries: list[Entry] = []
    before: list[str] = []
    if layout is not None:
        before = lines[: layout.starts[0][0]]
        entries = _entries(lines, layout, into)
        entries, before = _with_first_lost(entries, before, layout, lines)
    if not entries:
        entries, before = _unmarked(lines, weights), []
        into.repairs += ["unmarked"] * bool(entries)
    if not entries and row is not None:
        entries = [Entry(text) for text in texts_in_row(lines, len(row[1]))]
    entries = _with_weights_apart(entries, by_index, row)
    if mended is not written:
        texts = as_written([entry.text for entry in entries], written, mended)
        for entry, text in zip(entries, texts, strict=True):
            entry.text = text
    if not entries:
        return False
    if any(line.strip() for line in before):
        into.repairs += ["prefixed", *["unread"] * any(map(_states_own, before))]
        into.reasoning.append("\n".join(before).strip())
    into.repairs += repairs
    stated = max(_stated(weights), len(by_index), len(row[1]) if row is not None else 0)
    if sum(1 for entry in entries if entry.weight is not None) < stated:
        into.repairs.append("unread")
    return add_entries(entries, into)


def _states_own(line: str) -> bool:
    """Whether a line is a label and a probability, and so what stands above it may be a candidate."""
    weight = find_weight(line)
    return weight is not None and weight.is_field and number(weight.written)[0] is not None


def _stated(weights: Sequence[LineWeight | None]) -> int:
    """The number of lines that state a weight in the form that most of them have."""
    forms = [(weight.key or "").casefold() + str(weight.bracketed) for weight in weights if weight is not None]
    return max(map(forms.count, set(forms[:50])), default=0)


def _with_first_lost(
    entries: list[Entry], before: list[str], layout: Layout, lines: list[str]
) -> tuple[list[Entry], list[str]]:
    """Read the lines before the first marker that state a weight in the form of the entries as entries, too."""
    forms = {
        form for at, _ in layout.starts for line in (lines[at], *lines[at + 1 : at + 3]) if (form := _form(line))
    }
    lost = next((at for at, line in enumerate(before) if _form(line) in forms), None)
    if lost is None or not entries or layout.kind == "field":
        return entries, before
    start = lost
    while start and before[start].strip() and before[start - 1].strip() and before[lost].strip():
        start -= 1
    stray = [_STRAY_MARKER.sub("", line, count=1) for line in before[start:]]
    first = _unmarked(stray, [find_weight(line) for line in stray], few=True)
    for entry in first:
        entry.marked = False
    return [*first, *entries], before[:start]


def _with_weights_apart(
    entries: list[Entry], by_index: dict[str, LineWeight], row: tuple[str | None, list[str]] | None
) -> list[Entry]:
    """Give the entries the weights that stood apart from them."""
    texts = [entry for entry in entries if entry.text]
    alone = [entry for entry in entries if not entry.text and entry.weight is not None]
    if alone and len(alone) == len(texts) and not any(entry.weight for entry in texts):
        for entry, other in zip(texts, alone, strict=True):
            entry.weight = other.weight
        entries = texts
    if by_index:
        indexed = {entry.index.split()[-1] if entry.index else "" for entry in entries}
        for at, entry in enumerate(entries, 1):
            index = entry.index.split()[-1] if entry.index else ""
            name = index if by_index.keys() & indexed else str(at)
            if entry.weight is None and name in by_index:
                entry.weight = by_index[name]
    elif row is not None and len(row[1]) == len(entries) and not any(entry.weight for entry in entries):
        for entry, written in zip(entries, row[1], strict=True):
            entry.weight = LineWeight(written, row[0])
    return entries


def _entries(lines: list[str], layout: Layout, into: CandidateList) -> list[Entry]:
    """The entries of a layout, each with the lines up to the next."""
    found: list[Entry] = []
    bounds = [at for at, _ in layout.starts] + [len(lines)]
    blocks = []
    for (at, marker), end in zip(layout.starts, bounds[1:], strict=True):
        block = [_after_marker(lines[at], marker), *lines[at + 1 : end]]
        if layout.kind == "field":
            block[0] = lines[at]
        blocks.append((marker, _without_section(block, lines[at], layout, last=end == len(lines), into=into)))
    if layout.kind == "field":
        _move_leading_weights(lines, layout, blocks)
    if layout.kind in ("bullet", "number", "letter"):
        blocks = _without_labels(blocks)
    titled = layout.kind in ("heading", "bold", "label", "ordinal", "dynamic")
    headed = layout.kind in ("heading", "bold") or heading_level(lines[layout.starts[0][0]]) > 0
    cut_epilogue([block for _, block in blocks], into, titled=headed)
    if layout.kind not in ("field", "heading", "bold"):
        blocks = _with_lost_starts(blocks)
    if blocks and _CUT_TITLE.fullmatch(last := "\n".join(blocks[-1][1]).strip()) and last:
        into.repairs.append("truncated")
        blocks.pop()
    for marker, block in blocks:
        if marker.kind == _STRAY:
            block[0] = _STRAY_MARKER.sub("", block[0], count=1)
        entry = entry_of(block, titled=titled)
        entry.index, entry.marked = marker.written, marker.kind != _STRAY
        found.append(entry)
    stated = [entry for entry in found if entry.weight is not None]
    if layout.kind in ("heading", "bold") and stated and len(stated) < len(found):
        into.repairs.append("suffixed" if found[-1].weight is None else "prefixed")
        found = stated
    return _last_group(found, into)


def _with_lost_starts(blocks: list[tuple[Marker, list[str]]]) -> list[tuple[Marker, list[str]]]:
    """The entries, where one with several weights in the form of the others is divided at each of them."""
    forms = [
        [(at, form) for at, line in enumerate(block) if (form := _form(line)) is not None] for _, block in blocks
    ]
    single = [found[0][1] for found in forms if len(found) == 1]
    if not single or all(len(found) < 2 for found in forms):
        return blocks
    common = max(set(single), key=single.count)
    divided = []
    for (marker, block), found in zip(blocks, forms, strict=True):
        places = [at for at, form in found if form == common]
        if len(places) < 2:
            divided.append((marker, block))
            continue
        cuts = places[1:] if common.before else [at + 1 for at in places[:-1]]
        for start, end in pairwise([0, *cuts, len(block)]):
            lines = block[start:end]
            while start and len(lines) > 1 and not lines[0].strip():
                del lines[0]
            divided.append((marker if not start else Marker(_STRAY, 0), lines))
    return divided


_STRAY = "stray"
_STRAY_MARKER = re.compile(r"\s*(?:[^\w\s(（\[\"'“「¿¡$*]{1,3}\s+)?")


class _Form(NamedTuple):
    """How a line states its weight; `before`: ahead of its text."""

    key: str
    bracketed: bool
    alone: bool
    before: bool


def _form(line: str) -> _Form | None:
    weight = find_weight(line)
    if weight is None:
        return None
    return _Form((weight.key or "").casefold(), weight.bracketed, weight.alone, bool(weight.tail))


def _without_labels(blocks: list[tuple[Marker, list[str]]]) -> list[tuple[Marker, list[str]]]:
    """The entries without a label ("Response 1:") behind their bullet or number, if most have one."""
    labels = [marker_of("label", block[0].strip()) for _, block in blocks]
    if sum(1 for label in labels if label is not None) * 2 <= len(blocks):
        return blocks
    return [
        (
            marker if label is not None else Marker(_STRAY, 0),
            [_after_marker(block[0].strip(), label), *block[1:]] if label is not None else block,
        )
        for (marker, block), label in zip(blocks, labels, strict=True)
    ]


def _after_marker(line: str, marker: Marker) -> str:
    """The rest of a line after its marker, without the end of bold print that began before it."""
    rest = line[marker.end :]
    if line[: marker.end].count("**") % 2:
        match = re.match(r"\s*[:：.)）]?\s*\*\*", rest)
        return rest[match.end() :] if match is not None else rest
    return rest


def _without_section(
    block: list[str], first: str, layout: Layout, *, last: bool, into: CandidateList
) -> list[str]:
    """The lines of an entry up to a heading or a title that belongs to what follows."""
    own = heading_level(first)
    for at, line in enumerate(block):
        level = heading_level(line) if at else 0
        if level and (not own or level <= own):
            if any(part.strip() for part in block[at:]):
                into.repairs.append("section")
            return block[:at]
    if last:
        return block
    end = len(block)
    while end > 1 and (not block[end - 1].strip() or is_rule(block[end - 1])):
        end -= 1
    title = block[end - 1].strip() if end > 1 else ""
    is_title = title and (
        (re.fullmatch(r"(?:\*\*|__)[^*_]{1,80}(?:\*\*|__)[:：]?", title) is not None)
        or (len(title) < 60 and title[-1:] in ":：")
    )
    if (
        is_title
        and not block[end - 2].strip()
        and find_weight(title) is None
        and layout.kind not in ("heading", "bold")
    ):
        into.repairs.append("section")
        return block[: end - 1]
    return block


def _move_leading_weights(lines: list[str], layout: Layout, blocks: list[tuple[Marker, list[str]]]) -> None:
    """Where each weight stands above its text, move it from the end of the entry before."""
    first = layout.starts[0][0]
    above = [line for line in lines[:first] if line.strip()]
    weight = find_weight(above[-1]) if above else None
    if weight is None or not weight.alone or any(find_weight(line) for line in blocks[-1][1][1:]):
        return
    carried = above[-1]
    for _, block in blocks:
        last = next((at for at in range(len(block) - 1, 0, -1) if find_weight(block[at])), None)
        following = block.pop(last) if last is not None else ""
        block.append(carried)
        carried = following


def _last_group(entries: list[Entry], into: CandidateList) -> list[Entry]:
    """Of several lists that each begin at 1: those with weights, and only the last if it repeats the texts."""
    groups: list[list[Entry]] = [[]]
    last = 0
    for entry in entries:
        place = place_of(entry.index.split()[-1]) if entry.index else -1
        if groups[-1] and place == 1 and last > 1:
            groups.append([])
        groups[-1].append(entry)
        last = place if place >= 0 else last + 1
    if len(groups) == 1:
        return entries
    only_weights = [group for group in groups if all(not entry.text for entry in group)]
    if only_weights:
        return entries
    stated = [group for group in groups if any(entry.weight for entry in group)]
    if not stated:
        into.repairs.append("suffixed")
        return groups[0]
    if len(stated) < len(groups):
        texts = {entry.text.casefold() for entry in stated[-1]}
        repeated = any(
            entry.text.casefold() in texts for group in groups if group not in stated for entry in group
        )
        into.repairs.append("draft" if repeated else "section")
    latest = {entry.text.casefold() for entry in stated[-1]}
    if len(stated) > 1 and len(
        latest & {entry.text.casefold() for group in stated[:-1] for entry in group}
    ) * 2 > len(latest):
        into.repairs.append("draft")
        return stated[-1]
    return [entry for group in stated for entry in group]


def _unmarked(lines: list[str], weights: Sequence[LineWeight | None], *, few: bool = False) -> list[Entry]:
    """Entries separated by their probabilities alone: the text above each one, or the line that it ends."""
    entries: list[Entry] = []
    above: list[str] = []
    labelled = False
    for line, found in zip(lines, weights, strict=True):
        if found is None or (found.key is None and found.alone and not above):
            above.append("" if is_rule(line) else line)
            continue
        weight = found
        labelled |= weight.key is not None or weight.alone
        own = weight.head if not weight.alone else ""
        paragraphs = [
            part
            for part in re.split(r"\n\s*?\n", "\n".join([*map(without_quote, above), own]).strip())
            if part.strip()
        ]
        if not entries and len(paragraphs) > 1 and paragraphs[0].rstrip()[-1:] in tuple(":："):
            paragraphs = paragraphs[1:]
        if own and not weight.key and not weight.bracketed:
            paragraphs = [own]
        text = strip_ornaments("\n\n".join(paragraphs)) or strip_ornaments(weight.tail)
        if text:
            entries.append(Entry(text, weight))
        above = []
    return entries if labelled or few or len(entries) > 1 else []
