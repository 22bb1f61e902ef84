"""The fields of one object: which is the text, which the weight, which belong to a number in their keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import jiter

from outspoken.io.dataclass_json import finite
from outspoken.parsing.candidates import RawCandidate
from outspoken.parsing.field_names import (
    BOOKKEEPING,
    LISTS,
    QUESTIONS,
    REASONING,
    TEXTS,
    USUAL_TEXTS,
    WEIGHTS,
    plain,
)
from outspoken.parsing.json_escapes import literal_backslashes
from outspoken.parsing.json_signs import weight_name
from outspoken.parsing.lenient_json import relax
from outspoken.parsing.numbers import number
from outspoken.reply_shape import ReplyShape

__all__ = [
    "candidate_of",
    "content_of",
    "decode",
    "index_of",
    "is_weight",
    "item_of",
    "json_inside",
    "leaves_fields",
    "numbered_entries",
    "schema_of",
    "takes",
]

_MAX_DEPTH = 4
_NUMBERED = re.compile(r"(\D{0,60}?)_?(\d{1,4})_?(\D{0,60})")
_LETTERED = re.compile(r"([^_].{0,60}?)_([a-j])(?:_(.{1,60}))?")
_FENCED = re.compile(r"\s*+```[\w-]{0,20}\s*+(.*?)\s*(?:```\s*+)?\Z", re.DOTALL)
_LONGEST_WEIGHT = 60


def decode(text: str, repairs: list[str] | None = None) -> Any:
    """The value of valid JSON; None for other text, and for JSON that is too deep, too large or repeats a key.

    A backslash that begins no escape stays in its text, with the repair "bad-escape".
    """
    written = literal_backslashes(text) if "\\" in text else text
    try:
        value = jiter.from_json(written.encode(), catch_duplicate_keys=True)
    except (ValueError, RecursionError):
        return None
    if repairs is not None and len(written) > len(text):
        repairs.append("bad-escape")
    return value


def json_inside(text: str) -> Any:
    """The object or list that a string holds, valid or nearly so, perhaps in a fence; None for others."""
    fenced = _FENCED.match(text) if "```" in text else None
    text = (fenced[1] if fenced is not None else text).strip()
    if text[:1] not in ("{", "["):
        return None
    value = decode(text)
    if value is None and (relaxed := relax(text, cut=True)) is not None:
        value = relaxed.value
    return value if isinstance(value, (dict, list)) else None


@lru_cache(maxsize=4096)
def index_of(key: str) -> tuple[str, str] | None:
    """The name of a numbered or lettered field and its number: ("response", "1") for "Response 1", or None."""
    name = plain(key)
    match = _NUMBERED.fullmatch(name)
    if match is not None:
        stem, index, tail = match.groups()
    else:
        match = _LETTERED.fullmatch(name)
        if match is None:
            return None
        stem, index, tail = match[1], match[2], match[3] or ""
    stem = "_".join(part for part in (stem.strip("_"), tail.strip("_")) if part)
    return weight_name(stem) or stem, index


def numbered_entries(fields: Mapping[str, object]) -> list[dict[str, object]]:
    """The candidates of an object whose keys are numbered: `response_1`, `probability_1`, `response_2`, … .

    Empty if its keys are not, and if the object states one weight for all of them.
    """
    entries = _by_number(fields)
    whole = [entry for entry in entries.values() if not WEIGHTS.keys().isdisjoint(entry) and len(entry) > 1]
    if not whole or (len(entries) == 1 and _states_one(fields)):
        return []
    names = {name for entry in whole for name in entry if name not in WEIGHTS}
    weights = {name for entry in whole for name in entry if name in WEIGHTS}
    return [_with_weight(entry, names, weights) for entry in entries.values() if not names.isdisjoint(entry)]


def _states_one(fields: Mapping[str, object]) -> bool:
    return any(plain(key) in WEIGHTS and not isinstance(part, (dict, list)) for key, part in fields.items())


def _with_weight(entry: dict[str, object], names: set[str], weights: set[str]) -> dict[str, object]:
    """An entry whose only number besides the usual fields stands under a damaged key, with the usual key."""
    odd = [key for key, part in entry.items() if key not in names and key not in WEIGHTS and is_weight(part)]
    if not WEIGHTS.keys().isdisjoint(entry):
        return entry
    if len(odd) != 1 or len(weights) != 1:
        return {key: part for key, part in entry.items() if key in names}
    return {key: part for key, part in entry.items() if key not in odd} | {next(iter(weights)): entry[odd[0]]}


def leaves_fields(fields: Mapping[str, object]) -> bool:
    """Whether some of the numbered fields belong to no candidate, because the key of another is damaged."""
    return len(_by_number(fields)) > len(numbered_entries(fields)) or _states_one(fields)


def _by_number(fields: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The fields whose keys have a number, by that and the rest of the key."""
    entries: dict[str, dict[str, object]] = {}
    for key, part in fields.items():
        found = index_of(key)
        if found is not None and found[0]:
            entries.setdefault(found[1], {}).setdefault(found[0], part)
    return entries


