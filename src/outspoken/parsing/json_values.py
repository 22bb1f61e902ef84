"""Candidates in a decoded JSON value, under any names that models use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import jiter

from outspoken.io.dataclass_json import finite
from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import BOOKKEEPING, LISTS, QUESTIONS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.numbers import number
from outspoken.reply_shape import ReplyShape

__all__ = ["candidate_of", "content_of", "decode", "read_value"]

_NUMBERED = re.compile(r"\D{0,20}\d{1,4}")
_MAX_DEPTH = 4


def decode(text: str) -> Any:
    """The value of valid JSON; None for other text, and for JSON that is too deep, too large or repeats a key."""
    try:
        return jiter.from_json(text.encode(), catch_duplicate_keys=True)
    except (ValueError, RecursionError):
        return None


def read_value(value: object, into: CandidateList, *, depth: int = 0) -> bool:
    """Add the candidates in `value` to `into`. False if there are none."""
    before = len(into.items)
    if depth <= _MAX_DEPTH:
        if isinstance(value, dict):
            _read_object(value, into, depth)
        elif isinstance(value, list):
            scalars = into.shape is not None and into.shape.kind in ("strings", "list")
            _read_list(value, into, depth, scalars=scalars)
        elif isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and depth == 0:
            read_value(decode(value), into, depth=1)
            into.repairs.append("decoded")
    return len(into.items) > before


def _read_object(value: dict[str, object], into: CandidateList, depth: int) -> None:
    fields = {}
    for key, part in value.items():
        if plain(key) in REASONING and isinstance(part, str) and len(value) > 1:
            into.reasoning.append(part.strip())
        else:
            fields[key] = part
    if _read_columns(fields, into):
        return
    item = _item(fields, into.shape)
    if item is not None and item.stated and not any(_holds_candidates(key, part) for key, part in fields.items()):
        into.add(item)
    elif not _read_named_list(fields, into, depth):
        if _read_keyed(fields, into):
            into.repairs.append("as-mapping")
        elif (
            not _read_nested(fields, into, depth)
            and item is not None
            and not TEXTS.keys().isdisjoint(map(plain, fields))
        ):
            into.add(item)


def _read_nested(fields: dict[str, object], into: CandidateList, depth: int) -> bool:
    before = len(into.items)
    if _schema(into.shape) is None or not any(plain(key) in TEXTS for key in fields):
        for part in fields.values():
            if isinstance(part, (dict, list)) and read_value(part, into, depth=depth + 1):
                into.repairs.append("wrong-key")
    return len(into.items) > before


def _holds_candidates(key: str, part: object) -> bool:
    """Whether this field is a list of candidates, and not a field of one candidate."""
    return isinstance(part, list) and plain(key) in LISTS and any(isinstance(entry, dict) for entry in part)


def _read_named_list(fields: dict[str, object], into: CandidateList, depth: int) -> bool:
    before = len(into.items)
    for key, part in fields.items():
        name = plain(key)
        if isinstance(part, str) and part.lstrip()[:1] in ("[", "{") and name in LISTS:
            part = decode(part)
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


def _read_columns(fields: dict[str, object], into: CandidateList) -> bool:
    """Texts and weights in two lists of the same length."""
    texts: list[str] | None = None
    weights: tuple[str, list[object]] | None = None
    for key, part in fields.items():
        if isinstance(part, list) and part:
            if plain(key) in WEIGHTS:
                weights = (key, part)
            elif all(isinstance(entry, str) for entry in part) and texts is None:
                texts = part
    if texts is None or weights is None or len(texts) != len(weights[1]):
        return False
    for text, weight in zip(texts, weights[1], strict=True):
        into.add(RawCandidate(text.strip(), weight, weights[0], stated=True))
    into.repairs.append("as-columns")
    return True


def _read_keyed(fields: dict[str, object], into: CandidateList) -> bool:
    """An object whose fields are the candidates: text to weight, name to object, or number to text."""
    if not fields:
        return False
    items: list[RawCandidate | None] = []
    for key, part in fields.items():
        if isinstance(part, dict):
            item = _item(part, into.shape)
            if item is None and len(part) == 1 and plain(next(iter(part))) in WEIGHTS:
                name, weight = next(iter(part.items()))
                item = RawCandidate(key.strip(), weight, name, stated=True)
            items.append(
                item if item is None or item.stated or not TEXTS.keys().isdisjoint(map(plain, part)) else None
            )
        elif isinstance(part, str) and _NUMBERED.fullmatch(key):
            items.append(RawCandidate(part.strip()))
        elif plain(key) not in WEIGHTS and plain(key) not in TEXTS and _is_weight(part):
            items.append(RawCandidate(key.strip(), part, None, stated=True))
        else:
            return False
    if None in items:
        return False
    for item in filter(None, items):
        into.add(item)
    return True


def _is_weight(part: object) -> bool:
    if isinstance(part, str):
        return len(part) < 30 and number(part)[0] is not None
    return isinstance(part, (int, float)) and not isinstance(part, bool)


def _read_list(value: list[object], into: CandidateList, depth: int, *, scalars: bool) -> None:
    into.list_seen = True
    pairs = _pairs(value)
    if pairs:
        for text, weight in pairs:
            into.add(RawCandidate(text.strip(), weight, None, stated=True))
        into.repairs.append("as-pairs")
        return
    for entry in value:
        if isinstance(entry, dict):
            item = _item(entry, into.shape)
            if item is not None and (item.stated or not any(_holds_candidates(k, v) for k, v in entry.items())):
                into.add(item)
            elif not read_value(entry, into, depth=depth + 1):
                into.repairs.append("empty")
        elif isinstance(entry, str):
            into.add(_string(entry, into.shape))
        elif isinstance(entry, list) and not scalars:
            read_value(entry, into, depth=depth + 1)
        elif scalars and entry is not None:
            into.add(candidate_of(entry, into.shape))


def _pairs(value: list[Any]) -> list[tuple[str, object]]:
    """The pairs of text and weight in a list, nested or alternating; none if it is another list."""
    if value and all(isinstance(entry, list) and len(entry) == 2 for entry in value):
        rows = value
    elif len(value) > 1 and len(value) % 2 == 0 and any(isinstance(entry, (int, float)) for entry in value):
        rows = [value[start : start + 2] for start in range(0, len(value), 2)]
    else:
        return []
    for weight_first in (False, True):
        pairs = [(second, first) if weight_first else (first, second) for first, second in rows]
        if all(isinstance(text, str) and (weight is None or _is_weight(weight)) for text, weight in pairs):
            return pairs
    return []


def _string(entry: str, shape: ReplyShape | None) -> RawCandidate:
    candidate = candidate_of(entry, shape)
    if candidate.value is None and candidate.text[:1] == "{" and candidate.text[-1:] == "}":
        inner = decode(candidate.text)
        item = _item(inner, shape) if isinstance(inner, dict) else None
        if item is not None and item.stated:
            item.repairs.append("decoded")
            return item
    return candidate


def _item(entry: dict[str, object], shape: ReplyShape | None) -> RawCandidate | None:
    """The candidate that an object's fields describe, or None if no field can be its text."""
    names, schema = {plain(key): key for key in entry}, _schema(shape)
    weight = _weight_key(entry, names, shape)
    text = _text_key(entry, names, shape)
    rest = {key: part for key, part in entry.items() if key not in (weight, text)}
    repairs = []
    raw: object
    if text is None:
        fields = {k: v for k, v in rest.items() if plain(k) not in BOOKKEEPING and plain(k) not in REASONING}
        if not fields:
            return None
        rest = {k: v for k, v in rest.items() if k not in fields}
        raw, only = fields, next(iter(fields.values()))
        takes_object = schema is not None and _takes(schema, schema, "object")
        if len(fields) == 1 and isinstance(only, str) and not takes_object:
            repairs.append("wrong-key")
            raw = only
    else:
        raw = entry[text]
        if isinstance(raw, dict) and weight is None and schema is None:
            inner = _item(raw, shape)
            if inner is not None and inner.stated:
                inner.repairs.append("wrong-key")
                return inner
        if text != ("response" if shape is not None and shape.kind == "answer" else "text"):
            repairs.append("wrong-key")
    # Without a shape, any key is accepted for a scale other than that of probabilities.
    is_other = weight is not None and weight != (shape.weight if shape is not None else "probability")
    if is_other and (shape is not None or WEIGHTS.get(plain(weight or ""), "probability") == "probability"):
        repairs.append("wrong-key")
    content, value = content_of(raw, shape)
    return RawCandidate(content, entry.get(weight or ""), weight, weight is not None, value, repairs, finite(rest))


