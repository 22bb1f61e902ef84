"""Fills pools: asks a model by a method, and continues the pool's earlier conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from outspoken import templates
from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply, Usage
from outspoken.distribution import Distribution
from outspoken.engine import SingleCall, drive, drive_stream
from outspoken.errors import PromptTooLongError, StoppedError
from outspoken.methods.call import MethodCall
from outspoken.methods.steps import start
from outspoken.methods.table import METHODS
from outspoken.models import Model
from outspoken.serve.limits import LONGEST_WAIT
from outspoken.serve.metrics import Metrics
from outspoken.serve.pool.values import CandidateListener, FillResult, PoolRequest
from outspoken.settings import RequestLimits

__all__ = ["Conversation", "MeteredModel", "PoolFiller", "RunningFill"]

MAX_BYTES = 24_000
_BYTES_PER_TOKEN = 2  # English text then uses half of the context, Chinese text all of it


@dataclass(frozen=True)
class PoolFiller:
    """Asks the models of `model_of` for distributions, as many at once as `slots` allows.

    A conversation keeps its opening and as many of its latest turns as fit into `MAX_BYTES` of text (less for a
    model with a small context). If the model still rejects it as too long, half of the turns are dropped.
    """

    model_of: Callable[[str], Model]
    metrics: Metrics
    slots: asyncio.Semaphore
    limits: RequestLimits = RequestLimits()

    async def __call__(
        self, request: PoolRequest, history: tuple[Message, ...], listener: CandidateListener | None = None
    ) -> FillResult:
        model = MeteredModel(self.model_of(request.model), self.metrics, "fill")
        settings = request.settings
        enforce = model.capabilities.schema if request.structured is None else request.structured
        call = MethodCall(request.messages, settings, templates.load(settings.template), model.name, enforce)
        context = getattr(model.model, "context", None)
        max_bytes = MAX_BYTES if context is None else min(MAX_BYTES, _BYTES_PER_TOKEN * context)
        conversation = Conversation(history, call, max_bytes=max_bytes)
        async with self.slots:
            while True:
                try:
                    distribution = await self._run_method(call, conversation.turns, model, listener)
                    break
                except PromptTooLongError:
                    if not conversation.shorten():
                        raise
        if not METHODS[settings.method].conversation or model.last is None:
            return FillResult(distribution, ())
        last_request, reply = model.last
        return FillResult(distribution, (*last_request.messages, Message("assistant", reply.text)))

    async def _run_method(
        self, call: MethodCall, turns: tuple[Message, ...], model: Model, listener: CandidateListener | None
    ) -> Distribution:
        steps, handler = start(call, turns), SingleCall(model, self.limits, longest_wait=LONGEST_WAIT)
        if listener is None:
            return await drive(steps, handler)
        async with aclosing(drive_stream(steps, handler)) as items:
            async for item in items:
                if isinstance(item, Distribution):
                    return item
                listener(item)
        raise AssertionError("a method ends with its distribution")


class MeteredModel(Model):
    """A model whose calls are counted and whose last exchange is remembered."""

    def __init__(self, model: Model, metrics: Metrics, kind: str) -> None:
        self.model = model
        self.name, self.capabilities = model.name, model.capabilities
        self.last: tuple[ChatRequest, ChatReply] | None = None
        self._metrics, self._kind = metrics, kind

    def check(self, request: ChatRequest) -> None:
        self.model.check(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        with self._metrics.count_call(self._kind) as done:
            reply = await self.model.complete(request)
            done(reply.usage)
        self._remember(request, reply)
        return reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        with self._metrics.count_call(self._kind) as done:
            async with aclosing(self.model.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ChatReply):
                        done(piece.usage)
                        self._remember(request, piece)
                    yield piece

    def _remember(self, request: ChatRequest, reply: ChatReply) -> None:
        if reply.text.strip():  # servers reject a turn without text
            self.last = (request, reply)


class Conversation:
    """The messages to continue: the opening, then pairs of the model's reply and our request for more."""

    def __init__(self, history: tuple[Message, ...], call: MethodCall, *, max_bytes: int) -> None:
        # The method may have put a system prompt before the caller's messages.
        added = (
            bool(history) and history[0].role == "system" and call.messages[0].role not in ("system", "developer")
        )
        end = len(call.messages) + added
        self._opening, self._later = history[:end], history[end:]
        while _size(self._later) > max_bytes and len(self._later) > 1:
            self._later = self._later[2:]

    @property
    def turns(self) -> tuple[Message, ...]:
        return (*self._opening, *self._later) if self._later else ()

    def shorten(self) -> bool:
        """Drop the older half of the turns, finally all of them. False if there are none."""
        if not self._later:
            return False
        replies = (len(self._later) + 1) // 2
        self._later = self._later[2 * ((replies + 1) // 2) :]
        return True


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode("utf-8", "replace")) for message in messages)


class RunningFill:
    """A running fill, which continues if those who wait for it stop waiting.

    `ended` is called when it ends. With `streamed` every listener gets all candidates, also one that joins late.
    """

    def __init__(
        self,
        fill: Callable[[CandidateListener | None], Coroutine[Any, Any, Usage]],
        streamed: bool,
        name: str,
        ended: Callable[[asyncio.Task[Usage]], None],
    ) -> None:
        self._candidates: list[Verbalized] = []
        self._listeners: list[CandidateListener] = []
        self._task = asyncio.create_task(fill(self._announce if streamed else None), name=name)
        self._task.add_done_callback(ended)

    def _announce(self, candidate: Verbalized) -> None:
        self._candidates.append(candidate)
        for listener in self._listeners:
            listener(candidate)

    async def wait(self, listener: CandidateListener | None) -> Usage:
        """Wait for the end; `listener` is called with all candidates. Raises the error of the fill."""
        if listener is not None:
            for candidate in self._candidates:
                listener(candidate)
            self._listeners.append(listener)
        try:
            await asyncio.wait({self._task})
        finally:
            if listener is not None:
                self._listeners.remove(listener)
        if self._task.cancelled():
            raise StoppedError("the request to the model was cancelled because the server stops: ask again later")
        return self._task.result()

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