def is_weight(part: object) -> bool:
    """Whether a value is a number, or text that states one."""
    if isinstance(part, str):
        return len(part) < _LONGEST_WEIGHT and number(part)[0] is not None
    if isinstance(part, list):
        return len(part) == 1 and is_weight(part[0])
    return isinstance(part, (int, float)) and not isinstance(part, bool)


def item_of(entry: Mapping[str, object], shape: ReplyShape | None) -> RawCandidate | None:
    """The candidate that an object's fields describe, or None if no field can be its text."""
    names, schema = {plain(key): key for key in entry}, schema_of(shape)
    weight_key = _weight_key(entry, names, shape)
    text = _text_key(entry, names, shape)
    weight = entry.get(weight_key or "")
    rest = {key: part for key, part in entry.items() if key not in (weight_key, text)}
    repairs: list[str] = []
    for value in (entry, *entry.values()):
        repairs += getattr(value, "repairs", ())
    raw: object
    if text is None:
        fields = {k: v for k, v in rest.items() if plain(k) not in BOOKKEEPING and plain(k) not in REASONING}
        if all(part is None or part in ([], {}) for part in fields.values()):
            return None
        rest = {k: v for k, v in rest.items() if k not in fields}
        raw, only = fields, next(iter(fields.values()))
        if len(fields) == 1 and isinstance(only, str) and not (schema is not None and takes(schema, "object")):
            repairs.append("wrong-key")
            raw = only
    else:
        raw = entry[text]
        if isinstance(raw, dict) and weight_key is None and schema is None:
            inner = item_of(raw, shape)
            if inner is not None and inner.stated:
                inner.repairs.append("wrong-key")
                return inner
        if schema is None:
            raw = _text_inside(raw)
        if text != ("response" if shape is not None and shape.kind == "answer" else "text"):
            repairs.append("wrong-key")
    if weight_key is None and schema is None:
        weight_key, weight = _weight_inside(rest)
    # Without a shape, any key is accepted for a scale other than that of probabilities.
    is_other = weight_key is not None and weight_key != (shape.weight if shape is not None else "probability")
    scale = WEIGHTS.get(weight_name(weight_key or "") or "", "probability")
    if is_other and (shape is not None or scale == "probability"):
        repairs.append("wrong-key")
    content, value = content_of(raw, shape)
    asked = shape is not None and weight_key == shape.weight
    name = weight_key if weight_key is None or asked else weight_name(weight_key)
    return RawCandidate(content, weight, name, weight_key is not None, value, repairs, finite(rest))