def _weight_key(entry: dict[str, object], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if shape is not None and shape.weight in entry:
        return shape.weight
    if "probability" in names:
        return names["probability"]
    keys = [key for name, key in names.items() if name in WEIGHTS]
    return next((key for key in keys if not isinstance(entry[key], (dict, list))), None)


def _text_key(entry: dict[str, object], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if "text" in names:
        return names["text"]
    if any(name in QUESTIONS for name in names) and not (shape is not None and shape.kind == "answer"):
        return None
    known = [name for name in names if name in TEXTS]
    if not known:
        return None
    key = names[min(known, key=TEXTS.__getitem__)]
    schema = _schema(shape)
    properties = None if schema is None else schema.get("properties")
    return None if isinstance(properties, Mapping) and key in properties else key


def candidate_of(raw: object, shape: ReplyShape | None) -> RawCandidate:
    """A candidate with this content and no weight yet."""
    text, value = content_of(raw, shape)
    return RawCandidate(text, value=value)


def content_of(raw: object, shape: ReplyShape | None) -> tuple[str, Any]:
    """The text and the structured value of a candidate's content.

    A string that holds JSON is decoded if the schema does not accept strings.
    """
    if isinstance(raw, str):
        schema = _schema(shape)
        text = raw.strip()
        if schema is None:
            return text, None
        value = None if _takes(schema, schema, "string") else finite(decode(text))
        return text, text if value is None else value
    raw = finite(raw)
    return ("" if raw is None else json.dumps(raw, ensure_ascii=False)), raw


def _schema(shape: ReplyShape | None) -> Mapping[str, object] | None:
    return None if shape is None else shape.value_schema


def _takes(schema: object, root: Mapping[str, object], kind: str, depth: int = 0) -> bool:
    """Whether a JSON schema may accept values of this type, judged by its own keywords."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return True
    types = schema.get("type")
    if types is not None:
        return kind == types or (isinstance(types, list) and kind in types)
    for keyword in ("enum", "const"):
        if keyword in schema:
            values = schema[keyword] if keyword == "enum" else [schema[keyword]]
            return any(isinstance(value, str if kind == "string" else dict) for value in values)
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#/"):
        part: object = root
        for step in target[2:].split("/"):
            part = part.get(step) if isinstance(part, Mapping) else None
        return _takes(part, root, kind, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list):
            return any(_takes(option, root, kind, depth + 1) for option in schema[keyword])
    return "properties" not in schema or kind == "object"
