"""The shape that a reply is asked to have: what the wording asks for and a decoder may enforce."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

__all__ = ["Kind", "ReplyShape", "Scale"]

Kind = Literal["text", "answer", "strings", "list", "candidates", "xml"]
Scale = Literal["probability", "percent", "nll", "perplexity"]

_DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """How one reply is laid out.

    `kind` is one of
    - "text": the whole reply is one candidate;
    - "answer": a JSON object with the keys "reasoning" and "response";
    - "strings": a JSON object whose key "responses" holds `k` strings;
    - "list": a bare list of `k` strings;
    - "candidates": a JSON object whose key "responses" holds `k` objects with "text" and a stated weight;
    - "xml": `<response><text>…</text><probability>…</probability></response>`, `k` times.

    `weight` is the key under which the weight is stated and `scale` what its number means. `tau` bounds the
    stated probability from above. `value_schema` is the caller's JSON schema for structured candidates: the text
    is then a JSON value instead of a string.
    """

    kind: Kind = "text"
    k: int = 1
    weight: str = "probability"
    scale: Scale = "probability"
    reasoning: bool = False
    tau: float | None = None
    value_schema: Mapping[str, Any] | None = None

    def json_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the whole reply, or None where the reply is not JSON. Shared: do not change it."""
        return _schema_of(self) if self.value_schema is None else self._json_schema()

    def _json_schema(self) -> dict[str, Any] | None:
        text: dict[str, Any] = {"type": "string", "minLength": 1}
        if self.kind == "text" and (self.value_schema or {}).get("type") == "object":
            return self._rooted(self._text_schema())
        if self.kind in ("text", "xml"):
            return None
        if self.kind == "answer":
            return self._rooted(_object({"reasoning": text, "response": self._text_schema()}))
        if self.kind == "list":
            return self._rooted(_array(self._text_schema(), self.k))
        item = self._text_schema()
        if self.kind == "candidates":
            item = _object({"text": item, self.weight: self._weight_schema()})
        properties = {"reasoning": text} if self.reasoning else {}
        return self._rooted(_object({**properties, "responses": _array(item, self.k)}))

    def _text_schema(self) -> dict[str, Any]:
        if self.value_schema is None:
            return {"type": "string", "minLength": 1}
        return {name: part for name, part in self.value_schema.items() if name not in _DEFINITIONS}

    def _rooted(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Lift the definitions of the caller's schema to the root, where its references point."""
        own = self.value_schema or {}
        return schema | {name: own[name] for name in _DEFINITIONS if name in own}

    def _weight_schema(self) -> dict[str, Any]:
        number: dict[str, Any] = {"type": "number"}
        if self.scale == "nll":
            return number | ({"minimum": 0} if self.tau is None else {"exclusiveMinimum": -math.log(self.tau)})
        if self.scale == "perplexity":
            return number | ({"minimum": 1} if self.tau is None else {"exclusiveMinimum": 1 / self.tau})
        top = 100 if self.scale == "percent" else 1
        number["minimum"] = 0
        return number | ({"maximum": top} if self.tau is None else {"exclusiveMaximum": top * self.tau})


@lru_cache(maxsize=256)
def _schema_of(shape: ReplyShape) -> dict[str, Any] | None:
    return shape._json_schema()


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: dict[str, Any], k: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": k, "maxItems": k}
