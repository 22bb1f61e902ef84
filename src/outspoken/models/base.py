"""What every model is: a name, what it can do, and how to ask it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UsageError

__all__ = ["Capabilities", "Embeddings", "Model", "Score", "check_texts"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. Everything is off unless a model says that it can.

    `schema`: its decoder may enforce a JSON schema. `seed`: it takes a seed. `extra`: it takes sampling settings
    by the provider's own names. `stream`: it delivers a reply piece by piece. `score`: it tells the
    log-probability of a given text. `embed`: it embeds texts. `parallel`: how many requests it works on at once
    (None: as many as come).
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
    """One vector a text, in their order, and the indices of the texts that were cut to fit the model's context."""

    vectors: list[list[float]]
    cut: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a model finds a given text: one natural log-probability a token of the continuation.

    Prompt and continuation are read as one text; every token that holds a character of the continuation counts.
    `joined` says that the first of them holds characters of the prompt, too.
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
        """The log-likelihood in nats a token."""
        return self.total / len(self.logprobs)

    def __len__(self) -> int:
        return len(self.logprobs)


class Model(ABC):
    """One way to reach one model. Safe to use from several tasks at once, and from any event loop."""

    name: str
    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer one request, whole.

        Raises `ProviderError` where the server, the network or the quota fails, and `UsageError` for what this
        model cannot do.
        """

    async def identity(self) -> str:
        """The name under which replies are kept for later: it says which model answers, where `name` may not."""
        return self.name

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        """Answer one request piece by piece: pieces of text, then the whole `ChatReply` as the last item."""
        reply = await self.complete(request)
        if reply.text:
            yield reply.text
        yield reply

    async def score(self, prompt: str, continuation: str) -> Score:
        """How likely `continuation` is after `prompt`, token by token.

        Raises `UsageError` where this model cannot tell, the continuation is empty or both are longer than the
        context, and `ProviderError` as `complete` does.
        """
        (found,) = await self.scores([(prompt, continuation)])
        if isinstance(found, UsageError):
            raise found
        return found

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        """`score` of many pairs of prompt and continuation, in their order, with what equal prompts share computed
        once. In the place of a pair that cannot be scored stands the error that says why."""
        raise UsageError(f"{self.name} cannot score a given text")

    async def score_identity(self) -> str:
        """The name under which scores are kept for later: it tells what computes them, too."""
        return await self.identity()

    async def chat_text(self, prompt: str) -> str:
        """The prompt as the model's chat template puts it, up to where the answer begins: what to score answers
        of an aligned model after. Raises `UsageError` where that is not known."""
        raise UsageError(f"{self.name} does not tell its chat template: say how a prompt is written")

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector a text. Raises `UsageError` for an empty text, and `ProviderError` as `complete` does."""
        raise UsageError(f"{self.name} cannot embed texts")

    async def aclose(self) -> None:  # noqa: B027  (most models hold nothing)
        """Let go of connections and memory. A closed model may not be used again."""

    def check(self, request: ChatRequest) -> None:
        """Raise `UsageError` for a setting that this model would have to drop in silence."""
        if request.sampling.seed is not None and not self.capabilities.seed:
            raise UsageError(f"{self.name} takes no seed: leave it out, or seed only the draw")
        if request.sampling.extra and not self.capabilities.extra:
            names = ", ".join(request.sampling.extra)
            raise UsageError(f"{self.name} does not take these sampling settings: {names}")


def check_texts(texts: Sequence[str]) -> None:
    """Raise `UsageError` for a text that holds nothing to embed, or that is no Unicode."""
    for index, text in enumerate(texts):
        if not text.strip():
            raise UsageError(f"text {index} is empty and has no embedding: leave it out")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"text {index} holds half of a surrogate pair: repair how it was read") from None
