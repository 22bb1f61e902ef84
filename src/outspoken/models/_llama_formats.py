"""The formats of llama.cpp, without importing it: its server's JSON, its grammars, the header of GGUF files."""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models import openai_wire
from outspoken.models.base import Embeddings
from outspoken.models.openai_errors import ErrorContext
from outspoken.models.openai_stream import StreamedReply

DEFAULT_MAX_TOKENS = 1024

ServerAnswer = dict[str, Any]
"""An answer of the server or one chunk of it: an error, choices or vectors."""


def chat_body(request: ChatRequest) -> dict[str, object]:
    """The body of a chat request with a streamed reply."""
    body = openai_wire.chat_body(request, "", stream=True, developer_role=False)
    del body["model"]
    return {
        "max_tokens": DEFAULT_MAX_TOKENS,
        **body,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        # A cached prompt gives slightly different numbers than a computed one.
        "cache_prompt": request.sampling.seed is None,
    }


class ChunkReader:
    """Collects the chunks of one reply. Called with a chunk, it returns True to end the generation."""

    def __init__(self, model: str, stopped: Callable[[], bool], emit: Callable[[str], None] | None) -> None:
        self._model, self._stopped, self._emit = model, stopped, emit
        self._reply = StreamedReply(ErrorContext(model, ""))
        self._fault: Mapping[str, Any] | None = None

    def __call__(self, chunk: ServerAnswer) -> bool:
        self._fault = chunk.get("error")
        if self._fault is not None:
            return True
        if (piece := self._reply.add(chunk)) and self._emit is not None:
            self._emit(piece)
        return self._stopped()

    def reply(self, *, structured: bool) -> ChatReply:
        """The whole reply. Raises the error of a chunk, or `ProviderError` if the reply is incomplete."""
        if self._fault is not None:
            raise _error(self._fault)
        return replace(self._reply.reply(structured=structured), model=self._model)


def _error(fault: Mapping[str, Any]) -> UsageError | ProviderError:
    message, code = fault.get("message", "no reason given"), fault.get("code")
    if fault.get("type") == "exceed_context_size_error":
        return PromptTooLongError(
            f"the prompt has {fault.get('n_prompt_tokens')} tokens and the model's context holds "
            f"{fault.get('n_ctx')}: shorten the prompt, or load the model with a larger context"
        )
    if code == 400:
        return UsageError(f"the local model rejects the request ({message}): change it accordingly")
    return ProviderError(f"the local model failed: {message}", status=code)


def embed_texts(texts: Sequence[str], ask: Callable[[list[str]], ServerAnswer], *, context: int) -> Embeddings:
    """The vectors of `texts`, which are cut to `context` tokens. `ask` sends texts and returns the answer, an
    error if one of them is too long."""
    answer = ask(list(texts))
    if "error" not in answer:
        return Embeddings(_vectors(answer))
    vectors, cut = [], []
    for index, text in enumerate(texts):
        fitting = text
        while "error" in (answer := ask([fitting])):
            fitting = _shortened(fitting, answer["error"], context)
        vectors += _vectors(answer)
        if fitting != text:
            cut.append(index)
    return Embeddings(vectors, tuple(cut))


def _shortened(text: str, fault: Mapping[str, Any], context: int) -> str:
    """The beginning of a text that did not fit. Raises the error if its length is not the reason."""
    if fault.get("type") == "exceed_context_size_error":
        share = fault["n_ctx"] / fault["n_prompt_tokens"]
    elif len(text.encode()) >= context // 2:
        # For a text that is far too long, llama.cpp gives no numbers. A token has at least one byte.
        share = 0.5
    else:
        raise _error(fault)
    return text[: int(0.98 * share * len(text))]


def _vectors(answer: ServerAnswer) -> list[list[float]]:
    return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]


_OLDEST = "2026.10"
# Otherwise the grammar allows any white space, and a small model fills its reply with it.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
# Without a step the number of digits is not limited, and a small model never stops writing them.
_STEP = 1e-6
_MIN_RANGE = 1e-3
# A prefix that no model writes unforced in answer to this question.
_SENTINEL = "~~~"
_QUESTION = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


def check_build(llama: Any) -> None:
    """Raise `UsageError` for an xllamacpp that was built without llguidance."""
    if not llama.json_schema_to_grammar('{"type": "string"}').startswith("%llguidance"):
        raise UsageError(
            f"xllamacpp {llama.__version__} cannot enforce JSON schemas: pip install 'xllamacpp>={_OLDEST}'"
        )