def _weight_key(entry: Mapping[str, object], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if shape is not None and shape.weight in entry:
        return shape.weight
    if "probability" in names:
        return names["probability"]
    keys = [key for key in names.values() if weight_name(key) is not None]
    plain_numbers = (key for key in keys if not isinstance(entry[key], (dict, list)))
    return next(plain_numbers, keys[0] if len(keys) == 1 else None)


def _weight_inside(rest: Mapping[str, object]) -> tuple[str | None, object]:
    """The weight in the only object among the other fields that has one."""
    found = [
        (key, part)
        for value in rest.values()
        if isinstance(value, dict) and value.keys().isdisjoint(TEXTS)
        for key, part in value.items()
        if weight_name(key) is not None and is_weight(part)
    ]
    return found[0] if len(found) == 1 else (None, None)


def _text_inside(raw: object) -> object:
    """The text in an object that holds nothing else, and of the parts of a message; other values are unchanged."""
    if isinstance(raw, dict):
        known = [key for key in raw if plain(key) not in BOOKKEEPING]
        if len(known) == 1 and plain(known[0]) in TEXTS and isinstance(raw[known[0]], str):
            return raw[known[0]]
    elif isinstance(raw, list) and raw and all(isinstance(part, dict) and "type" in part for part in raw):
        texts = [_text_inside(part) for part in raw]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(map(str, texts))
    return raw


def _text_key(entry: Mapping[str, object], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if "text" in names:
        return names["text"]
    if any(name in QUESTIONS for name in names) and not (shape is not None and shape.kind == "answer"):
        return None
    known = [name for name in names if name in TEXTS]
    if not known:
        return next((key for name, key in names.items() if _is_misspelt_text(name)), None)
    key = names[min(known, key=TEXTS.__getitem__)]
    schema = schema_of(shape)
    properties = None if schema is None else schema.get("properties")
    return None if isinstance(properties, Mapping) and key in properties else key


@lru_cache(maxsize=4096)
def _is_misspelt_text(name: str) -> bool:
    """Whether a key is probably one of the usual keys of a text, with a letter too few or too many."""
    name = re.sub(r"[\W_]", "", name)
    if not 2 < len(name) < 12 or not name.isalpha() or name in BOOKKEEPING or name in LISTS:
        return False
    return bool(get_close_matches(name, USUAL_TEXTS, 1, 0.85))


def candidate_of(raw: object, shape: ReplyShape | None) -> RawCandidate:
    """A candidate with this content and no weight yet."""
    text, value = content_of(raw, shape)
    return RawCandidate(text, value=value)


def content_of(raw: object, shape: ReplyShape | None) -> tuple[str, Any]:
    """The text and the structured value of a candidate's content.

    A string that holds JSON is decoded if the schema does not accept strings.
    """
    if isinstance(raw, str):
        schema = schema_of(shape)
        text = raw.strip()
        if schema is None:
            return text, None
        value = None if takes(schema, "string") else finite(decode(text))
        return text, text if value is None else value
    raw = finite(raw)
    return ("" if raw is None else json.dumps(raw, ensure_ascii=False)), raw


def schema_of(shape: ReplyShape | None) -> Mapping[str, object] | None:
    return None if shape is None else shape.value_schema


def takes(schema: Mapping[str, object], kind: str) -> bool:
    """Whether a JSON schema may accept values of this type, judged by its own keywords."""
    return _takes(schema, schema, kind, 0)


def _takes(schema: object, root: Mapping[str, object], kind: str, depth: int) -> bool:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return True
    types = schema.get("type")
    if types is not None:
        return kind == types or (isinstance(types, list) and kind in types)
    for keyword in ("enum", "const"):
        if keyword in schema:
            values = schema[keyword] if keyword == "enum" else [schema[keyword]]
            return any(isinstance(value, str if kind == "string" else dict) for value in _iterable(values))
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#/"):
        part: object = root
        for step in target[2:].split("/"):
            part = part.get(step) if isinstance(part, Mapping) else None
        return _takes(part, root, kind, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list):
            return any(_takes(option, root, kind, depth + 1) for option in _iterable(schema[keyword]))
    return "properties" not in schema or kind == "object"


def _iterable(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()
