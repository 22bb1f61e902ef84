"""From a decoded JSON value to candidates, whatever the model called things."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jiter

from outspoken.parsing.field_names import BOOKKEEPING, LISTS, QUESTIONS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.probabilities import RawCandidate, number
from outspoken.reply_shape import ReplyShape

__all__ = ["FoundCandidates", "decode", "interpret", "payload"]

_NUMBERED = re.compile(r"\D{0,20}\d{1,4}")
_DEEPEST = 4


@dataclass(slots=True)
class FoundCandidates:
    """What has been found so far. `listed` says that a list was seen, even if it was empty."""

    items: list[RawCandidate] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    listed: bool = False

    def add(self, item: RawCandidate) -> None:
        """Keep a candidate; one without text is no candidate."""
        if item.text:
            self.items.append(item)
        else:
            self.repairs.append("empty")

    def absorb(self, other: FoundCandidates) -> None:
        """Add all of another finding."""
        self.items += other.items
        self.reasoning += other.reasoning
        self.repairs += other.repairs
        self.listed |= other.listed


def decode(text: str) -> Any:
    """The value of sound JSON, else None: too deep, too large and one key twice count as unsound."""
    try:
        return jiter.from_json(text.encode(), catch_duplicate_keys=True)
    except (ValueError, RecursionError):
        return None


def interpret(value: Any, shape: ReplyShape | None, found: FoundCandidates, *, depth: int = 0) -> bool:
    """Add the candidates in `value` to `found`. False where there are none."""
    before = len(found.items)
    if depth <= _DEEPEST:
        if isinstance(value, dict):
            _mapping(value, shape, found, depth)
        elif isinstance(value, list):
            _listing(value, shape, found, depth, scalars=shape is not None and shape.kind in ("strings", "list"))
        elif isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and depth == 0:
            interpret(decode(value), shape, found, depth=1)
            found.repairs.append("decoded")
    return len(found.items) > before


def _mapping(value: dict[str, Any], shape: ReplyShape | None, found: FoundCandidates, depth: int) -> None:
    fields = {}
    for key, part in value.items():
        if plain(key) in REASONING and isinstance(part, str) and len(value) > 1:
            found.reasoning.append(part.strip())
        else:
            fields[key] = part
    if _columns(fields, found):
        return
    item = _item(fields, shape)
    if item is not None and item.stated and not any(_entries(key, part) for key, part in fields.items()):
        found.add(item)
    elif not _named_list(fields, shape, found, depth):
        if _keyed(fields, shape, found):
            found.repairs.append("as-mapping")
        elif (
            not _nested(fields, shape, found, depth)
            and item is not None
            and not TEXTS.keys().isdisjoint(map(plain, fields))
        ):
            found.add(item)


def _nested(fields: dict[str, Any], shape: ReplyShape | None, found: FoundCandidates, depth: int) -> bool:
    before = len(found.items)
    if shape is None or shape.value_schema is None or not any(plain(key) in TEXTS for key in fields):
        for part in fields.values():
            if isinstance(part, (dict, list)) and interpret(part, shape, found, depth=depth + 1):
                found.repairs.append("wrong-key")
    return len(found.items) > before


def _entries(key: str, part: Any) -> bool:
    """Whether this field is a list of candidates rather than a part of one."""
    return isinstance(part, list) and plain(key) in LISTS and any(isinstance(e, dict) for e in part)


def _named_list(fields: dict[str, Any], shape: ReplyShape | None, found: FoundCandidates, depth: int) -> bool:
    before = len(found.items)
    for key, part in fields.items():
        name = plain(key)
        if isinstance(part, str) and part.lstrip()[:1] in ("[", "{") and name in LISTS:
            part = decode(part)
            found.repairs.append("decoded")
        if name not in LISTS and not (isinstance(part, list) and name in TEXTS):
            continue
        if isinstance(part, list):
            _listing(part, shape, found, depth + 1, scalars=True)
        elif isinstance(part, dict):
            interpret(part, shape, found, depth=depth + 1)
        if name != "responses":
            found.repairs.append("wrong-key")
    return len(found.items) > before


def _columns(fields: dict[str, Any], found: FoundCandidates) -> bool:
    """Texts and weights in two lists of the same length."""
    texts: list[Any] | None = None
    weights: tuple[str, list[Any]] | None = None
    for key, part in fields.items():
        if isinstance(part, list) and part:
            if plain(key) in WEIGHTS:
                weights = (key, part)
            elif all(isinstance(entry, str) for entry in part) and texts is None:
                texts = part
    if texts is None or weights is None or len(texts) != len(weights[1]):
        return False
    for text, weight in zip(texts, weights[1], strict=True):
        found.add(RawCandidate(text.strip(), weight, weights[0], stated=True))
    found.repairs.append("as-columns")
    return True


def _keyed(fields: dict[str, Any], shape: ReplyShape | None, found: FoundCandidates) -> bool:
    """An object whose fields are the candidates: text to weight, name to object, or number to text."""
    if not fields:
        return False
    items: list[RawCandidate | None] = []
    for key, part in fields.items():
        if isinstance(part, dict):
            item = _item(part, shape)
            if item is None and len(part) == 1 and plain(next(iter(part))) in WEIGHTS:
                name, weight = next(iter(part.items()))
                item = RawCandidate(key.strip(), weight, name, stated=True)
            items.append(
                item if item is None or item.stated or not TEXTS.keys().isdisjoint(map(plain, part)) else None
            )
        elif isinstance(part, str) and _NUMBERED.fullmatch(key):
            items.append(RawCandidate(part.strip()))
        elif plain(key) not in WEIGHTS and plain(key) not in TEXTS and _weighty(part):
            items.append(RawCandidate(key.strip(), part, None, stated=True))
        else:
            return False
    if None in items:
        return False
    for item in items:
        if item is not None:
            found.add(item)
    return True


def _weighty(part: Any) -> bool:
    if isinstance(part, str):
        return len(part) < 30 and number(part)[0] is not None
    return isinstance(part, (int, float)) and not isinstance(part, bool)


def _listing(
    value: list[Any], shape: ReplyShape | None, found: FoundCandidates, depth: int, *, scalars: bool
) -> None:
    found.listed = True
    pairs = _pairs(value)
    if pairs:
        for text, weight in pairs:
            found.add(RawCandidate(text.strip(), weight, None, stated=True))
        found.repairs.append("as-pairs")
        return
    for entry in value:
        if isinstance(entry, dict):
            item = _item(entry, shape)
            if item is not None and not (not item.stated and any(_entries(k, v) for k, v in entry.items())):
                found.add(item)
            elif not interpret(entry, shape, found, depth=depth + 1):
                found.repairs.append("empty")
        elif isinstance(entry, str):
            found.add(_string(entry, shape))
        elif isinstance(entry, list) and not scalars:
            interpret(entry, shape, found, depth=depth + 1)
        elif scalars and entry is not None:
            text, content = payload(entry, shape)
            found.add(RawCandidate(text, value=content))


def _pairs(value: list[Any]) -> list[tuple[str, Any]]:
    """The pairs of text and weight that a list consists of, nested or in turns; none where it is another list."""
    if value and all(isinstance(entry, list) and len(entry) == 2 for entry in value):
        rows = value
    elif len(value) > 1 and len(value) % 2 == 0 and any(isinstance(entry, (int, float)) for entry in value):
        rows = [value[at : at + 2] for at in range(0, len(value), 2)]
    else:
        return []
    for turned in (False, True):
        pairs = [(second, first) if turned else (first, second) for first, second in rows]
        if all(isinstance(text, str) and (weight is None or _weighty(weight)) for text, weight in pairs):
            return pairs
    return []


def _string(entry: str, shape: ReplyShape | None) -> RawCandidate:
    text, value = payload(entry, shape)
    if value is None and text[:1] == "{" and text[-1:] == "}":
        inner = decode(text)
        item = _item(inner, shape) if isinstance(inner, dict) else None
        if item is not None and item.stated:
            item.repairs.append("decoded")
            return item
    return RawCandidate(text, value=value)


def _item(entry: dict[str, Any], shape: ReplyShape | None) -> RawCandidate | None:
    """One candidate of an object's fields, or None where there is nothing to be its text."""
    names = {plain(key): key for key in entry}
    weight = _weight_key(entry, names, shape)
    text = _text_key(entry, names, shape)
    rest = {key: part for key, part in entry.items() if key not in (weight, text)}
    repairs = []
    if text is None:
        own = {k: v for k, v in rest.items() if plain(k) not in BOOKKEEPING and plain(k) not in REASONING}
        if not own:
            return None
        rest = {k: v for k, v in rest.items() if k not in own}
        only = next(iter(own.values()))
        if len(own) == 1 and isinstance(only, str) and not _takes_object(shape):
            repairs.append("wrong-key")
            raw: Any = only
        else:
            raw = own
    else:
        raw = entry[text]
        if isinstance(raw, dict) and weight is None and (shape is None or shape.value_schema is None):
            inner = _item(raw, shape)
            if inner is not None and inner.stated:
                inner.repairs.append("wrong-key")
                return inner
        if text != ("response" if shape is not None and shape.kind == "answer" else "text"):
            repairs.append("wrong-key")
    if weight is not None and weight != (shape.weight if shape is not None else _asked(weight)):
        repairs.append("wrong-key")
    content, value = payload(raw, shape)
    return RawCandidate(
        content, entry.get(weight or ""), weight, weight is not None, value, repairs, _finite(rest)
    )


