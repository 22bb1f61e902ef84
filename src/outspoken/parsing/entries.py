"""One entry of a list: its text, its weight and what is neither."""

from __future__ import annotations

import re
from dataclasses import dataclass

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.field_names import TEXTS, plain
from outspoken.parsing.json_escapes import unescape
from outspoken.parsing.json_values import candidate_of
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import FIELD, is_rule, marker_of, strip_ornaments
from outspoken.parsing.weight_patterns import (
    LineWeight,
)
from outspoken.parsing.words import pattern

__all__ = ["Entry", "add_entries", "entry_of", "is_remark", "is_total"]

_REMARK = re.compile(
    rf"[ \t]*(?:[-*+•–][ \t]+)?[*_\"(（]{{0,3}}(?:"
    rf"{pattern('remark')}"
    r")[*_\"]{0,3}\s?[:：=][*_]{0,3}[ \t]*",
    re.IGNORECASE,
)
_TOTAL = re.compile(
    rf"\W*(?:grand )?(?:"
    rf"{pattern('total')}"
    r")(?: (?:probability|mass|of probabilities|wahrscheinlichkeit|概率|確率))?\W*",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"\s*(?:[*_]{1,3}\s*)?(?:[:：.．、)\]】）]+|[-–—=＝](?=[\s*])|，)\s*(?:[*_]{2,3}(?=[\s]|$)\s*)?"
)
_UNTITLED_LEADING = re.compile(
    r"\s*(?:[*_]{1,3}\s*)?(?:[:：.．、)\]】）]+|[=＝](?=\s)|，)\s*(?:[*_]{2,3}(?=[\s]|$)\s*)?"
)
_LONE_BULLET = re.compile(r"\n\s*[-*+•‣·▪◦–—→●○■□►▶✓★☆◆❖∙・]\s*\Z")
_QUOTED = re.compile(r"(?P<quote>[\"'])(?P<body>.*)(?P=quote),?", re.DOTALL)
_BLOCK_SCALAR = re.compile(r"[|>][-+]?\d?\s*")


@dataclass(slots=True)
class Entry:
    """The text of an entry, its weight, and a remark that belongs to neither; `index` as its marker wrote it.

    `marked` is false if its beginning was not found by a marker, as those of the others.
    """

    text: str
    weight: LineWeight | None = None
    note: str = ""
    index: str = ""
    marked: bool = True


def is_remark(line: str) -> bool:
    """Whether a line begins with a name such as "Reason:" or "Note:"."""
    return _REMARK.match(line) is not None


def is_total(text: str) -> bool:
    """Whether a text only says that its number is the total of the others."""
    return len(text) < 60 and _TOTAL.fullmatch(text) is not None


def add_entries(entries: list[Entry], into: CandidateList) -> bool:
    """Add entries as candidates. A line with the total of the probabilities is none."""
    before = len(into.items)
    for entry in entries:
        if entry.weight is not None and is_total(entry.text):
            into.repairs.append("total")
            continue
        item = candidate_of(entry.text, into.shape)
        if entry.weight is not None:
            item.state(entry.weight.written, entry.weight.key)
        if entry.weight is not None and entry.weight.is_cut:
            item.repairs.append("unclosed")
        if not entry.marked:
            item.repairs.append("odd-marker")
        note = "; ".join(part for part in (entry.note, entry.weight.note if entry.weight else "") if part)
        if note:
            item.meta["note"] = note
        into.add(item)
    if len(into.items) > before:
        into.repairs.append("as-list")
    return len(into.items) > before


def entry_of(block: list[str], *, titled: bool) -> Entry:
    """Divide the lines of an entry: the first is what follows its marker."""
    lines, remarks = _without_remarks([line for line in block if not is_rule(line)])
    found = [find_weight(line) for line in lines]
    if lines:
        separator = (_LEADING if titled else _UNTITLED_LEADING).match(lines[0])
        bare = lines[0][separator.end() :] if separator is not None else lines[0]
        weight = find_weight(bare)
        if weight is not None or found[0] is None:
            lines[0], found[0] = bare, weight
    at = _chosen(found, titled)
    alone = at is None or (found[at] is not None and found[at].alone)  # type: ignore[union-attr]
    if (
        remarks
        and alone
        and not any(any(map(str.isalnum, line)) for index, line in enumerate(lines) if index != at)
    ):
        rest = [line for line in block if not is_rule(line) and find_weight(line) is None]
        return Entry(_clean("\n".join(rest)), found[at] if at is not None else None)
    note = "\n".join(remarks)
    fielded = _field_text(lines, found, at)
    if fielded is not None:
        note = "\n".join(filter(None, (note, _beside(fielded, lines, found, at))))
        return Entry(fielded, found[at] if at is not None else None, note)
    if at is None:
        return Entry(_clean("\n".join(lines)), None, note)
    weight = found[at]
    assert weight is not None
    others = any(line.strip() for index, line in enumerate(lines) if index != at)
    if weight.tail and weight.key and others and not weight.head.strip() and not weight.bracketed:
        return Entry(_clean("\n".join([*lines[:at], *lines[at + 1 :]])), weight, f"{note}\n{weight.tail}".strip())
    own = [] if weight.alone else [part for part in (weight.head, weight.tail) if part.strip(" \t*_:：.")]
    text = _clean("\n".join([*lines[:at], *own, *lines[at + 1 :]]))
    return Entry(text, weight, note)


