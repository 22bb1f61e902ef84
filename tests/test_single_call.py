"""The requests of calls outside a run: further attempts, several at once, the cache, the log, other processes."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from servers import Served, answering, events, serving, streaming

import outspoken
from outspoken import ChatReply, ChatRequest, Ledger, LedgerError, ProviderError, UsageError
from outspoken.engine import retry
from outspoken.models.base import Capabilities

pytestmark = pytest.mark.core

KEY = "sk-hidden-in-all-places"
TEXTS = ("apple", "pear", "fig")


def content(*texts: str, share: float = 0.25) -> str:
    return json.dumps({"responses": [{"text": text, "probability": share} for text in texts]})


def completion(text: str | None = None, **message: Any) -> dict[str, Any]:
    text = content(*TEXTS) if text is None else text
    finish = message.pop("finish", "stop")
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def in_turn(*answers: Any) -> Callable[[web.Request], Any]:
    """Each request gets the next answer: a status, a handler, or a payload; the last one answers all others."""
    left = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, int):
            return web.json_response({"error": {"message": "no"}}, status=answer)
        return await (answer if callable(answer) else answering(answer))(request)

    return handle


async def dropped(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def slow(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("OUTSPOKEN_API_KEY", KEY)


def model_at(server: Served) -> str:
    return f"{server.base_url}#m"


# Attempts


@pytest.mark.parametrize("fault", [429, 500, 503, dropped, slow], ids=["429", "500", "503", "dropped", "slow"])
async def test_what_may_pass_is_tried_again(fault: Any) -> None:
    async with serving(in_turn(fault, fault, completion())) as server:
        found = await outspoken.averbalize("x", model=model_at(server), k=3, timeout=0.3)
        assert (found.texts, found.stopped, len(server.requests)) == (TEXTS, "", 3)
    stream = events(content(*TEXTS))
    async with serving(in_turn(fault, fault, streaming([stream]))) as server:
        running = outspoken.astream("x", model=model_at(server), k=3, timeout=0.3)
        assert [candidate.text async for candidate in running] == list(TEXTS)
        assert (running.distribution.texts, len(server.requests)) == (TEXTS, 3)


@pytest.mark.parametrize("fault", [429, 503, dropped, slow], ids=["429", "503", "dropped", "slow"])
async def test_attempts_are_counted_whatever_failed(fault: Any) -> None:
    for asking in (outspoken.averbalize, collected):
        async with serving(in_turn(fault)) as server:
            with pytest.raises(ProviderError):
                await asking("x", model=model_at(server), k=3, timeout=0.2, attempts=2)
            assert len(server.requests) == 2


async def collected(prompt: str, **options: Any) -> outspoken.Distribution:
    running = outspoken.astream(prompt, **options)
    async for _ in running:
        pass
    return running.distribution


async def test_what_cannot_pass_is_not_tried_again() -> None:
    async with serving(in_turn(401)) as server:
        with pytest.raises(ProviderError) as caught:
            await outspoken.averbalize("x", model=model_at(server), k=3)
        assert (caught.value.status, len(server.requests)) == (401, 1)


async def test_no_attempt_begins_after_the_whole_time() -> None:
    async with serving(answering({"error": {}}, 429, {"Retry-After": "30"})) as server:
        begun = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            await outspoken.averbalize("x", model=model_at(server), k=3, total_timeout=5)
        assert (caught.value.status, len(server.requests)) == (429, 1)
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("options", [{"timeout": 0}, {"attempts": 0}, {"attempts": True}, {"timeot": 3}])
async def test_limits_that_permit_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        await outspoken.averbalize("x", model="replay/nothing", **options)


async def test_a_stream_that_is_lost_before_its_first_candidate_begins_again() -> None:
    pieces = [events('{"respon', finish=None, done=False)]
    async with serving(in_turn(lost_after(pieces), streaming([events(content(*TEXTS))]))) as server:
        running = outspoken.astream("x", model=model_at(server), k=3)
        assert [candidate.text async for candidate in running] == list(TEXTS)
        assert (running.distribution.cut_off, len(server.requests)) == (0, 2)


async def test_a_stream_that_is_lost_after_a_candidate_keeps_it_and_asks_for_the_others() -> None:
    text = content(*TEXTS)
    pieces = [events(text[: text.index("fig")], finish=None, done=False)]
    async with serving(in_turn(lost_after(pieces), streaming([events(content("kiwi"))]))) as server:
        running = outspoken.astream("x", model=model_at(server), k=3)
        assert [candidate.text async for candidate in running] == ["apple", "pear", "kiwi"]
    found = running.distribution
    assert (sorted(found.texts), found.cut_off, found.missing) == (["apple", "kiwi", "pear"], 1, 0)
    assert "MORE" in server.bodies[1]["messages"][-1]["content"]


async def test_a_candidate_that_was_cut_off_is_not_handed_out() -> None:
    text = content(*TEXTS)
    cut = completion(text[: text.index("ig")], finish="length")
    async with serving(in_turn(cut, completion(content("kiwi")))) as server:
        running = outspoken.astream("x", model=model_at(server), k=3)
        assert [candidate.text async for candidate in running] == ["apple", "pear", "kiwi"]
    found = running.distribution
    assert ([candidate.text for candidate in found.set_aside], found.cut_off, found.missing) == (["f"], 1, 0)
    assert [body.get("max_tokens") for body in server.bodies] == [None, 8]


def lost_after(pieces: list[bytes]) -> Callable[[web.Request], Any]:
    """A stream that is lost once these pieces have arrived."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = await streaming(pieces)(request)
        await asyncio.sleep(0.1)
        assert request.transport is not None
        request.transport.abort()
        return response

    return handle


