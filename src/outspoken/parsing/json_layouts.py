"""Candidates that are spread over an object or a list: columns, rows, numbered keys, keys that are the texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import BOOKKEEPING, LISTS, QUESTIONS, REASONING, TEXTS, USUAL_TEXTS, plain
from outspoken.parsing.json_fields import index_of, is_weight, item_of, leaves_fields, numbered_entries
from outspoken.parsing.json_signs import is_known, weight_name
from outspoken.parsing.numbers import number

__all__ = ["damaged_rows", "drop_total", "is_stray", "read_columns", "read_keyed", "read_numbered", "rows_of"]

_TOTALS = frozenset(
    {
        *("total", "sum", "totals", "overall", "total_probability", "probability_total", "sum_of_probabilities"),
        *("probability_sum", "total_prob", "summe", "gesamt", "insgesamt", "somme", "suma", "soma", "totale"),
        *("итого", "合计", "合計", "总计", "總計", "总和", "總和", "계", "합계", "المجموع"),
    }
)
_OTHER_FIELDS = QUESTIONS | REASONING | BOOKKEEPING | _TOTALS | {"note", "notes", "comment", "explanation"}
_DAMAGED_NUMBER = re.compile(r"\W{0,3}[^\W\d]?\W?\d")
_MOST_STRAY_LETTERS = 3
_LONGEST_NUMBER = 24
_LIKE_NAME = re.compile(r"\S{1,24}?[ _-]?\d{1,3}\w?")
_NUMBER = re.compile(r"\s*[^\W\d]{0,20}[ _#-]{0,2}\d{1,4}\s*|[A-J]")


def drop_total(into: CandidateList, start: int) -> None:
    """Leave out a last candidate that is named and weighted as the sum of the others since `start`."""
    items = into.items[start:]
    if len(items) < 3 or plain(items[-1].text) not in _TOTALS:
        return
    *weights, total = [number(item.weight)[0] for item in items]
    if total is not None and abs(sum(weight or 0 for weight in weights) - total) < 0.05 * abs(total):
        into.items.pop()
        into.repairs.append("total")


def read_numbered(fields: dict[str, object], into: CandidateList) -> bool:
    """Fields with numbers in their keys: `response_1`, `probability_1`, `response_2`, … ."""
    items = [item_of(entry, into.shape) for entry in numbered_entries(fields)]
    if not items or None in items:
        return False
    for item in filter(None, items):
        into.add(item)
    into.repairs.append("numbered-keys")
    if leaves_fields(fields):
        into.repairs.append("unread")
    return True


def read_columns(fields: dict[str, Any], into: CandidateList) -> bool:
    """Texts and weights in two lists of the same length, or in two objects with the same keys."""
    texts = _texts(fields)
    if texts is None:
        return False
    key, items = texts
    weights = next((k for k, part in fields.items() if weight_name(k) is not None and _fits(part, items)), None)
    if weights is None:
        others = [k for k, part in fields.items() if k != key and isinstance(part, list) and _is_column(part)]
        others = [k for k in others if len(fields[k]) == len(items)]
        if len(others) != 1:
            return False
        weights = others[0]
    column = fields[weights]
    for position, (name, item) in enumerate(items):
        item.weight, item.stated = column[position] if isinstance(column, list) else column[name], True
        item.key = weight_name(weights)
        into.add(item)
    into.repairs.append("as-columns")
    return True


def _texts(fields: dict[str, Any]) -> tuple[str, list[tuple[str, RawCandidate]]] | None:
    """The key of the first list of texts, and its candidates with the names that weights may have for them."""
    ranked = sorted(fields, key=lambda key: plain(key) not in LISTS and plain(key) not in TEXTS)
    for key in ranked:
        part = fields[key]
        if weight_name(key) is not None or not part:
            continue
        if isinstance(part, dict) and all(isinstance(text, str) for text in part.values()):
            return key, [(name, RawCandidate(text.strip())) for name, text in part.items()]
        if isinstance(part, list) and all(isinstance(text, str) for text in part):
            return key, [(text, RawCandidate(text.strip())) for text in part]
        if isinstance(part, list) and plain(key) in LISTS and all(isinstance(entry, dict) for entry in part):
            items = [item_of(entry, None) for entry in part]
            if all(item is not None and not item.stated for item in items):
                return key, [(item.text, item) for item in items if item is not None]
    return None


def _fits(part: object, items: Sequence[tuple[str, RawCandidate]]) -> bool:
    if isinstance(part, dict):
        return len(part) == len(items) and all(name in part for name, _ in items)
    return isinstance(part, list) and len(part) == len(items)


def _is_column(part: list[Any]) -> bool:
    """Whether a list under an unknown key states probabilities: numbers that are not all whole."""
    return bool(part) and all(map(is_weight, part)) and not all(isinstance(entry, int) for entry in part)


def read_keyed(pairs: Sequence[tuple[str, Any]], into: CandidateList, *, sure: bool = False) -> bool:
    """Fields that are the candidates: text to weight, name to object, or number to text.

    A few weights may be damaged; with `sure` any that begin with a digit.
    """
    items: list[RawCandidate] = []
    totals = damaged = from_keys = 0
    for key, part in pairs:
        name = plain(key)
        if name in _TOTALS and len(pairs) > 2 and is_weight(part):
            totals += 1
            continue
        item = _keyed_item(key, part, into)
        from_keys += item is not None and item.text == key.strip()
        if item is not None:
            items.append(item)
        elif name not in _OTHER_FIELDS and isinstance(part, (str, int, float)) and name not in TEXTS:
            from_keys += 1
            damaged += not (_may_be_weight(part) or (sure and _DAMAGED_NUMBER.match(str(part))))
            items.append(RawCandidate(key.strip(), part, None, stated=True))
        elif name not in _OTHER_FIELDS or isinstance(part, (dict, list)):
            return False
    if len(items) <= 3 * damaged:
        return False
    if 0 < from_keys < len(items):
        # Texts among the keys and among the values: some keys were damaged.
        into.repairs.append("guessed")
    for item in items:
        into.add(item)
    into.repairs += ["as-mapping", *(["total"] if totals else [])]
    return True


def _keyed_item(key: str, part: Any, into: CandidateList) -> RawCandidate | None:
    is_name = _is_name(key)
    if isinstance(part, dict):
        item = item_of(part, into.shape)
        known = not TEXTS.keys().isdisjoint(map(plain, part))
        if item is not None and (known or (is_name and item.stated)):
            return item
        weight = next((name for name in part if weight_name(name) is not None), None)
        if weight is None or known:
            return None
        rest = {name: value for name, value in part.items() if name != weight}
        misspelt = [
            name for name in rest if isinstance(rest[name], str) and get_close_matches(name, USUAL_TEXTS, 1, 0.8)
        ]
        if not misspelt and _LIKE_NAME.fullmatch(key):
            misspelt = [name for name in rest if isinstance(rest[name], str)]
        if len(misspelt) == 1:
            text = rest.pop(misspelt[0]).strip()
            return RawCandidate(
                text, part[weight], weight_name(weight), stated=True, repairs=["wrong-key"], meta=rest
            )
        return RawCandidate(key.strip(), part[weight], weight_name(weight), stated=True, meta=rest)
    if isinstance(part, list) and is_name and len(part) == 2:
        rows = rows_of([part])
        return RawCandidate(rows[0][0].strip(), rows[0][1], None, stated=True) if rows else None
    if isinstance(part, str) and is_name and not _may_be_weight(part):
        return RawCandidate(part.strip())
    if (
        weight_name(key) is None
        and plain(key) not in TEXTS
        and plain(key) not in _OTHER_FIELDS
        and is_weight(part)
    ):
        return RawCandidate(key.strip(), part, None, stated=True)
    return None


def is_stray(entry: object) -> bool:
    """Whether an entry between objects is a number or a key, which was a part of one of them."""
    return isinstance(entry, (int, float)) or (isinstance(entry, str) and (is_known(entry) or _is_name(entry)))


def _is_name(key: str) -> bool:
    """Whether a key only counts the candidates: "1", "Joke 1", "response_a"."""
    found = index_of(key)
    known = found is not None and (found[0] in TEXTS or found[0] in LISTS)
    return known or _NUMBER.fullmatch(key) is not None


def rows_of(value: list[Any]) -> list[tuple[str, object]]:
    """The pairs of text and weight in a list: rows, two columns, or alternating; none if it is another list."""
    lists = bool(value) and all(isinstance(entry, list) for entry in value)
    if not lists:
        if len(value) == 2 and _may_be_weight(value[1]) and isinstance(value[0], str):
            return [(value[0], value[1])]
        if len(value) < 2 or len(value) % 2 or not any(isinstance(entry, (int, float, list)) for entry in value):
            return []
        return _pairs([value[start : start + 2] for start in range(0, len(value), 2)])
    width = len(value[0])
    if any(len(row) != width for row in value):
        return []
    header = [cell if isinstance(cell, str) else "" for cell in value[0]]
    text = next((at for at, name in enumerate(header) if plain(name) in TEXTS), None)
    weight = next((at for at, name in enumerate(header) if weight_name(name) is not None), None)
    if text is not None and weight is not None:
        return _pairs([(row[text], row[weight]) for row in value[1:]])
    if width == 2 and (pairs := _pairs(value)):
        return pairs
    if len(value) == 2 and width > 1 and (pairs := _pairs(list(zip(*value, strict=True)))):
        return pairs
    return _wide_rows(value) if width > 2 else []


def damaged_rows(value: list[Any]) -> list[tuple[str, object]]:
    """The pairs of a list of which most are two entries long, and the texts of the others."""
    rows: list[list[Any]] = []
    for entry, following in zip(value, [*value[1:], None], strict=False):
        if isinstance(entry, list) and entry:
            rows.append(entry)
        elif isinstance(entry, str) and isinstance(following, (int, float)):
            # The bracket before the text, or after the number, is missing.
            rows.append([entry, following])
    pairs = [(row[0], row[1]) for row in rows if len(row) == 2]
    if not any(isinstance(entry, list) for entry in value) or all(len(row) == 2 for row in rows) > (rows != value):
        return []
    if 3 * len(pairs) < 2 * len(rows) - 2 or not _pairs(pairs):
        return []
    found: list[tuple[str, object]] = []
    for row in rows:
        texts = [cell for cell in row if isinstance(cell, str) and not _may_be_weight(cell)]
        weights = [cell for cell in row if is_weight(cell) and cell not in texts]
        if texts:
            found.append((", ".join(texts), weights[-1] if weights else None))
    return found


def _may_be_weight(part: object) -> bool:
    """Whether a value is a text of digits with a few other signs, such as a damaged decimal fraction."""
    if not isinstance(part, str) or len(part) > _LONGEST_NUMBER or not ("." in part or "," in part):
        return False
    letters, digits = sum(map(str.isalpha, part)), sum(map(str.isdigit, part))
    return digits > 0 and letters <= min(digits, _MOST_STRAY_LETTERS)


def _wide_rows(value: list[list[Any]]) -> list[tuple[str, object]]:
    """The first column of texts, and the only one of numbers that does not count the rows."""
    columns = list(zip(*value, strict=True))
    texts = [column for column in columns if all(isinstance(cell, str) and not is_weight(cell) for cell in column)]
    counts = [tuple(range(start, start + len(value))) for start in (0, 1)]
    weights = [column for column in columns if all(map(is_weight, column)) and column not in counts]
    return _pairs(list(zip(texts[0], weights[0], strict=True))) if texts and len(weights) == 1 else []


def _pairs(rows: Sequence[Sequence[Any]]) -> list[tuple[str, object]]:
    for weight_first in (False, True):
        pairs = [(second, first) if weight_first else (first, second) for first, second in rows]
        read = sum(weight is None or is_weight(weight) or _may_be_weight(weight) for _, weight in pairs)
        scalars = all(isinstance(text, str) and not isinstance(weight, (list, dict)) for text, weight in pairs)
        if read == len(pairs) and all(isinstance(text, str) for text, _ in pairs):
            return pairs
        # A few of the weights may be damaged.
        if scalars and read > len(pairs) / 2 and any(is_weight(weight) for _, weight in pairs):
            return pairs
    return []