class Grammars:
    """JSON schemas as llguidance grammars, which llama.cpp's decoder enforces.

    Each is tested once, because llama.cpp silently ignores unsupported ones. `ask` sends the body of a chat
    request to the loaded model and returns its answer.
    """

    def __init__(self, ask: Callable[[dict[str, object]], ServerAnswer]) -> None:
        self._ask = ask
        self._tested: set[str] = set()
        self._lock = threading.Lock()

    def of(self, schema: Mapping[str, object]) -> str:
        """The grammar of `schema`. Raises `UsageError`, naming the keyword, if the decoder cannot enforce it."""
        grammar = _grammar(schema)
        with self._lock:
            if grammar in self._tested:
                return grammar
            if self._is_enforced(schema):
                self._tested.add(grammar)
                return grammar
        for keyword in dict.fromkeys(_keywords(schema)):
            if self._is_enforced(_rewritten(schema, partial(_without, keyword))):
                raise UsageError(
                    f"the decoder cannot enforce {keyword!r} as used in this JSON schema: leave it out"
                )
        raise UsageError("the decoder cannot enforce this JSON schema: make it simpler")

    def _is_enforced(self, schema: Mapping[str, object]) -> bool:
        answer = self._ask({**_QUESTION, "grammar": _grammar(schema, prefix=f'"{_SENTINEL}" ')})
        text = "" if "error" in answer else answer["choices"][0]["message"]["content"]
        return (text or "").startswith(_SENTINEL)


def _grammar(schema: Mapping[str, object], *, prefix: str = "") -> str:
    compact = {**_rewritten(schema, _stepped), "x-guidance": _COMPACT}
    return f"%llguidance {{}}\nstart: {prefix}%json {json.dumps(compact)}"


def _rewritten(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The schema after applying `change` to all its objects, the innermost first."""
    if isinstance(schema, Mapping):
        return change({key: _rewritten(part, change) for key, part in schema.items()})
    return [_rewritten(part, change) for part in schema] if isinstance(schema, list) else schema


def _without(keyword: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in schema.items() if key != keyword}


def _stepped(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a number steps of `_STEP` if its bounds are at least `_MIN_RANGE` apart."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounded = isinstance(low, int | float) and isinstance(high, int | float) and high - low >= _MIN_RANGE
    if bounded and schema.get("type") == "number":
        schema.setdefault("multipleOf", _STEP)
    return schema


def _keywords(schema: Any) -> Iterator[str]:
    """All keys of a schema, the innermost first."""
    if isinstance(schema, Mapping):
        for part in schema.values():
            yield from _keywords(part)
        yield from schema
    elif isinstance(schema, list):
        for part in schema:
            yield from _keywords(part)


_VERSIONS = (2, 3)
_HEADER_BYTES = 64 << 20
_UINT32 = (4).to_bytes(4, "little")
_POOLS_INTO_ONE_VECTOR = (1, 2, 3)  # mean, first token, last token; 0 is none, 4 a reranker


def check_file(path: Path) -> None:
    """Raise `UsageError` for a file that does not exist, cannot be read or is not GGUF."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise UsageError(f"the file {path} does not exist: give the path of a GGUF file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give the path of a GGUF file") from error
    if head[:4] != b"GGUF":
        raise UsageError(f"{path} is not a GGUF file: convert the model with llama.cpp, or name another file")
    version = int.from_bytes(head[4:], "little")
    if version not in _VERSIONS:
        raise UsageError(
            f"{path} is a GGUF file of version {version}, which llama.cpp does not read: convert the model again"
        )


def has_chat_template(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"tokenizer.chat_template", 0, _HEADER_BYTES) >= 0


def is_embedder(path: Path) -> bool:
    """Whether the model was trained to embed texts."""
    return _number(path, b".pooling_type") in _POOLS_INTO_ONE_VECTOR


def trained_context(path: Path) -> int | None:
    """The model's own context in tokens, or None if the file does not state it."""
    return _number(path, b".context_length")


def _number(path: Path, key: bytes) -> int | None:
    """An unsigned 32-bit value of the architecture; converters write them before the tokenizer's long lists."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"tokenizer.ggml.", 0, _HEADER_BYTES)
        position = content.find(key + _UINT32, 0, _HEADER_BYTES if end < 0 else end)
        start = position + len(key) + len(_UINT32)
        return int.from_bytes(content[start : start + 4], "little") if position >= 0 else None
