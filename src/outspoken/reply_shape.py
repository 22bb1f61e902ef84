"""The shape of a reply, which the prompt asks for and a decoder may enforce."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["Kind", "ReplyShape", "Scale"]

Kind = Literal["text", "answer", "strings", "list", "candidates", "xml"]
Scale = Literal["probability", "percent", "nll", "perplexity"]

_DEFINITIONS = ("$defs", "definitions")
_TEXT: Mapping[str, object] = {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """The layout of one reply.

    `kind` is one of
    - "text": the whole reply is one candidate;
    - "answer": a JSON object with the keys "reasoning" and "response";
    - "strings": a JSON object whose key "responses" holds `k` strings;
    - "list": a bare list of `k` strings;
    - "candidates": a JSON object whose key "responses" holds `k` objects with "text" and a stated weight;
    - "xml": `<response><text>…</text><probability>…</probability></response>`, `k` times.

    `weight` is the key of the stated weight and `scale` the meaning of its number. `tau` is an upper bound of the
    stated probability. `value_schema` is the user's JSON schema for structured candidates: "text" then holds a
    JSON value instead of a string.
    """

    kind: Kind = "text"
    k: int = 1
    weight: str = "probability"
    scale: Scale = "probability"
    reasoning: bool = False
    tau: float | None = None
    value_schema: Mapping[str, object] | None = None

    def json_schema(self) -> dict[str, object] | None:
        """The JSON schema of the whole reply, or None if the reply is not JSON. It is shared: do not change it."""
        return _schema_of(self) if self.value_schema is None else self._json_schema()

    def _json_schema(self) -> dict[str, object] | None:
        if self.kind == "text" and (self.value_schema or {}).get("type") == "object":
            return self._rooted(self._text_schema())
        if self.kind in ("text", "xml"):
            return None
        if self.kind == "answer":
            return self._rooted(_object({"reasoning": _TEXT, "response": self._text_schema()}))
        if self.kind == "list":
            return self._rooted(_array(self._text_schema(), self.k))
        item = self._text_schema()
        if self.kind == "candidates":
            item = _object({"text": item, self.weight: self._weight_schema()})
        properties = {"reasoning": _TEXT} if self.reasoning else {}
        return self._rooted(_object({**properties, "responses": _array(item, self.k)}))

    def _text_schema(self) -> Mapping[str, object]:
        if self.value_schema is None:
            return dict(_TEXT)
        return {name: part for name, part in self.value_schema.items() if name not in _DEFINITIONS}

    def _rooted(self, schema: Mapping[str, object]) -> dict[str, object]:
        """Copy the definitions of the user's schema to the root, where its references expect them."""
        source = self.value_schema or {}
        return {**schema, **{name: source[name] for name in _DEFINITIONS if name in source}}

    def _weight_schema(self) -> Mapping[str, object]:
        number: dict[str, object] = {"type": "number"}
        if self.scale == "nll":
            return number | ({"minimum": 0} if self.tau is None else {"exclusiveMinimum": -math.log(self.tau)})
        if self.scale == "perplexity":
            return number | ({"minimum": 1} if self.tau is None else {"exclusiveMinimum": 1 / self.tau})
        top = 100 if self.scale == "percent" else 1
        number["minimum"] = 0
        return number | ({"maximum": top} if self.tau is None else {"exclusiveMaximum": top * self.tau})


@lru_cache(maxsize=256)
def _schema_of(shape: ReplyShape) -> dict[str, object] | None:
    return shape._json_schema()


def _object(properties: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Mapping[str, object], k: int) -> Mapping[str, object]:
    return {"type": "array", "items": items, "minItems": k, "maxItems": k}
