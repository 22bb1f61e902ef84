"""JSON schemas as llguidance grammars, which llama.cpp's decoder keeps to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outspoken.errors import UsageError

__all__ = ["Grammars", "check_build"]

_OLDEST = "2026.10"
# Without this the grammar leaves white space free, and a small model then fills its reply with it.
_TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
# Without this a number has as many digits as the model cares to write, and a small one never stops.
_STEP = 1e-6
_SPAN = 1e-3
# What no model answers unasked to this question.
_SENTINEL = "~~~"
_QUESTION = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


def check_build(llama: Any) -> None:
    """Raise `UsageError` for an xllamacpp that was built without llguidance."""
    if not llama.json_schema_to_grammar('{"type": "string"}').startswith("%llguidance"):
        raise UsageError(
            f"xllamacpp {llama.__version__} cannot enforce JSON schemas: pip install 'xllamacpp>={_OLDEST}'"
        )


class Grammars:
    """The grammars of one model, each tried once: llama.cpp drops those it cannot use without a word.

    `ask` sends the body of a chat request to the loaded model and returns its answer.
    """

    def __init__(self, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._ask = ask
        self._tried: set[str] = set()
        self._lock = threading.Lock()

    def of(self, schema: Mapping[str, Any]) -> str:
        """The grammar of `schema`; raises `UsageError` naming the keyword that the decoder cannot enforce."""
        grammar = _grammar(schema)
        with self._lock:
            if grammar in self._tried:
                return grammar
            if self._in_force(schema):
                self._tried.add(grammar)
                return grammar
        for keyword in dict.fromkeys(_keywords(schema)):
            if self._in_force(_without(schema, keyword)):
                raise UsageError(
                    f"the decoder cannot enforce {keyword!r} as this JSON schema has it: leave it out"
                )
        raise UsageError("the decoder cannot enforce this JSON schema: make it simpler")

    def _in_force(self, schema: Mapping[str, Any]) -> bool:
        grammar = _grammar(schema, prefix=f'"{_SENTINEL}" ')
        answer = self._ask({**_QUESTION, "grammar": grammar})
        return "error" not in answer and answer["choices"][0]["message"]["content"].startswith(_SENTINEL)


def _grammar(schema: Mapping[str, Any], *, prefix: str = "") -> str:
    return f"%llguidance {{}}\nstart: {prefix}%json {json.dumps({**_stepped(schema), 'x-guidance': _TIGHT})}"


def _stepped(schema: Any) -> Any:
    """The schema with numbers between bounds at least `_SPAN` apart in steps of `_STEP`."""
    if isinstance(schema, list):
        return [_stepped(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    stepped = {key: _stepped(part) for key, part in schema.items()}
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounded = isinstance(low, int | float) and isinstance(high, int | float) and high - low >= _SPAN
    if bounded and schema.get("type") == "number":
        stepped.setdefault("multipleOf", _STEP)
    return stepped


def _keywords(schema: Any) -> Iterator[str]:
    """All keys of a schema, the innermost first."""
    if isinstance(schema, Mapping):
        for part in schema.values():
            yield from _keywords(part)
        yield from schema
    elif isinstance(schema, list):
        for part in schema:
            yield from _keywords(part)


def _without(schema: Any, keyword: str) -> Any:
    if isinstance(schema, Mapping):
        return {key: _without(part, keyword) for key, part in schema.items() if key != keyword}
    return [_without(part, keyword) for part in schema] if isinstance(schema, list) else schema
