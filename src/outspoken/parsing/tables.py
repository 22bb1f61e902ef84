"""Candidates in the rows of a table: Markdown, box drawing, HTML, or separated values."""

from __future__ import annotations

import math
import re
from html import unescape

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.entries import is_total
from outspoken.parsing.field_names import BOOKKEEPING, LISTS, REASONING, TEXTS, plain
from outspoken.parsing.json_values import candidate_of
from outspoken.parsing.markers import strip_ornaments
from outspoken.parsing.numbers import number
from outspoken.parsing.separated import ENDS_IN_NUMBER, SEPARATORS, Rows, names_weight, separated_rows
from outspoken.parsing.weight_patterns import (
    weight_of,
)

__all__ = ["read_table"]

_RULE = re.compile(r"[\s|:+=\-─═━┼╪╬├┤╞╡┌┐└┘╔╗╚╝╠╣┬┴╤╧╦╩┠┨]{3,1000}")
_BARS = str.maketrans("│┃║｜¦", "|||||")
_HTML_ROW = re.compile(r"<tr\b[^<>]{0,200}>(.*?)(?=</tr>|<tr\b|</table>|\Z)", re.IGNORECASE | re.DOTALL)
_HTML_CELL = re.compile(r"<t([hd])\b[^<>]{0,200}>(.*?)(?=</t[hd]>|<t[hd]\b|\Z)", re.IGNORECASE | re.DOTALL)
_SAMPLE = 60
_INDEX = re.compile(r"[#№]?\s?\d{1,4}[.)]?|[A-Za-z][.)]?|[①-⑳]")

_Rows = list[list[str]]


def read_table(text: str, lines: list[str], into: CandidateList) -> bool:
    """Add the candidates of the first table that has a column of texts. False if there is none."""
    for rows in (
        _html(text),
        _ruled(_rejoined(lines)),
        *(separated_rows(lines, separator) for separator in SEPARATORS),
    ):
        if len(rows.rows) > 1 and _read_rows(rows, into):
            into.repairs += [*dict.fromkeys(rows.repairs), "as-table"]
            return True
    return False


def _html(text: str) -> Rows:
    if "<tr" not in text and "<TR" not in text:
        return Rows()
    return Rows(
        [
            [unescape(re.sub(r"<[^<>]{1,100}>", "", cell[2])).strip() for cell in _HTML_CELL.finditer(row[1])]
            for row in _HTML_ROW.finditer(text)
        ]
    )


def _rejoined(lines: list[str]) -> list[str]:
    """The lines with the rows of a table of bars in one that a line break divided."""
    joined: list[str] = []
    width = next((len(_cells(line)) for line in lines if line.strip()[:1] == "|" and line.strip()[-1:] == "|"), 0)
    for line in lines if width else ():
        above = joined[-1].strip() if joined else ""
        whole = above + "\n" + line
        is_part = above[:1] == "|" and line.rstrip()[-1:] == "|"
        if is_part and above[-1:] != "|" and len(_cells(whole)) == width:
            joined[-1] = whole
        elif is_part and above[-1:] == "|" and line.lstrip()[:1] != "|" and len(_cells(above + line)) == width:
            joined[-1] = above + line
        else:
            joined.append(line)
    return joined or lines


def _ruled(lines: list[str]) -> Rows:
    """The rows of a table of bars: the header above the first rule, and the lines with bars after it."""
    rule = next((at for at in range(1, len(lines)) if _is_rule(lines[at]) and _is_row(lines[at - 1])), None)
    if rule is None:
        return _barred(lines)
    found = Rows([_cells(lines[rule - 1])])
    strays: list[str] = []
    for line in lines[rule + 1 :]:
        if _is_row(line) and not (line.strip() and (_RULE.fullmatch(line) or _is_rule(line))):
            if any(stray.strip() for stray in strays) or len(_cells(line)) > len(found.rows[0]):
                found.repairs.append("unread")
            strays = []
            found.rows.append(_cells(line))
        elif not _RULE.fullmatch(line):
            strays.append(line)
            if len(strays) > 2:
                break
    if len(strays) > 1 and ENDS_IN_NUMBER.search(strays[0]) is not None:
        found.repairs.append("unread")
    if len(strays) == 1 and strays[0].strip() and len(found.rows) > 1:
        found.rows.append(_cells(strays[0]))
        found.repairs.append("truncated")
    return found


def _barred(lines: list[str]) -> Rows:
    """The rows of a table without a rule: lines that begin and end with a bar, the first with names."""
    barred = [
        line.strip() for line in lines if line.strip()[:1] in tuple("|｜│") and line.strip()[-1:] in tuple("|｜│")
    ]
    rows = [_cells(line) for line in barred]
    if len(rows) < 2 or not any(names_weight(plain(cell)) for cell in rows[0]):
        return Rows()
    torn = any(len(row) > len(rows[0]) for row in rows)
    rows = [row for row, line in zip(rows, barred, strict=True) if not _is_rule(line) and any(row)]
    return Rows(rows, repairs=["unread"] if torn else [])


def _is_rule(line: str) -> bool:
    if not any(sign in line for sign in ("--", ":-", "──", "══", "━")):
        return False
    cells = _cells(line) if "|" in line and len(line) < 1_000 else []
    dashes = sum(map(_is_dashes, cells))
    # A sign may have got into one of the cells.
    return (
        _RULE.fullmatch(line) is not None
        or dashes * 2 > len(cells)
        or (dashes > 0 and not any(map(str.isalnum, line)))
    )


