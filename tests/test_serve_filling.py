"""Fills of a pool: the conversation that they continue, and how it is kept short."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from outspoken import templates
from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import PromptTooLongError, ProviderError
from outspoken.methods.call import MethodCall
from outspoken.models.base import Capabilities, Model
from outspoken.serve.metrics import Metrics
from outspoken.serve.pool.refill import Conversation, PoolFiller
from outspoken.serve.pool.values import PoolRequest
from outspoken.settings import Settings

PROMPT = (Message("user", "說一個笑話 🎭"),)


class Scripted(Model):
    """Gives new candidates, and accepts conversations of at most `longest` messages."""

    name = "test/m"
    capabilities = Capabilities(schema=True)

    def __init__(self, longest: int = 10**6) -> None:
        self.longest = longest
        self.requests: list[ChatRequest] = []
        self.count = itertools.count()

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        if len(request.messages) > self.longest:
            raise PromptTooLongError("too long")
        if request.shape.kind == "text":
            return ChatReply(f"笑話 {next(self.count)}", usage=Usage(10, 5))
        responses = [{"text": f"笑話 {next(self.count)}", "probability": 0.2} for _ in range(request.shape.k)]
        return ChatReply(json.dumps({"responses": responses}, ensure_ascii=False), usage=Usage(10, 5))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        reply = await self.complete(request)
        for at in range(0, len(reply.text), 7):
            yield reply.text[at : at + 7]
        yield reply


def filling(model: Model) -> tuple[PoolFiller, Metrics]:
    metrics = Metrics()
    return PoolFiller(lambda _: model, metrics, asyncio.Semaphore(4)), metrics


def want(method: str = "vs-standard", **settings: Any) -> PoolRequest:
    return PoolRequest(PROMPT, Settings(method=method, k=3, **settings), "m")


def lengths(model: Scripted) -> list[int]:
    return [len(request.messages) for request in model.requests]


@pytest.mark.parametrize("method", ["vs-standard", "vs-cot", "sequence", "multi-turn", "vs-multi"])
async def test_a_fill_continues_the_last_one(method: str) -> None:
    model = Scripted()
    fill, _ = filling(model)
    first = await fill(want(method, turns=1), ())
    second = await fill(want(method, turns=1), first.history)
    later = model.requests[len(model.requests) // 2]
    assert later.messages[: len(first.history)] == first.history
    assert first.history[-1].role == "assistant"
    assert not {*first.distribution.texts} & {*second.distribution.texts}


async def test_direct_answers_have_no_conversation() -> None:
    model = Scripted()
    fill, _ = filling(model)
    filled = await fill(want("direct"), ())
    assert (filled.history, len(filled.distribution)) == ((), 3)
    assert {len(request.messages) for request in model.requests} == {1}


async def test_the_older_half_of_a_long_conversation_is_dropped() -> None:
    model = Scripted()
    fill, _ = filling(model)
    history: tuple[Message, ...] = ()
    for _ in range(6):
        history = (await fill(want(), history)).history
    opening = len(model.requests[0].messages)
    model.requests.clear()
    model.longest = opening + 4
    filled = await fill(want(), history)
    # Six replies, then three, then one: that one and our request fit after the opening.
    assert lengths(model) == [opening + 12, opening + 6, opening + 2]
    assert model.requests[-1].messages[:opening] == history[:opening]
    assert model.requests[-1].messages[opening] == history[-1]
    assert len(filled.distribution) == 3
    model.longest = 0
    with pytest.raises(PromptTooLongError):
        await fill(want(), history)
    assert lengths(model)[-1] == opening  # in the end it starts a new one


def test_a_conversation_keeps_its_opening_and_latest_turns() -> None:
    for own in (True, False):
        system = (Message("system", "instructions"),)
        messages = PROMPT if own else (*system, *PROMPT)
        ask = MethodCall(messages, Settings(), templates.load("standard"))
        opening = (*system, *PROMPT)
        turns = [Message(("assistant", "user")[at % 2], f"{at:03}" * 10) for at in range(9)]
        whole = Conversation((*opening, *turns), ask, max_bytes=10_000)
        assert whole.turns == (*opening, *turns)
        short = Conversation((*opening, *turns), ask, max_bytes=100)
        assert short.turns == (*opening, *turns[-3:])
        one = Conversation((*opening, *turns), ask, max_bytes=1)
        assert one.turns == (*opening, turns[-1])
        assert one.shorten()
        assert one.turns == ()
        assert not one.shorten()


async def test_a_listener_gets_each_candidate() -> None:
    model = Scripted()
    fill, metrics = filling(model)
    heard: list[Verbalized] = []
    filled = await fill(want(), (), heard.append)
    assert {one.text for one in heard} == {*filled.distribution.texts}
    text = metrics.text().decode()
    assert 'outspoken_upstream_calls_total{kind="fill",outcome="answered"} 1.0' in text
    assert 'outspoken_upstream_tokens_total{direction="completion"} 5.0' in text


async def test_failed_and_cancelled_calls_are_counted() -> None:
    class Down(Scripted):
        async def complete(self, request: ChatRequest) -> ChatReply:
            raise ProviderError("down", status=500)

    class Slow(Scripted):
        async def complete(self, request: ChatRequest) -> ChatReply:
            await asyncio.sleep(60)
            raise AssertionError

    fill, metrics = filling(Down())
    with pytest.raises(ProviderError):
        await fill(want(), ())
    assert 'outcome="failed"} 1.0' in metrics.text().decode()
    fill, metrics = filling(Slow())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await fill(want(), ())
    assert 'outcome="cancelled"} 1.0' in metrics.text().decode()


async def test_what_may_pass_is_asked_for_again_unless_the_model_asks_for_a_long_wait() -> None:
    class Failing(Scripted):
        error = ProviderError("busy", status=503, retryable=True)

        async def complete(self, request: ChatRequest) -> ChatReply:
            if len(self.requests) in (0, 2):
                self.requests.append(request)
                raise self.error
            return await super().complete(request)

    model = Failing()
    fill, _ = filling(model)
    request = PoolRequest(PROMPT, Settings(k=2), "m")
    for listener in (None, [].append):
        assert len((await fill(request, (), listener)).distribution) == 2
    assert len(model.requests) == 4
    model.requests.clear()
    model.error = ProviderError("busy", status=429, retryable=True, retry_after=30.0)
    with pytest.raises(ProviderError, match=r"^busy$"):
        await fill(request, ())
    assert len(model.requests) == 1
