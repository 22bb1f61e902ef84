"""The JSON of llama.cpp's server, in the respects in which it differs from OpenAI's. No llama.cpp here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models import openai_wire
from outspoken.models.base import Embeddings
from outspoken.models.openai_errors import ErrorContext

__all__ = ["DEFAULT_MAX_TOKENS", "ChunkReader", "ServerAnswer", "chat_body", "embed_texts"]

DEFAULT_MAX_TOKENS = 1024


class ServerFault(TypedDict, total=False):
    """The error object of an answer."""

    message: str
    type: str
    code: int
    n_prompt_tokens: int
    n_ctx: int


class ServerAnswer(TypedDict):
    """An answer of the server, or one chunk of it: an error, choices, or vectors."""

    error: NotRequired[ServerFault]
    choices: NotRequired[list[Any]]
    data: NotRequired[list[Any]]


def chat_body(request: ChatRequest) -> dict[str, object]:
    """The body of a chat request whose reply streams."""
    body = openai_wire.chat_body(request, "", stream=True, developer_role=False)
    del body["model"]
    return {
        "max_tokens": DEFAULT_MAX_TOKENS,
        **body,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        # A prompt read from the cache gives slightly different numbers than one that is computed.
        "cache_prompt": request.sampling.seed is None,
    }


class ChunkReader:
    """Collects the chunks of one reply. Called with a chunk, it returns True to end the generation."""

    def __init__(self, model: str, stopped: Callable[[], bool], emit: Callable[[str], None] | None) -> None:
        self._model, self._stopped, self._emit = model, stopped, emit
        self._reply = openai_wire.StreamedReply(ErrorContext(model, ""))
        self._fault: ServerFault | None = None

    def __call__(self, chunk: ServerAnswer) -> bool:
        self._fault = chunk.get("error")
        if self._fault is not None:
            return True
        if (piece := self._reply.add(chunk)) and self._emit is not None:
            self._emit(piece)
        return self._stopped()

    def reply(self, *, structured: bool) -> ChatReply:
        """The whole reply. Raises the error in a chunk, or `ProviderError` if the reply is incomplete."""
        if self._fault is not None:
            raise _error(self._fault)
        return replace(self._reply.reply(structured=structured), model=self._model)


def _error(fault: ServerFault) -> UsageError | ProviderError:
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
    """The vectors of `texts`; those longer than `context` tokens are cut.

    `ask` sends texts and returns the answer, which is an error for all of them if one is too long.
    """
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


def _shortened(text: str, fault: ServerFault, context: int) -> str:
    """The beginning of a text that did not fit. Raises `ProviderError` if its length is not the reason."""
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
