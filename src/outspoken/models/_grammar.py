"""JSON schemas as llguidance grammars, which llama.cpp's decoder enforces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outspoken.errors import UsageError
from outspoken.models._llama_wire import ServerAnswer

__all__ = ["Grammars", "check_build"]

_OLDEST = "2026.10"
# Without these settings the grammar allows any white space, and a small model fills its reply with it.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
# Without a step a number may have any number of digits, and a small model never stops writing them.
_STEP = 1e-6
_MIN_RANGE = 1e-3
# A prefix that no model writes on its own as an answer to this question.
_SENTINEL = "~~~"
_QUESTION = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


def check_build(llama: Any) -> None:
    """Raise `UsageError` for an xllamacpp that was built without llguidance."""
    if not llama.json_schema_to_grammar('{"type": "string"}').startswith("%llguidance"):
        raise UsageError(
            f"xllamacpp {llama.__version__} cannot enforce JSON schemas: pip install 'xllamacpp>={_OLDEST}'"
        )


class Grammars:
    """The grammars of one model, each tested once: llama.cpp silently ignores those that it cannot use.

    `ask` sends the body of a chat request to the loaded model and returns its answer.
    """

    def __init__(self, ask: Callable[[dict[str, object]], ServerAnswer]) -> None:
        self._ask = ask
        self._tested: set[str] = set()
        self._lock = threading.Lock()

    def of(self, schema: Mapping[str, object]) -> str:
        """The grammar of `schema`. Raises `UsageError`, with the keyword, if the decoder cannot enforce it."""
        grammar = _grammar(schema)
        with self._lock:
            if grammar in self._tested:
                return grammar
            if self._is_enforced(schema):
                self._tested.add(grammar)
                return grammar
        for keyword in dict.fromkeys(_keywords(schema)):
            if self._is_enforced(_without(schema, keyword)):
                raise UsageError(
                    f"the decoder cannot enforce {keyword!r} as used in this JSON schema: leave it out"
                )
        raise UsageError("the decoder cannot enforce this JSON schema: make it simpler")

    def _is_enforced(self, schema: Mapping[str, object]) -> bool:
        grammar = _grammar(schema, prefix=f'"{_SENTINEL}" ')
        answer = self._ask({**_QUESTION, "grammar": grammar})
        text = "" if "error" in answer else answer["choices"][0]["message"]["content"]
        return (text or "").startswith(_SENTINEL)


def _grammar(schema: Mapping[str, object], *, prefix: str = "") -> str:
    return f"%llguidance {{}}\nstart: {prefix}%json {json.dumps({**_stepped(schema), 'x-guidance': _COMPACT})}"


def _stepped(schema: Any) -> Any:
    """The schema, with numbers in steps of `_STEP` if their bounds are at least `_MIN_RANGE` apart."""
    if isinstance(schema, list):
        return [_stepped(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    stepped = {key: _stepped(part) for key, part in schema.items()}
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounded = isinstance(low, int | float) and isinstance(high, int | float) and high - low >= _MIN_RANGE
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
