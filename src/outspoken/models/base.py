"""The interface of all models: name, capabilities, and the methods that send requests."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UsageError

__all__ = ["Capabilities", "Embeddings", "Model", "Score", "check_texts", "not_a_reply"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. Every capability is off unless the model turns it on.

    `schema`: its decoder can enforce a JSON schema. `seed`: it accepts a seed. `extra`: it accepts sampling
    settings under the provider's own names. `stream`: it can stream a reply. `score`: it can compute the
    log-probabilities of a text. `embed`: it can embed texts. `parallel`: the number of requests that it processes
    at once (None: no limit).
    """

    schema: bool = False
    seed: bool = False
    extra: bool = False
    stream: bool = False
    score: bool = False
    embed: bool = False
    parallel: int | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each text, in their order, and the indices of the texts that were cut to fit the context."""

    vectors: list[list[float]]
    cut: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """The natural log-probability of each token of a continuation.

    Prompt and continuation are tokenised as one text; every token with at least one character of the continuation
    counts. `joined` is true if the first of them also contains characters of the prompt.
    """

    logprobs: tuple[float, ...]
    tokens: tuple[str, ...] = ()
    joined: bool = False

    @property
    def total(self) -> float:
        """The log-likelihood of the continuation, in nats."""
        return math.fsum(self.logprobs)

    @property
    def mean(self) -> float:
        """The log-likelihood per token, in nats."""
        return self.total / len(self.logprobs)

    def __len__(self) -> int:
        return len(self.logprobs)


class _Unnamed:
    """The name of a model that was given none."""

    def __get__(self, model: object | None, kind: type[object]) -> str:
        if model is None:
            return ""
        raise UsageError(f"the model {kind.__name__} has no name: set its attribute `name`")


class Model(ABC):
    """One model, reached in one way. A subclass sets `name` and `capabilities` and implements `complete`.

    It also overrides the method of each capability that it turns on: `stream`, `scores` or `embed`. It never
    receives settings that its capabilities exclude. Several tasks and event loops may use a model at once.
    """

    name: str = _Unnamed()  # type: ignore[assignment]
    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def complete(self, request: ChatRequest) -> ChatReply:
        """The whole reply to one request.

        Raises `ProviderError` if the server, the network or the quota fails, and `UsageError` for a request that
        this model does not support.
        """

    async def identity(self) -> str:
        """The name under which replies are stored: it always identifies the model that answers."""
        return self.name

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        """The reply to one request in pieces: pieces of text, then the whole `ChatReply` as the last item."""
        coming = self.complete(request)
        reply = await coming if hasattr(coming, "__await__") else coming
        if reply is coming or not isinstance(reply, ChatReply):
            raise not_a_reply(self, reply)
        if reply.text:
            yield reply.text
        yield reply

    async def score(self, prompt: str, continuation: str) -> Score:
        """The log-probability of each token of `continuation` after `prompt`.

        Raises `UsageError` if this model cannot score texts, if the continuation is empty, or if the two are
        longer than the context, and `ProviderError` as `complete` does.
        """
        (score,) = await self.scores([(prompt, continuation)])
        if isinstance(score, UsageError):
            raise score
        return score

    async def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        """`score` of many pairs of prompt and continuation, in their order; shared prompts are computed once.

        For a pair that cannot be scored, the list contains the error instead.
        """
        raise UsageError(f"{self.name} cannot score a text: take a model that can, such as local/FILE.gguf")

    async def score_identity(self) -> str:
        """The name under which scores are stored: it also identifies the library that computes them."""
        return await self.identity()

    async def chat_text(self, prompt: str) -> str:
        """The prompt in the model's chat template, up to where the answer begins; answers are scored after it.

        Raises `UsageError` if the template is not known.
        """
        raise UsageError(f"{self.name} does not give its chat template: pass the text before the answer yourself")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector for each text.

        Raises `UsageError` for an empty text, or if this model cannot embed, and `ProviderError` as `complete`
        does.
        """
        raise UsageError(f"{self.name} cannot embed texts: take an embedding model, such as local/minilm")

    async def aclose(self) -> None:  # noqa: B027  (most models have nothing to release)
        """Release connections and memory. A closed model may not be used again."""

    def check(self, request: ChatRequest) -> None:
        """Raise `UsageError` for a setting that this model would otherwise ignore."""
        if request.sampling.seed is not None and not self.capabilities.seed:
            raise UsageError(f"{self.name} takes no seed: leave it out, or seed only the draw")
        if request.sampling.extra and not self.capabilities.extra:
            names = ", ".join(request.sampling.extra)
            raise UsageError(f"{self.name} does not accept these sampling settings: {names}; leave them out")


def not_a_reply(model: Model, value: object) -> UsageError:
    """The error for what a model of the user's returns instead of a reply."""
    kind = type(model).__name__
    if isinstance(value, ChatReply):
        return UsageError(f"{kind}.complete is not asynchronous: write `async def complete(self, request)`")
    return UsageError(
        f"{kind}.complete returned {type(value).__name__}: it must be `async def` and return "
        "outspoken.ChatReply(text=...)"
    )


def check_texts(texts: Sequence[str]) -> None:
    """Raise `UsageError` for a text that is empty or is not valid Unicode."""
    for index, text in enumerate(texts):
        if not text.strip():
            raise UsageError(f"text {index} is empty and has no embedding: leave it out")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"text {index} holds half of a surrogate pair: repair how it was read") from None
