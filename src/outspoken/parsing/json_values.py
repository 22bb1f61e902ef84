"""Candidates in a decoded JSON value, under any names that models use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_fields import (
    candidate_of,
    content_of,
    decode,
    is_weight,
    item_of,
    json_inside,
    numbered_entries,
    schema_of,
)
from outspoken.parsing.json_layouts import (
    damaged_rows,
    drop_total,
    is_stray,
    read_columns,
    read_keyed,
    read_numbered,
    rows_of,
)
from outspoken.parsing.json_signs import weight_name
from outspoken.reply_shape import ReplyShape

__all__ = ["candidate_of", "content_of", "decode", "read_value"]

_MAX_DEPTH = 6
_MOST_ENTRIES = 20_000
_FIELDS = TEXTS.keys() | WEIGHTS.keys() | LISTS
_WRAPPERS = TEXTS.keys() | {
    *("arguments", "parameters", "params", "args", "kwargs", "input", "function", "tool_calls", "tool_call"),
    *("tool_use", "call", "message", "messages", "delta", "choices", "parts", "result", "payload", "json"),
    *("json_string", "final", "data", "response_format", "structured_output", "parsed"),
}
"""The keys of what is around an answer, such as the arguments of a call or a message."""


def read_value(value: object, into: CandidateList, *, depth: int = 0) -> bool:
    """Add the candidates in `value` to `into`. False if there are none."""
    before = len(into.items)
    if depth <= _MAX_DEPTH:
        if isinstance(value, dict):
            _read_object(value, into, depth)
        elif isinstance(value, list):
            scalars = into.shape is not None and into.shape.kind in ("strings", "list")
            _read_list(value, into, depth, scalars=scalars)
        elif isinstance(value, str) and depth == 0 and (inner := json_inside(value)) is not None:
            read_value(inner, into, depth=1)
            into.repairs.append("decoded")
    return len(into.items) > before


def _read_object(value: dict[str, Any], into: CandidateList, depth: int) -> None:
    own_repairs = getattr(value, "repairs", ())
    fields: dict[str, Any] = {}
    for key, part in value.items():
        if plain(key) in REASONING and isinstance(part, str) and len(value) > 1:
            into.reasoning.append(part.strip())
        else:
            fields[key] = part
    item = item_of(fields, into.shape)
    is_candidate = item is not None and item.stated and not _holds_candidates(fields)
    several = not is_candidate or _states_several(fields)
    if several and (read_numbered(fields, into) or read_columns(fields, into)):
        into.repairs += own_repairs
        return
    if _are_numbered(fields) and read_keyed(list(fields.items()), into):
        into.repairs += own_repairs
        return
    if item is not None and is_candidate and not is_weight(item.weight) and _read_wrapped(fields, into, depth):
        return
    if item is not None and is_candidate:
        item.repairs[:0] = own_repairs
        into.add(item)
        return
    into.repairs += own_repairs
    if _read_table(fields, into) or _read_named_list(fields, into, depth):
        return
    if _read_wrapped(fields, into, depth) or read_keyed(list(fields.items()), into):
        return
    if (
        not _read_nested(fields, into, depth)
        and item is not None
        and not TEXTS.keys().isdisjoint(map(plain, fields))
    ):
        into.add(item)


def _are_numbered(fields: Mapping[str, Any]) -> bool:
    """Whether the fields are objects whose keys begin alike, as if numbered, and one number may be missing."""
    keys = [key for key, part in fields.items() if isinstance(part, dict)]
    return 1 < len(keys) == len(fields) and all(key[:4] == keys[0][:4] for key in keys)


def _read_nested(fields: Mapping[str, object], into: CandidateList, depth: int) -> bool:
    before = len(into.items)
    if schema_of(into.shape) is None or not any(plain(key) in TEXTS for key in fields):
        for part in fields.values():
            if isinstance(part, (dict, list)) and read_value(part, into, depth=depth + 1):
                into.repairs.append("wrong-key")
    return len(into.items) > before


def _read_wrapped(fields: Mapping[str, object], into: CandidateList, depth: int) -> bool:
    """The stated candidates inside the arguments of a call or a message, perhaps in a string."""
    if schema_of(into.shape) is not None:
        return False
    for key, part in fields.items():
        if plain(key) not in _WRAPPERS and not (isinstance(part, dict) and _holds_candidates(part)):
            continue
        trial = CandidateList(into.shape)
        inner = json_inside(part) if isinstance(part, str) else part
        if not isinstance(inner, (dict, list)):
            continue
        read_value(inner, trial, depth=depth + 1)
        if any(item.stated for item in trial.items):
            into.extend(trial)
            into.repairs.append("decoded" if isinstance(part, str) else "wrong-key")
            return True
    return False


def _states_several(fields: Mapping[str, Any]) -> bool:
    """Whether an object with a weight may state those of several candidates: in a list, or in numbered fields."""
    lists = {key for key, part in fields.items() if isinstance(part, (list, dict)) and part}
    weights = {key for key in lists if weight_name(key) is not None}
    columns = any(len(fields[key]) > 1 for key in weights) or any(plain(key) in LISTS for key in lists - weights)
    columns = columns or any(isinstance(fields[key], list) for key in lists - weights)
    return bool(weights and columns) or bool(numbered_entries(fields))


def _holds_candidates(fields: Mapping[str, object]) -> bool:
    """Whether a field is a list of candidates, and not a field of one candidate."""
    return any(
        isinstance(part, list) and plain(key) in LISTS and any(isinstance(entry, dict) for entry in part)
        for key, part in fields.items()
    )


def _read_table(fields: Mapping[str, Any], into: CandidateList) -> bool:
    """The names of columns in one list, and rows in another."""
    lists = [part for part in fields.values() if isinstance(part, list) and part]
    header = next(
        (part for part in lists if any(isinstance(n, str) and weight_name(n) is not None for n in part)), None
    )
    rows = next((part for part in lists if all(isinstance(row, list) for row in part)), None)
    if header is None or rows is None:
        return False
    return _add_pairs(rows_of([header, *rows]), into)


def _read_named_list(fields: Mapping[str, Any], into: CandidateList, depth: int) -> bool:
    before = len(into.items)
    for key, part in fields.items():
        name = plain(key)
        if isinstance(part, str) and name in LISTS and (inner := json_inside(part)) is not None:
            part = inner
            into.repairs.append("decoded")
        if name not in LISTS and not (isinstance(part, list) and name in TEXTS):
            continue
        if isinstance(part, list):
            _read_list(part, into, depth + 1, scalars=True)
        elif isinstance(part, dict):
            read_value(part, into, depth=depth + 1)
        if name != "responses":
            into.repairs.append("wrong-key")
    return len(into.items) > before


def _add_pairs(pairs: list[tuple[str, object]], into: CandidateList) -> bool:
    for text, weight in pairs:
        into.add(RawCandidate(text.strip(), weight, None, stated=True))
    if pairs:
        into.repairs.append("as-pairs")
    return bool(pairs)


def _read_list(value: list[Any], into: CandidateList, depth: int, *, scalars: bool) -> None:
    into.list_seen = True
    before = len(into.items)
    if _add_pairs(rows_of(value), into) or _read_mappings(value, into):
        drop_total(into, before)
        return
    if _add_pairs(damaged_rows(value), into):
        into.repairs.append("guessed")
        drop_total(into, before)
        return
    if len(value) > _MOST_ENTRIES:
        into.repairs.append("unread")
    objects = sum(isinstance(entry, dict) for entry in value)
    wide = any(isinstance(entry, dict) and not _is_weight_alone(entry) for entry in value)
    for entry in value[:_MOST_ENTRIES]:
        if not entry and isinstance(entry, (dict, list)):
            into.repairs.append("empty")
        elif isinstance(entry, dict) and wide and _is_weight_alone(entry):
            into.repairs.append("unread")
        elif isinstance(entry, dict):
            _read_entry(entry, into, depth)
        elif is_stray(entry) if objects else len(value) == 1 and isinstance(entry, str) and plain(entry) in LISTS:
            into.repairs.append("skipped")
        elif isinstance(entry, str):
            into.add(_string(entry, into.shape))
        elif isinstance(entry, list) and 2 * objects > len(value) and all(isinstance(part, str) for part in entry):
            # A remark in brackets between the objects.
            into.repairs.append("skipped")
        elif isinstance(entry, list) and (not scalars or any(isinstance(part, (dict, list)) for part in entry)):
            read_value(entry, into, depth=depth + 1)
        elif scalars and entry is not None:
            into.add(candidate_of(entry, into.shape))
    drop_total(into, before)


def _read_mappings(value: list[Any], into: CandidateList) -> bool:
    """A list of objects with one field each, from text to weight; a few may have lost the bracket between them."""
    entries = [entry for entry in value if isinstance(entry, dict)]
    pairs = [pair for entry in entries for pair in entry.items()]
    if 3 * len(entries) < 2 * len(value) or not pairs or not _mostly_single(entries, pairs):
        return False
    if any(plain(key) in _FIELDS for key, _ in pairs) or schema_of(into.shape) is not None:
        return False
    whole = all(not isinstance(part, (list, dict)) or len(pairs) == len(entries) for _, part in pairs)
    if not whole or len({key for key, _ in pairs}) < len(pairs) or not read_keyed(pairs, into, sure=True):
        return False
    if len(entries) < len(value):
        into.repairs.append("unread")
    into.repairs += [repair for entry in entries for repair in getattr(entry, "repairs", ())]
    return True


def _mostly_single(entries: list[dict[str, Any]], pairs: list[tuple[str, Any]]) -> bool:
    single = sum(len(entry) == 1 for entry in entries)
    return 2 * single >= len(pairs) or (single > 0 and all(is_weight(part) for _, part in pairs))


def _read_entry(entry: dict[str, Any], into: CandidateList, depth: int) -> None:
    """An object of a list: one candidate, or several."""
    if read_numbered(entry, into):
        into.repairs += getattr(entry, "repairs", ())
        return
    item = item_of(entry, into.shape)
    if item is not None and item.stated and not _holds_candidates(entry) and not _states_several(entry):
        into.add(item)
    elif not _read_wrapped(entry, into, depth):
        if item is not None and not _holds_candidates(entry):
            into.add(item)
        elif not read_value(entry, into, depth=depth + 1):
            into.repairs.append("empty")


def _is_weight_alone(entry: dict[str, Any]) -> bool:
    """Whether an object has nothing but a weight, because a bracket parted it from its candidate."""
    if len(entry) == 1 and isinstance(entry.get("value"), (int, float)):
        return True
    return all(weight_name(key) is not None for key in entry)


def _string(entry: str, shape: ReplyShape | None) -> RawCandidate:
    candidate = candidate_of(entry, shape)
    if candidate.value is None and candidate.text[:1] == "{" and candidate.text[-1:] == "}":
        inner = decode(candidate.text)
        item = item_of(inner, shape) if isinstance(inner, dict) else None
        if item is not None and item.stated:
            item.repairs.append("decoded")
            return item
    return candidate