async def test_the_time_of_a_stream_is_that_of_its_model() -> None:
    """Not that of a caller who takes long over each candidate."""
    text = content(*TEXTS)

    async def one_by_one(request: web.Request) -> web.StreamResponse:
        return await streaming([events(text)])(request)

    async with serving(one_by_one) as server:
        running = outspoken.astream("x", model=model_at(server), k=3, timeout=0.3, attempts=1)
        async for _ in running:
            await asyncio.sleep(0.2)
        assert len(running.distribution) == 3


# Several requests at once


class Counting(outspoken.Model):
    """Answers with the number of the request, after a moment, and notes how many are under way."""

    def __init__(self, parallel: int | None = None, fails_from: int = 10**6) -> None:
        self.name = "counting"
        self.capabilities = Capabilities(seed=True, parallel=parallel)
        self.under_way = self.most = self.count = 0
        self.fails_from = fails_from

    async def complete(self, request: ChatRequest) -> ChatReply:
        number, self.count = self.count, self.count + 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.01)
            if number >= self.fails_from:
                raise ProviderError("the quota is used up", status=403)
            return ChatReply(f"{number}: {request.sampling.seed}")
        finally:
            self.under_way -= 1


@pytest.mark.parametrize("asking", [outspoken.averbalize, collected])
@pytest.mark.parametrize(("parallel", "most"), [(None, 16), (3, 3), (1, 1)])
async def test_independent_answers_are_asked_for_at_once(asking: Any, parallel: int | None, most: int) -> None:
    model = Counting(parallel)
    found = await asking("x", model=model, method="direct", k=20, seed=100)
    assert sorted(found.texts) == sorted(f"{number}: {100 + number}" for number in range(20))
    assert (model.most, found.missing) == (most, 0)


@pytest.mark.parametrize("asking", [outspoken.averbalize, collected])
async def test_after_a_failure_no_further_answer_is_asked_for(asking: Any) -> None:
    model = Counting(2, fails_from=3)
    found = await asking("x", model=model, method="direct", k=20)
    assert (len(found), found.missing, found.stopped) == (3, 17, "the quota is used up")
    assert model.count <= 5


async def test_a_defect_of_a_model_is_raised_as_it_is() -> None:
    class Broken(Counting):
        async def complete(self, request: ChatRequest) -> ChatReply:
            await super().complete(request)
            raise ZeroDivisionError

    for asking in (outspoken.averbalize, collected):
        model = Broken()
        with pytest.raises(ZeroDivisionError):
            await asking("x", model=model, method="direct", k=5)
        assert model.under_way == 0


async def test_a_run_asks_for_the_same_and_stores_it_under_the_same_keys(tmp_path: Path) -> None:
    model, ledger = Counting(), tmp_path / "run.sqlite"
    async for made in outspoken.arun(["x"], model=model, method="direct", k=5, seed=3, ledger=ledger):
        ran = made
    assert (model.count, model.most) == (5, 5)
    again = await outspoken.averbalize("x", model=model, method="direct", k=5, seed=3, cache=ledger)
    assert ([*again], model.count) == ([*ran], 5)


# The cache


async def test_an_equal_call_gets_the_replies_in_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    async with serving(in_turn(completion(content("one")), completion(content("two")), 500)) as server:
        call: dict[str, Any] = {"model": model_at(server), "k": 2, "cache": path}
        found = await outspoken.averbalize("x", **call)
        assert (found.texts, len(server.requests)) == (("one", "two"), 2)
        assert await outspoken.averbalize("x", **call) == found
        assert await collected("x", **call) == found
        with Ledger(path) as ledger:
            assert await outspoken.averbalize("x", **{**call, "cache": ledger}) == found
        assert await asyncio.to_thread(lambda: outspoken.verbalize("x", **{**call, "cache": str(path)})) == found
        assert len(server.requests) == 2
        for other in ({"k": 3}, {"temperature": 0.5}, {"seed": 1}):
            with pytest.raises(ProviderError):
                await outspoken.averbalize("x", **{**call, **other, "attempts": 1})
        assert len(server.requests) == 5


