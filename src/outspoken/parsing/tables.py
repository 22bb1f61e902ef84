"""Candidates in the rows of a table: Markdown, box drawing, HTML, or values separated by commas, semicolons "
"or tabs."""

from __future__ import annotations

import csv
import re
from html import unescape
from itertools import islice

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.entries import is_total
from outspoken.parsing.field_names import BOOKKEEPING, LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_values import candidate_of
from outspoken.parsing.line_weights import weight_of
from outspoken.parsing.markers import strip_ornaments
from outspoken.parsing.numbers import number

__all__ = ["read_table"]

_RULE = re.compile(r"[\s|:+=\-─═━┼╪╬├┤╞╡┌┐└┘╔╗╚╝╠╣┬┴╤╧╦╩┠┨]{3,1000}")
_BARS = str.maketrans("│┃║｜¦", "|||||")
_HTML_ROW = re.compile(r"<tr\b[^<>]{0,200}>(.*?)(?=</tr>|<tr\b|</table>|\Z)", re.IGNORECASE | re.DOTALL)
_HTML_CELL = re.compile(r"<t([hd])\b[^<>]{0,200}>(.*?)(?=</t[hd]>|<t[hd]\b|\Z)", re.IGNORECASE | re.DOTALL)
_SEPARATORS = ("\t", ";", ",", "|")
_SAMPLE = 60
_MOST_STRAYS = 2
_INDEX = re.compile(r"[#№]?\s?\d{1,4}[.)]?|[A-Za-z][.)]?|[①-⑳]")

_Rows = list[list[str]]


def read_table(text: str, lines: list[str], into: CandidateList) -> bool:
    """Add the candidates of the first table that has a column of texts. False if there is none."""
    for rows in (_html(text), _ruled(lines), *(_separated(lines, separator, into) for separator in _SEPARATORS)):
        if len(rows) > 1 and _read_rows(rows, into):
            into.repairs.append("as-table")
            return True
    return False


def _html(text: str) -> _Rows:
    if "<tr" not in text and "<TR" not in text:
        return []
    return [
        [unescape(re.sub(r"<[^<>]{1,100}>", "", cell[2])).strip() for cell in _HTML_CELL.finditer(row[1])]
        for row in _HTML_ROW.finditer(text)
    ]


def _ruled(lines: list[str]) -> _Rows:
    """The rows of a table of bars: the header above the first rule, and the lines with bars after it."""
    rule = next(
        (
            at
            for at, line in enumerate(lines)
            if at
            and ("--" in line or "──" in line or ":-" in line or "══" in line or "━" in line)
            and _RULE.fullmatch(line)
            and _is_row(lines[at - 1])
        ),
        None,
    )
    if rule is None:
        return []
    rows = [_cells(lines[rule - 1])]
    for line in lines[rule + 1 :]:
        if _RULE.fullmatch(line) and line.strip():
            continue
        if not _is_row(line):
            break
        rows.append(_cells(line))
    return rows


def _is_row(line: str) -> bool:
    return "|" in line or any(bar in line for bar in "│┃║｜¦")


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.translate(_BARS).strip())
    parts = parts[1:] if parts and not parts[0].strip() else parts
    parts = parts[:-1] if parts and not parts[-1].strip() else parts
    return [part.strip().replace("\\|", "|") for part in parts]


def _separated(lines: list[str], separator: str, into: CandidateList) -> _Rows:
    """The rows of separated values under a header that names a text and a weight, or without one if all rows "
    "end alike."""
    start = next((at for at, line in enumerate(lines) if separator in line and _is_header(line, separator)), None)
    if start is None:
        return _headless(lines, separator)
    rows: _Rows = []
    width = strays = 0
    for row in _values(lines[start:], separator):
        width = width or len(row)
        if len(row) >= min(width, 2) and any(cell.strip() for cell in row):
            rows.append([cell.strip() for cell in row])
            if strays:
                into.repairs.append("section")
            strays = 0
            continue
        strays += 1
        if strays > _MOST_STRAYS:
            break
    if lines[-1].lstrip().startswith('"') and separator not in lines[-1].rpartition('"')[2] and lines[-1].count('"') == 1:
        rows.append([lines[-1].strip().strip('"')])
    return rows


def _values(lines: list[str], separator: str) -> _Rows:
    rows: _Rows = []
    source = (line + "\n" for line in lines if not (separator == "|" and _RULE.fullmatch(line)))
    try:
        rows.extend(csv.reader(source, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return rows
    return rows


def _is_header(line: str, separator: str) -> bool:
    names = [plain(cell.strip().strip("\"'")) for cell in line.strip().split(separator)]
    if not 2 <= len(names) <= 12 or any(len(name) > 40 for name in names):
        return False
    weights = [name for name in names if _scale(name)]
    plain_names = not any(sign in line for sign in ":：") and not any(c.isdecimal() for c in line)
    return plain_names and 1 <= len(weights) < len(names) and any(names)


def _headless(lines: list[str], separator: str) -> _Rows:
    """The first rows in a row of a text and a weight, quoted or separated by a tab or semicolon, without a header."""
    rows: _Rows = []
    for line in islice(lines, 2_000):
        cells = _row_with_weight(line, separator)
        if cells is not None and (not rows or len(cells) == len(rows[0])):
            rows.append(cells)
        elif line.strip() and rows:
            break
    return rows if len(rows) > 1 and separator != "|" else []


def _row_with_weight(line: str, separator: str) -> list[str] | None:
    if separator not in line or (separator == "," and '"' not in line):
        return None
    (row,) = _values([line], separator)[:1] or [[]]
    if len(row) < 2 or not any(weight_of(cell) for cell in (row[0], row[-1])):
        return None
    quoted = separator != "," or line.lstrip()[:1] == '"' or line.rstrip()[-1:] == '"'
    return [cell.strip() for cell in row] if quoted else None


def _scale(name: str) -> bool:
    if name in WEIGHTS:
        return True
    words = re.split(r"[_\s()（）\[\]/,:]+", name)
    return len(words) <= 5 and any(word in WEIGHTS and word not in ("p",) for word in words if word)


def _read_rows(rows: _Rows, into: CandidateList) -> bool:
    """Find the columns of texts and of weights, by the header or by what they hold, and add the rows."""
    width = max(len(row) for row in rows)
    header = [plain(strip_ornaments(cell)) for cell in rows[0]]
    body = rows[1:]
    if (
        width > 2
        and header
        and _scale(plain(strip_ornaments(rows[1][0])))
        and all(number(strip_ornaments(cell))[0] is not None for cell in rows[1][1:])
    ):
        header, body = _turned(rows)
    weight = next((at for at, name in enumerate(header) if _scale(name)), None)
    if weight is None:
        if any(weight_of(strip_ornaments(cell)) for cell in rows[0]):
            body = rows
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
    for row in body:
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
        if (written and number(written)[0] is not None) or written:
            item.state(written + ("%" if percent and written[-1:].isdigit() else ""), None)
        into.add(item)
    return len(into.items) > before