def _chosen(found: list[LineWeight | None], titled: bool) -> int | None:
    """The line whose weight is the entry's: with a label before without, alone or in the title before the rest."""
    best, rank = None, 99
    last = max((at for at, weight in enumerate(found) if weight is not None), default=-1)
    for at, weight in enumerate(found):
        if weight is None:
            continue
        if weight.key is not None:
            place = 0 if weight.alone else 1 if at == 0 else 2 if at == last else 3
        else:
            place = (
                4
                if at == 0 and (titled or weight.bracketed)
                else 5
                if weight.alone
                else 6
                if at in (0, last)
                else 7
            )
        if place <= rank and (place < rank or place in (0, 2, 5)):
            best, rank = at, place
    return best if rank < 7 else None


def _without_remarks(lines: list[str]) -> tuple[list[str], list[str]]:
    """Take out the lines that give a reason or a note, up to the next blank line or field."""
    if not any(_REMARK.match(line) for line in lines[1:]):
        return lines, []
    kept, remarks, inside = lines[:1], [], False
    for line in lines[1:]:
        match = _REMARK.match(line)
        if match is not None:
            inside = True
            remarks.append(line[match.end() :].strip())
        elif (
            inside
            and line.strip()
            and FIELD.match(line) is None
            and find_weight(line) is None
            and not re.match(r"\s*[-*•]\s", line)
        ):
            remarks[-1] += "\n" + line.strip()
        else:
            inside = False
            kept.append(line)
    return kept, [remark for remark in remarks if remark]


def _field_text(lines: list[str], found: list[LineWeight | None], at: int | None) -> str | None:
    """The value of the field that holds the text, if the entry has one; None without such a field."""
    for index, line in enumerate(lines):
        match = FIELD.match(line)
        if match is None or plain(match["name"].removeprefix("the ")) not in TEXTS:
            continue
        if index and at is None and index > 3:
            continue
        stated = found[at] if at is not None and at < index else None
        if stated is not None and stated.bracketed and stated.head.strip():
            return None  # The weight's own line has a text, too.
        first = line[match.end() :]
        weight = found[index]
        if weight is not None and not weight.alone and index == at:
            inner = FIELD.match(weight.head)
            first = weight.head[inner.end() :] if inner is not None else first
        rest = []
        for after in range(index + 1, len(lines)):
            if found[after] is not None and after == at:
                weight = found[after]
                if weight is not None and not weight.alone:
                    rest.append(weight.head)
                break
            if FIELD.match(lines[after]) and plain(FIELD.match(lines[after])["name"]) in TEXTS:  # type: ignore[index]
                break
            rest.append(lines[after])
        return _value("\n".join([first, *rest]), first)
    return None


def _beside(text: str, lines: list[str], found: list[LineWeight | None], at: int | None) -> str:
    """The lines of an entry that are neither its text, which a field held, nor its weight, nor other fields."""
    rest = [weight.head if index == at and (weight := found[index]) else line for index, line in enumerate(lines)]
    return "\n".join(
        line.strip()
        for line in rest
        if any(map(str.isalnum, line)) and line.strip() not in text and not _is_name(line)
    )


def _is_name(line: str) -> bool:
    """Whether a line is a field, or the label of the entry alone."""
    label = marker_of("label", line)
    return FIELD.match(line) is not None or (label is not None and not any(map(str.isalnum, line[label.end :])))


def _value(text: str, first: str) -> str:
    """A field's value: a block of YAML without its indent, a quoted string without its quotes."""
    if _BLOCK_SCALAR.fullmatch(first):
        body = text.split("\n")[1:]
        indent = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
        return "\n".join(line[indent:] for line in body).strip()
    stripped = text.strip()
    match = _QUOTED.fullmatch(stripped)
    if match is not None and match["quote"] not in re.sub(r"\\.|''", "", match["body"]):
        quoted: str = match["body"]
        return quoted.replace("''", "'") if match["quote"] == "'" else unescape(quoted, [])
    return _clean(text)


def _clean(text: str) -> str:
    """A text without leading separators, surrounding ornaments, and a bullet that nothing follows."""
    text = _LONE_BULLET.sub("", text.strip())
    match = _UNTITLED_LEADING.match(text)
    if match is not None and match[0].strip() and text[match.end() :].strip() and not text.startswith("..."):
        text = text[match.end() :]
    label = FIELD.match(text)
    if label is not None and plain(label["name"]) in TEXTS:
        text = text[label.end() :]
    return strip_ornaments(text)