def _is_dashes(cell: str) -> bool:
    return len(cell) > 1 and not cell.strip("-:")


def _is_row(line: str) -> bool:
    return "|" in line or any(bar in line for bar in "│┃║｜¦")


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.translate(_BARS).strip())
    parts = parts[1:] if parts and not parts[0].strip() else parts
    parts = parts[:-1] if parts and not parts[-1].strip() else parts
    return [part.strip().replace("\\|", "|") for part in parts]


def _read_rows(table: Rows, into: CandidateList) -> bool:
    """Find the columns of texts and of weights, by the header or by what they hold, and add the rows."""
    rows = [row for row in table.rows if row]
    if len(rows) < 2:
        return False
    width = max(len(row) for row in rows)
    header = [plain(strip_ornaments(cell)) for cell in rows[0]] if table.headed else []
    body = rows[1:] if table.headed else rows
    if (
        width > 2
        and header
        and names_weight(plain(strip_ornaments(rows[1][0])))
        and all(number(strip_ornaments(cell))[0] is not None for cell in rows[1][1:])
    ):
        header, body = _turned(rows)
    weight = next((at for at, name in enumerate(header) if names_weight(name)), None)
    if weight is None:
        weight = _weight_column(body, width)
    text = next(
        (at for rank in range(2) for at, name in enumerate(header) if at != weight and _is_text(name, rank)), None
    )
    if text is None:
        text = _text_column(header, body, weight, width)
    if text is None or (weight is None and (not header or header[text] not in TEXTS)):
        return False
    return _add(
        body, text, weight, into, key=header[weight] if weight is not None and weight < len(header) else ""
    )


def _is_text(name: str, rank: int) -> bool:
    return name in TEXTS if rank == 0 else name in LISTS


def _turned(rows: _Rows) -> tuple[list[str], _Rows]:
    """A table whose first row holds the texts and whose second row holds the weights."""
    texts = rows[0][1:] if len(rows[0]) == len(rows[1]) else rows[0]
    return ["text", "probability"], [[text, weight] for text, weight in zip(texts, rows[1][1:], strict=False)]


def _weight_column(body: _Rows, width: int) -> int | None:
    sample = body[:_SAMPLE]
    for at in reversed(range(width)):
        cells = [strip_ornaments(row[at]) for row in sample if at < len(row) and row[at].strip()]
        if len(cells) * 2 > len(sample) and cells and all(weight_of(cell) for cell in cells):
            return at
    return None


def _text_column(header: list[str], body: _Rows, weight: int | None, width: int) -> int | None:
    """The column that is no index, no reason and no weight: the only one, else that of a name or the first."""
    rest = []
    for at in range(width):
        name = header[at] if at < len(header) else ""
        cells = [row[at] for row in body[:_SAMPLE] if at < len(row) and row[at].strip()]
        index = name in BOOKKEEPING or (
            name in ("", "nr", "no.", "№", "序号", "番号", "編號", "编号")
            and all(_INDEX.fullmatch(cell.strip()) for cell in cells)
        )
        if (
            at == weight
            or name in REASONING
            or index
            or (cells and all(_INDEX.fullmatch(cell.strip()) for cell in cells))
        ):
            continue
        rest.append(at)
    return rest[0] if rest else None


def _add(body: _Rows, text: int, weight: int | None, into: CandidateList, *, key: str) -> bool:
    before = len(into.items)
    percent = any(sign in key for sign in ("%", "percent", "prozent", "百分"))
    if weight is not None and _last_is_total(body, weight):
        body = body[:-1]
        into.repairs.append("total")
    for row in body:
        row = _whole_row(row, text, weight, into)
        if len(row) <= text:
            continue
        content = re.sub(r"<br\s?/?>", "\n", strip_ornaments(row[text]))
        written = strip_ornaments(row[weight]) if weight is not None and weight < len(row) else ""
        if (
            is_total(content)
            or (not content.strip() and any(is_total(cell) for cell in row))
            or any(is_total(cell) for cell in row[:1])
        ):
            into.repairs.append("total")
            continue
        if not content.strip() and not written:
            continue
        item: RawCandidate = candidate_of(content, into.shape)
        if (
            row is body[-1]
            and written in ("0", "1")
            and any(len(other[weight or 0]) > 1 for other in body[:-1] if len(other) > (weight or 0))
        ):
            item.repairs.append("unclosed")
            written = "…"
        if (written and number(written)[0] is not None) or written:
            item.state(written + ("%" if percent and written[-1:].isdigit() else ""), None)
        into.add(item)
    return len(into.items) > before


def _whole_row(row: list[str], text: int, weight: int | None, into: CandidateList) -> list[str]:
    """A row, with its longest cell as the text where a bar between cells is missing."""
    if weight is None or len(row) > max(text, weight) or len(row) < 2 or not weight_of(strip_ornaments(row[-1])):
        return row
    into.repairs.append("guessed")
    content = re.sub(r"^\d{1,3}[.)]?\s+", "", max(row[:-1], key=len))
    return [content if at == text else row[-1] if at == weight else "" for at in range(max(text, weight) + 1)]


def _last_is_total(body: _Rows, weight: int) -> bool:
    """Whether the last weight is the sum of at least two others."""
    values = [number(strip_ornaments(row[weight]))[0] if weight < len(row) else None for row in body]
    *others, last = values or [None]
    if len(others) < 2 or last is None or any(value is None for value in others):
        return False
    is_whole = 0.9 < last < 1.1 or 90 < last < 110
    return is_whole and math.isclose(math.fsum(value or 0.0 for value in others), last, rel_tol=0.005)
