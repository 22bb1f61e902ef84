"""Rows of values separated by commas, semicolons, tabs or bars, with quotes, also where a quote is missing."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field

from outspoken.parsing.field_names import WEIGHTS, plain
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.misspelt_labels import is_misspelt_weight
from outspoken.parsing.numbers import number
from outspoken.parsing.weight_patterns import (
    weight_of,
)

__all__ = ["ENDS_IN_NUMBER", "SEPARATORS", "Rows", "names_weight", "separated_rows"]

SEPARATORS = ("\t", ";", ",", "|")
_MOST_STRAYS = 2
_MOST_JOINED = 20
_NOT_IN_HEADER = re.compile(r"[:：\d]|---")
_RULE = re.compile(r"[\s|:\-]{3,1000}")
ENDS_IN_NUMBER = re.compile(r"\d\s?%?\s*\Z")
_BULLET = re.compile(r"\s*[-*•]\s")
_QUOTES = "\"“”'`"


@dataclass(slots=True)
class Rows:
    """The rows of a table with the header first (if `headed`), and the repairs that reading them took."""

    rows: list[list[str]] = field(default_factory=list)
    headed: bool = True
    repairs: list[str] = field(default_factory=list)


def separated_rows(lines: list[str], separator: str) -> Rows:
    """The rows under a header that names a text and a weight; without one, those of a quoted text and a weight."""
    if not any(separator in line for line in lines):
        return Rows()
    start = next((at for at, line in enumerate(lines) if separator in line and _is_header(line, separator)), None)
    found = Rows(headed=start is not None)
    width = 0
    if start is not None:
        found.rows.append([cell.strip() for cell in _cells(lines[start], separator)])
        width = len(found.rows[0])
    at = 0 if start is None else start + 1
    strays: list[str] = []
    while at < len(lines):
        row, count = _row(lines, at, separator, width)
        if row is None or (start is None and not _has_quoted_text(lines[at], row, separator)):
            if found.rows:
                strays.append(lines[at])
            at += 1
            if sum(1 for line in strays if line.strip()) > _MOST_STRAYS:
                break
            continue
        if strays and not any(weight_of(cell) for cell in row):
            strays.append(lines[at])
            at += count
            continue
        if any(line.strip() for line in strays):
            found.repairs.append("unread")
        strays = []
        width = width or len(row)
        if count > 1 or any(mark in row[0] for mark in '"“') or _is_torn(lines[at], separator):
            found.repairs.append("inner-quotes")
        is_first = start is None and not found.rows
        if len(row) > width or (is_first and any(_may_be_row(line, separator) for line in lines[:at])):
            found.repairs.append("unread")
        found.rows.append(row)
        at += count
    _note_end(found, [*strays, *lines[at:]], separator)
    return found


def _note_end(found: Rows, rest: list[str], separator: str) -> None:
    """Read a row that the end of the reply cut off; name what else may have been a row."""
    filled = [line for line in rest if line.strip()]
    last = filled[-1].strip() if filled else ""
    at_end = len(filled) == 1 and rest[0].strip() == rest[-1].strip() == last and found.repairs[-1:] != ["unread"]
    if (
        at_end
        and len(found.rows) > 1
        and (len(_cells(last, separator)) < 2 or (last[:1] == '"' and last.count('"') % 2))
    ):
        found.rows.append([_unquoted(last)])
        found.repairs.append("truncated")
    elif at_end and len(found.rows) > 1 and last.rstrip("% ")[-1:] == separator and last[:1] in _QUOTES:
        found.rows.append([_cells(last, separator)[0]])
        found.repairs.append("truncated")
    elif (
        (rest and ENDS_IN_NUMBER.search(rest[0]) is not None)
        or any(separator in line and any(c.isdecimal() for c in line) for line in filled)
        or any(map(find_weight, filled))
    ):
        found.repairs.append("unread")


def _row(lines: list[str], at: int, separator: str, width: int) -> tuple[list[str] | None, int]:
    """The row that begins at a line, and the number of its lines; None for a line that is none."""
    line = lines[at]
    if not line.strip() or (separator == "|" and _RULE.fullmatch(line)):
        return None, 1
    if line.count('"') % 2 and not _ends_in_weight(line, separator):
        for end in range(at + 1, min(at + _MOST_JOINED, len(lines))):
            whole = "\n".join(lines[at : end + 1])
            if whole.count('"') % 2 == 0:
                row = _cells(whole, separator)
                if len(row) >= max(width, 2):
                    return [cell.strip() for cell in row], end + 1 - at
                break
    if separator not in line:
        return None, 1
    row = [cell.strip() for cell in _cells(line, separator)]
    if _is_torn(line, separator) or (width and len(row) > width and separator == ","):
        head, _, last = line.rpartition(separator)
        if weight_of(last.strip()) or number(last)[0] is not None:
            return [_unquoted(head.strip()), last.strip()], 1
    return (row if len(row) >= min(width or 2, 2) else None), 1


def _ends_in_weight(line: str, separator: str) -> bool:
    return separator in line and weight_of(line.rpartition(separator)[2].strip())


def _may_be_row(line: str, separator: str) -> bool:
    return '"' in line or _ends_in_weight(line, separator)


def _is_torn(line: str, separator: str) -> bool:
    """Whether the quotes of a line do not fit one another, although it ends in a weight."""
    if not any(quote in line for quote in _QUOTES) or not _ends_in_weight(line, separator):
        return False
    head = line.rpartition(separator)[0].strip()
    if line.count('"') % 2:
        return True
    if head[:1] in ("'", "“", "`") or (head[-1:] in ("'", "”", "`") and head[:1] == '"'):
        return True
    cells = _cells(line, separator)
    return not weight_of(cells[-1].strip())


def _unquoted(text: str) -> str:
    """A text without its outer quotes, of which one may be missing or of another kind."""
    if text[:1] in _QUOTES:
        text = text[1:]
    if text[-1:] in _QUOTES and not text.endswith('""'):
        text = text[:-1]
    return text.replace('""', '"').strip()


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def names_weight(name: str) -> bool:
    """Whether the name of a column means a weight."""
    if name in WEIGHTS or is_misspelt_weight(name):
        return True
    words = re.split(r"[_\s()（）\[\]/,:]+", name)
    return len(words) <= 5 and any(word in WEIGHTS and word not in ("p", "%") for word in words if word)


def _is_header(line: str, separator: str) -> bool:
    cells = line.strip().split(separator)
    if not 2 <= len(cells) <= 12 or _NOT_IN_HEADER.search(line) or _BULLET.match(line):
        return False
    if "%" in (cell.strip() for cell in cells) and any(quote in line for quote in _QUOTES):
        return False  # A row that lacks its number.
    names = [plain(cell.strip().strip("\"'")) for cell in cells]
    if any(len(name) > 40 for name in names):
        return False
    return 1 <= sum(map(names_weight, names)) < len(names) and any(names)


def _has_quoted_text(line: str, row: list[str], separator: str) -> bool:
    """Whether a line without a header above is a row: a text in quotes, or apart by a tab or semicolon."""
    if separator == "|" or len(row) < 2 or not (weight_of(row[0]) or weight_of(row[-1])):
        return False
    return separator != "," or line.strip()[:1] in "\"“'" or line.strip()[-1:] == '"' or '"' in line
