"""The JSON of llama.cpp's server: chat requests, the chunks of a reply, and embeddings. No llama.cpp here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NotRequired, TypedDict

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models.base import Embeddings

__all__ = ["DEFAULT_MAX_TOKENS", "ChunkReader", "ServerAnswer", "chat_body", "embed_texts"]

DEFAULT_MAX_TOKENS = 1024


class ServerFault(TypedDict, total=False):
    """The error object of an answer."""

    message: str
    type: str
    code: int
    n_prompt_tokens: int
    n_ctx: int


class _Message(TypedDict, total=False):
    content: str | None
    reasoning_content: str | None


class _Choice(TypedDict, total=False):
    delta: _Message
    message: _Message
    finish_reason: str | None


class _CachedTokens(TypedDict, total=False):
    cached_tokens: int


class _TokenCounts(TypedDict, total=False):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _CachedTokens | None


class _Vector(TypedDict):
    index: int
    embedding: list[float]


class ServerAnswer(TypedDict):
    """An answer of the server, or one chunk of it."""

    error: NotRequired[ServerFault]
    choices: NotRequired[list[_Choice]]
    usage: NotRequired[_TokenCounts | None]
    data: NotRequired[list[_Vector]]


def chat_body(request: ChatRequest) -> dict[str, object]:
    """The body of a chat request whose reply streams."""
    sampling = request.sampling
    body: dict[str, object] = {
        **sampling.extra,
        # "developer" is OpenAI's own name for the system's role.
        "messages": [
            {"role": message.role.replace("developer", "system"), "content": message.content}
            for message in request.messages
        ],
        "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        # A prompt read from the cache gives slightly different numbers than one that is computed.
        "cache_prompt": sampling.seed is None,
    }
    settings = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    body |= {name: value for name, value in settings.items() if value is not None}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


class ChunkReader:
    """Collects the chunks of one reply. Called with a chunk, it returns True to end the generation."""

    def __init__(self, stopped: Callable[[], bool], emit: Callable[[str], None] | None) -> None:
        self._stopped, self._emit = stopped, emit
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish = ""
        self._counts: _TokenCounts = {}
        self._fault: ServerFault | None = None

    def __call__(self, chunk: ServerAnswer) -> bool:
        self._fault = chunk.get("error")
        self._counts = chunk.get("usage") or self._counts
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._finish = choice.get("finish_reason") or self._finish
            if reasoning := delta.get("reasoning_content"):
                self._reasoning.append(reasoning)
            if text := delta.get("content"):
                self._text.append(text)
                if self._emit is not None:
                    self._emit(text)
        return self._fault is not None or self._stopped()

    def reply(self, model: str, *, structured: bool) -> ChatReply:
        """The whole reply. Raises the error in a chunk, or `ProviderError` if the reply is incomplete."""
        if self._fault is not None:
            raise _error(self._fault)
        if not self._finish:
            raise ProviderError(f"{model} stopped in the middle of its reply: ask again", retryable=True)
        details = self._counts.get("prompt_tokens_details") or {}
        return ChatReply(
            text="".join(self._text),
            finish=self._finish,
            usage=Usage(
                self._counts.get("prompt_tokens", 0),
                self._counts.get("completion_tokens", 0),
                details.get("cached_tokens", 0),
            ),
            model=model,
            reasoning="".join(self._reasoning),
            structured=structured,
        )


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
        raise ProviderError(f"the local model failed: {fault.get('message')}", status=fault.get("code"))
    return text[: int(0.98 * share * len(text))]


def _vectors(answer: ServerAnswer) -> list[list[float]]:
    return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]