async def test_equal_calls_at_once_ask_once(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    model = Counting()
    asking = [outspoken.averbalize("x", model=model, method="direct", k=3, cache=path) for _ in range(20)]
    found = await asyncio.gather(*asking)
    assert (model.count, len({each.texts for each in found})) == (3, 1)


async def test_what_failed_is_not_in_the_cache(tmp_path: Path) -> None:
    async with serving(in_turn(500, completion())) as server:
        call: dict[str, Any] = {"model": model_at(server), "k": 3, "cache": tmp_path / "cache.sqlite"}
        with pytest.raises(ProviderError):
            await outspoken.averbalize("x", **call, attempts=1)
        assert (await outspoken.averbalize("x", **call)).texts == TEXTS


async def test_a_cache_that_cannot_be_used_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ledger")
    model = Counting()
    for place, kind in (
        (tmp_path / "text", LedgerError),
        (tmp_path / "no" / "folder", LedgerError),
        (3, UsageError),
    ):
        for asking in (outspoken.averbalize, collected):
            with pytest.raises(kind):
                await asking("x", model=model, method="direct", cache=place)
    assert model.count == 0


# Models of the user's


class Named(outspoken.Model):
    name = "named"


def test_models_that_return_something_else_are_told_what_to_return() -> None:
    class Text(Named):
        async def complete(self, request: ChatRequest) -> Any:
            return "a joke"

    class Blocking(Named):
        def complete(self, request: ChatRequest) -> Any:
            return ChatReply("a joke")

    class Nameless(outspoken.Model):
        async def complete(self, request: ChatRequest) -> ChatReply:
            return ChatReply("a joke")

    for model, message in (
        (Text(), r"Text.complete returned str: .*ChatReply\(text"),
        (Blocking(), "Blocking.complete is not asynchronous: write `async def"),
        (Nameless(), "Nameless has no name: set its attribute `name`"),
        (Text, "or an outspoken.Model, not <class"),
        (3, "or an outspoken.Model, not 3"),
    ):
        for asking in (outspoken.verbalize, lambda *given, **options: list(outspoken.stream(*given, **options))):
            with pytest.raises(UsageError, match=message):
                asking("x", model=model)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=message):
            list(outspoken.run(["x"] * 5, model=model))  # type: ignore[arg-type]


# The log


async def test_the_log_says_what_is_sent_and_what_comes(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(in_turn(503, completion())) as server:
        with caplog.at_level(logging.DEBUG, "outspoken"):
            await outspoken.averbalize("one\ntwo", model=model_at(server), k=3, temperature=0.5)
            [_ async for _ in outspoken.arun(["three"], model=model_at(server), k=3)]
        await outspoken.averbalize("four", model=model_at(server), k=3)
    lines = [record.getMessage() for record in caplog.records if record.name == "outspoken"]
    assert [line.split("#m ")[1].split(" ")[0] for line in lines] == [
        *("is", "failed", "is", "answered"),
        *("is", "answered"),
    ]
    assert "one\\ntwo" in lines[0]
    assert '"temperature": 0.5' in lines[0]
    assert "status 503" in lines[1]
    assert "apple" in lines[3]
    assert '"finish": "stop"' in lines[3]
    assert "three" in lines[4]
    assert not any(KEY in line or "\n" in line for line in lines)
    caplog.clear()
    async with serving(streaming([events(content(*TEXTS))])) as server:
        with caplog.at_level(logging.DEBUG, "outspoken"):
            await collected("x", model=model_at(server), k=3)
    assert len([record for record in caplog.records if record.name == "outspoken"]) == 2


# Other processes


def texts_of(call: tuple[str, str]) -> outspoken.Distribution:
    prompt, model = call
    return outspoken.verbalize(prompt, model=model, k=3)


def fails(model: str) -> None:
    outspoken.verbalize("x", model=model, k=3, on_short="raise", top_up=0)


@pytest.mark.parametrize("manner", ["spawn", "fork", "forkserver"])
async def test_a_pool_of_processes(manner: str, tmp_path: Path) -> None:
    if manner not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {manner}")
    short = tmp_path / "short.jsonl"
    short.write_text(json.dumps({"text": content("one")}) + "\n")
    context = multiprocessing.get_context(manner)
    async with serving(answering(completion())) as server:
        here = await asyncio.to_thread(texts_of, ("x", model_at(server)))
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(pool, texts_of, ("x", model_at(server))) for _ in range(4)]
            assert await asyncio.gather(*calls) == [here] * 4
            with pytest.raises(outspoken.ShortReplyError) as caught:
                await loop.run_in_executor(pool, fails, f"replay/{short}")
            assert caught.value.distribution.texts == ("one",)
            with pytest.raises(UsageError, match="did you mean 'openai'"):
                await loop.run_in_executor(pool, fails, "opnai/x")