def _asked(weight: str) -> str:
    """The key that a template asks for where it wants what this key states."""
    scale = WEIGHTS.get(plain(weight), "probability")
    return weight if scale != "probability" else scale


def _weight_key(entry: dict[str, Any], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if shape is not None and shape.weight in entry:
        return shape.weight
    if "probability" in names:
        return names["probability"]
    keys = [key for name, key in names.items() if name in WEIGHTS]
    return next((key for key in keys if not isinstance(entry[key], (dict, list))), None)


def _text_key(entry: dict[str, Any], names: Mapping[str, str], shape: ReplyShape | None) -> str | None:
    if "text" in names:
        return names["text"]
    if any(name in QUESTIONS for name in names) and not (shape is not None and shape.kind == "answer"):
        return None
    known = [name for name in names if name in TEXTS]
    if not known:
        return None
    key = names[min(known, key=TEXTS.__getitem__)]
    schema = shape.value_schema if shape is not None else None
    return None if schema is not None and key in schema.get("properties", {}) else key


def payload(raw: Any, shape: ReplyShape | None) -> tuple[str, Any]:
    """The text and the structured value of a candidate's content.

    With a schema that takes no string, a string that holds JSON is decoded.
    """
    schema = shape.value_schema if shape is not None else None
    if isinstance(raw, str):
        text = raw.strip()
        if schema is None:
            return text, None
        value = None if _takes(schema, schema, "string") else _finite(decode(text))
        return text, text if value is None else value
    raw = _finite(raw)
    return ("" if raw is None else json.dumps(raw, ensure_ascii=False)), raw


def _finite(value: Any) -> Any:
    """The value without NaN and infinities, which JSON has no words for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return value


def _takes_object(shape: ReplyShape | None) -> bool:
    schema = shape.value_schema if shape is not None else None
    return schema is not None and _takes(schema, schema, "object")


def _takes(schema: Any, root: Mapping[str, Any], kind: str, depth: int = 0) -> bool:
    """Whether a JSON schema lets values of this type pass, as far as its own words tell."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return True
    types = schema.get("type")
    if types is not None:
        return kind == types or (isinstance(types, list) and kind in types)
    for word in ("enum", "const"):
        if word in schema:
            values = schema[word] if word == "enum" else [schema[word]]
            return any(isinstance(value, str if kind == "string" else dict) for value in values)
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#/"):
        part: Any = root
        for step in target[2:].split("/"):
            part = part.get(step) if isinstance(part, Mapping) else None
        return _takes(part, root, kind, depth + 1)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return any(_takes(option, root, kind, depth + 1) for option in schema[word])
    return "properties" not in schema or kind == "object"
