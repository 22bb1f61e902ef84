"""Fills pools: asks a model by a method, in the conversation that a pool has had with it so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from outspoken import templates
from outspoken.chat import ChatReply, ChatRequest, Message
from outspoken.distribution import Distribution
from outspoken.engine import drive, drive_stream
from outspoken.errors import PromptTooLongError
from outspoken.methods import steps
from outspoken.models import Model
from outspoken.serve.metrics import Metrics
from outspoken.serve.pool.values import Hear, PoolFill, PoolRequest

__all__ = ["MeteredModel", "PoolFiller"]

MOST_BYTES = 24_000
_BYTES_A_TOKEN = 2  # of a context: English takes half of it then, Chinese all
_KEEP_NO_CONVERSATION = ("direct", "direct-cot")


class PoolFiller:
    """Asks the models of `model_of` for distributions, as soon as one of `places` is free.

    A conversation keeps its opening and as many of its latest turns as fit into `MOST_BYTES` of text (less for a
    model with a small context); where the model says that it is too long all the same, half of it is left out.
    """

    def __init__(self, model_of: Callable[[str], Model], metrics: Metrics, places: asyncio.Semaphore) -> None:
        self._model_of = model_of
        self._metrics = metrics
        self._places = places

    async def __call__(
        self, want: PoolRequest, history: tuple[Message, ...], hear: Hear | None = None
    ) -> PoolFill:
        model = MeteredModel(self._model_of(want.model), self._metrics, "fill")
        enforce = model.capabilities.schema if want.structured is None else want.structured
        ask = steps.Ask(want.messages, want.settings, templates.load(want.settings.template), model.name, enforce)
        talk = Conversation(history, ask, most_bytes=_most_bytes(model.model))
        async with self._places:
            while True:
                try:
                    distribution = await _asked(ask, talk.turns, model, hear)
                    break
                except PromptTooLongError:
                    if not talk.shorten():
                        raise
        if want.settings.method in _KEEP_NO_CONVERSATION or model.last is None:
            return PoolFill(distribution, ())
        request, reply = model.last
        return PoolFill(distribution, (*request.messages, Message("assistant", reply.text)))


class MeteredModel(Model):
    """A model whose calls are counted, and whose last exchange is remembered."""

    def __init__(self, model: Model, metrics: Metrics, kind: str) -> None:
        self.model = model
        self.name, self.capabilities = model.name, model.capabilities
        self.last: tuple[ChatRequest, ChatReply] | None = None
        self._metrics, self._kind = metrics, kind

    def check(self, request: ChatRequest) -> None:
        self.model.check(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        with self._metrics.upstream(self._kind) as done:
            reply = await self.model.complete(request)
            done(reply.usage)
        self._keep(request, reply)
        return reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        with self._metrics.upstream(self._kind) as done:
            async with aclosing(self.model.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ChatReply):
                        done(piece.usage)
                        self._keep(request, piece)
                    yield piece

    def _keep(self, request: ChatRequest, reply: ChatReply) -> None:
        if reply.text.strip():  # servers refuse a turn that says nothing
            self.last = (request, reply)


class Conversation:
    """The turns to go on with: the opening, then pairs of the model's reply and our asking for more."""

    def __init__(self, history: tuple[Message, ...], ask: steps.Ask, *, most_bytes: int) -> None:
        # A system prompt of ours may stand before the caller's messages.
        own = bool(history) and history[0].role == "system" and ask.messages[0].role not in ("system", "developer")
        at = len(ask.messages) + own
        self._opening, self._later = history[:at], history[at:]
        while _size(self._later) > most_bytes and len(self._later) > 1:
            self._later = self._later[2:]

    @property
    def turns(self) -> tuple[Message, ...]:
        return (*self._opening, *self._later) if self._later else ()

    def shorten(self) -> bool:
        """Leave out the older half, at last all of it; returns whether there was anything to leave out."""
        if not self._later:
            return False
        replies = (len(self._later) + 1) // 2
        self._later = self._later[2 * ((replies + 1) // 2) :]
        return True


async def _asked(ask: steps.Ask, turns: tuple[Message, ...], model: Model, hear: Hear | None) -> Distribution:
    if hear is None:
        return await drive(steps.steps(ask, turns), model)
    async with aclosing(drive_stream(steps.steps(ask, turns), model)) as items:
        async for item in items:
            if isinstance(item, Distribution):
                return item
            hear(item)
    raise AssertionError("a method ends with its distribution")


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode("utf-8", "replace")) for message in messages)


def _most_bytes(model: Model) -> int:
    context = getattr(model, "context", None)
    return MOST_BYTES if context is None else min(MOST_BYTES, _BYTES_A_TOKEN * context)
