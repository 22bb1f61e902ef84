"""The server that goes wrong does what its plan says, and the client calls each fault by its name."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import faults
import pytest
from faults import (
    ALL,
    EFFECTS,
    OVER_CAPACITY,
    SOUND,
    Effect,
    Fault,
    Faulty,
    Manner,
    Plan,
    Record,
    faulty,
    read_log,
)
from hypothesis import given
from hypothesis import strategies as st

from outspoken import astream, averbalize
from outspoken.errors import ProviderError, ReplyError
from outspoken.models import openai_fields
from outspoken.models.openai_compatible import OpenAICompatible

QUICK = Manner(pace=0.0001, huge=300_000, bomb=4_000_000)
NEVER = Plan(0, 0.0)
PROMPT = "写一首关于咖啡的诗 ☕ مرحبا"
NOT_JSON = (Fault.CUT_JSON, Fault.GARBAGE, Fault.PAGE)
LIMITS = (Fault.LIMIT_SECONDS, Fault.LIMIT_DATE, Fault.LIMIT)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing remembered from another test, and no proxy on the way to loopback."""
    monkeypatch.setattr(openai_fields, "_endpoints", {})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def always(fault: Fault) -> Plan:
    return Plan(1, 1.0, (fault,))


def body_of(prompt: str = "Generate 4 responses to the input prompt: tea", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}


def posted(
    session: aiohttp.ClientSession, server: Faulty, body: Any
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return session.post(f"{server.base_url}/chat/completions", json=body)


async def asked(session: aiohttp.ClientSession, server: Faulty, body: Any) -> tuple[int, bytes]:
    async with posted(session, server, body) as response:
        return response.status, await response.read()


@asynccontextmanager
async def answering(
    plan: Plan, manner: Manner = QUICK, body: Any = None
) -> AsyncGenerator[tuple[aiohttp.ClientResponse, Faulty]]:
    """The response to one request, and the server that gave it."""
    async with (
        faulty(plan, manner) as server,
        aiohttp.ClientSession() as session,
        posted(session, server, body or body_of()) as response,
    ):
        yield response, server


async def content_of(session: aiohttp.ClientSession, server: Faulty, body: Any) -> str:
    status, said = await asked(session, server, body)
    assert status == 200, said
    content = json.loads(said)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


@asynccontextmanager
async def model_at(server: Faulty, **options: Any) -> AsyncGenerator[OpenAICompatible]:
    model = OpenAICompatible(server.base_url, "m", **options)
    try:
        yield model
    finally:
        await model.aclose()


async def eventually(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


# The plan


def test_every_fault_stands_in_the_table():
    assert set(EFFECTS) == set(Fault)
    assert {EFFECTS[fault] for fault in Fault if fault not in ALL} == {Effect.FINAL}


@given(
    st.integers(),
    st.text(),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sets(st.sampled_from(ALL), min_size=1),
)
def test_a_plan_is_a_pure_function(seed: int, key: str, attempt: int, share: float, kinds: set[Fault]):
    fault = Plan(seed, share, kinds).fault(key, attempt)
    assert fault == Plan(seed, share, sorted(kinds, reverse=True)).fault(key, attempt)
    assert fault is None or fault in kinds
    if attempt > 3 or share == 0:
        assert fault is None
    elif share == 1:
        assert fault is not None


def test_the_share_and_all_kinds_come_about():
    plan = Plan(5, 0.2)
    drawn = [plan.fault(str(number), 1) for number in range(20_000)]
    assert sum(fault is not None for fault in drawn) == pytest.approx(4000, rel=0.06)
    assert set(drawn) == {None, *ALL}
    assert drawn != [Plan(6, 0.2).fault(str(number), 1) for number in range(20_000)]


def test_the_bound_is_the_plans():
    plan = Plan(1, 1.0, bound=5)
    assert [plan.fault("key", attempt) is None for attempt in range(1, 8)] == [False] * 5 + [True] * 2


@pytest.mark.parametrize(("share", "kinds"), [(-0.1, ALL), (1.1, ALL), (0.5, ())])
def test_a_plan_that_cannot_be(share: float, kinds: tuple[Fault, ...]):
    with pytest.raises(ValueError, match="a plan needs"):
        Plan(1, share, kinds)


# Sound answers


async def test_a_sound_answer():
    async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
        status, said = await asked(session, server, body_of())
        payload = json.loads(said)
    assert (status, payload["object"], payload["model"]) == (200, "chat.completion", "m")
    assert (
        payload["usage"]["total_tokens"]
        == payload["usage"]["prompt_tokens"] + payload["usage"]["completion_tokens"]
        > 0
    )
    responses = json.loads(payload["choices"][0]["message"]["content"])["responses"]
    assert [sorted(response) for response in responses] == [["probability", "text"]] * 4
    assert len({response["text"] for response in responses}) == 4
    assert 0 < sum(response["probability"] for response in responses) < 1
    (record,) = server.log
    assert (record.attempt, record.kind, record.status, record.sent, record.peak) == (1, SOUND, 200, True, 1)


async def test_texts_come_again_in_another_run_and_differ_otherwise():
    bodies = [
        body_of(),
        body_of(),
        body_of(seed=1),
        body_of(seed=2),
        body_of("Generate 4 responses to the input prompt: coffee"),
        body_of("tea"),
        body_of("tea"),
    ]

    async def run() -> list[str]:
        async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
            return [await content_of(session, server, body) for body in bodies]

    first, second = await run(), await run()
    assert first == second
    assert len(set(first)) == len(bodies)


async def test_the_same_turn_of_two_conversations_is_answered_differently():
    async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
        more = {"role": "user", "content": "Generate 2 MORE alternative responses to the original input prompt."}
        said = [
            await content_of(session, server, {"messages": [{"role": "user", "content": prompt}, more]})
            for prompt in ("tea", "coffee")
        ]
    assert [len(json.loads(content)["responses"]) for content in said] == [2, 2]
    assert said[0] != said[1]


async def test_texts_are_of_several_scripts():
    async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
        said = await content_of(session, server, body_of("Generate 60 responses"))
    assert all(sign in said for sign in ("一只猫", "قهوة", "👩🏽‍🚀", '\\"quoted\\"', "कविता"))


async def test_faults_leave_the_texts_as_they_were():
    """What a fault used up is not missing from the draws."""
    async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
        sound = {await content_of(session, server, body_of()) for _ in range(3)}
    kinds = (Fault.ERROR, Fault.DROPPED, Fault.BROKEN_OFF, Fault.NO_CHOICE)
    async with faulty(Plan(1, 1.0, kinds)) as server, aiohttp.ClientSession() as session:
        for _ in range(3):
            try:
                await asked(session, server, body_of())
            except aiohttp.ClientError:
                continue
        assert {await content_of(session, server, body_of()) for _ in range(3)} == sound


async def test_a_text_that_did_not_arrive_comes_again():
    body = body_of("hi")
    async with faulty(NEVER) as server, aiohttp.ClientSession() as session:
        sound = await content_of(session, server, body)
    async with (
        faulty(Plan(1, 1.0, (Fault.TRICKLE,), bound=1), Manner(pace=30)) as server,
        aiohttp.ClientSession() as session,
    ):
        async with posted(session, server, body) as response:
            assert await response.content.readany()
            response.close()
        await eventually(lambda: server.log)
        assert await content_of(session, server, body) == sound
    assert [record.sent for record in server.log] == [False, True]


@pytest.mark.parametrize(
    "method", ["direct", "direct-cot", "sequence", "multi-turn", "vs-standard", "vs-cot", "vs-multi"]
)
@pytest.mark.parametrize("template", ["standard", "paper", "nll", "percent", "perplexity"])
async def test_every_method_finds_its_candidates(method: str, template: str):
    async with faulty(NEVER) as server, model_at(server) as model:
        tau = 0.1 if method.startswith("vs-") else None
        found = await averbalize(PROMPT, model=model, k=3, method=method, template=template, tau=tau, top_up=0)
    assert len(found) == (6 if method == "vs-multi" else 3)
    assert (found.missing, found.set_aside) == (0, ())


async def test_a_schema_of_the_callers():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}, "sort": {"enum": ["a", "b"]}},
        "required": ["name", "age", "sort"],
        "$defs": {"age": {"type": "integer", "minimum": 7, "maximum": 9}},
    }
    async with faulty(NEVER) as server, model_at(server) as model:
        found = await averbalize(PROMPT, model=model, k=3, schema=schema, top_up=0)
    assert [sorted(candidate.value) for candidate in found] == [["age", "name", "sort"]] * 3


async def test_the_one_model():
    async with faulty(NEVER) as server:
        model = OpenAICompatible(server.base_url, "")
        assert await model.models() == ["faulty"]
        await model.aclose()
    assert server.log == []


@pytest.mark.parametrize("body", [[], {}, {"messages": []}, {"messages": ["x"]}, "text"])
async def test_what_is_no_request(body: Any):
    async with faulty(always(Fault.ERROR)) as server, aiohttp.ClientSession() as session:
        assert (await asked(session, server, body))[0] == 400
    assert [(record.kind, record.attempt) for record in server.log] == [(faults.BAD_REQUEST, 0)]


# Each fault, as any client sees it


@pytest.mark.parametrize("fault", LIMITS)
async def test_limits(fault: Fault):
    async with answering(always(fault)) as (response, _):
        assert response.status == 429
        assert "error" in await response.json()
    wait = response.headers.get("Retry-After")
    if fault is Fault.LIMIT_DATE:
        assert wait is not None
        ahead = parsedate_to_datetime(wait) - parsedate_to_datetime(response.headers["Date"])
        assert 0 <= ahead.total_seconds() <= 2
    else:
        assert wait == (f"{faults.WAIT_SECONDS:g}" if fault is Fault.LIMIT_SECONDS else None)


@pytest.mark.parametrize(("fault", "status"), [(Fault.ERROR, 500), (Fault.UNAVAILABLE, 503)])
async def test_failures(fault: Fault, status: int):
    async with answering(always(fault)) as (response, server):
        assert response.status == status
        assert "error" in await response.json()
    assert [(record.status, record.sent) for record in server.log] == [(status, True)]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.DROPPED, aiohttp.ServerDisconnectedError), (Fault.BROKEN_OFF, aiohttp.ClientPayloadError)],
)
async def test_drops(fault: Fault, error: type[Exception]):
    async with faulty(always(fault)) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            with pytest.raises(error):
                await asked(session, server, body_of())
    assert [(record.kind, record.sent) for record in server.log] == [(fault.value, False)] * 2
    assert {record.status for record in server.log} == {None if fault is Fault.DROPPED else 200}


async def test_half_the_body_arrives_and_all_of_it_was_promised():
    said: list[bytes] = []

    async def receive(content: aiohttp.StreamReader) -> None:
        while chunk := await content.readany():
            said.append(chunk)

    async with answering(always(Fault.BROKEN_OFF)) as (response, _):
        with pytest.raises(aiohttp.ClientPayloadError):
            await receive(response.content)
    assert int(response.headers["Content-Length"]) // 2 == len(b"".join(said)) > 0


@pytest.mark.parametrize("fault", NOT_JSON)
async def test_a_whole_response_that_is_not_json(fault: Fault):
    async with answering(always(fault)) as (response, server):
        said = await response.read()
    assert response.status == 200
    assert response.content_type == ("text/html" if fault is Fault.PAGE else "application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(said.decode(errors="replace"))
    assert server.log[0].sent


async def test_no_choice():
    async with answering(always(Fault.NO_CHOICE)) as (response, _):
        payload = await response.json()
    assert payload["choices"] == []
    assert payload["usage"]["prompt_tokens"] > 0


async def test_a_reply_of_ten_megabytes():
    async with answering(always(Fault.HUGE), Manner()) as (response, server):
        said = await response.read()
    assert 10_000_000 < len(said) < 11_000_000
    responses = json.loads(json.loads(said)["choices"][0]["message"]["content"])["responses"]
    assert [len(response["text"]) > 1_000_000 for response in responses] == [True, False, False, False]
    assert server.log[0].sent


@pytest.mark.parametrize("reads", [True, False])
async def test_sent_is_what_the_socket_took(reads: bool):
    """The last byte of a long reply is handed over only when the client reads the others."""
    body = json.dumps(body_of()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with faulty(always(Fault.HUGE), Manner(huge=30_000_000)) as server:
        # With so little room here the server has to wait for each read.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**12)
        writer.write(head + body)
        got = len(await reader.readexactly(2**12))
        assert server.log == []
        while reads and not server.log:
            got += len(await reader.read(2**16))
        writer.transport.abort()
        await eventually(lambda: server.log)
    assert [record.sent for record in server.log] == [reads]
    assert (got > 20_000_000) == reads


async def test_sound_json_as_plain_text():
    async with answering(always(Fault.PLAIN_TYPE)) as (response, _):
        assert response.content_type == "text/plain"
        assert "choices" in json.loads(await response.text())


async def test_the_same_id_for_all():
    async with faulty(always(Fault.SAME_ID)) as server, aiohttp.ClientSession() as session:
        replies = [json.loads((await asked(session, server, body_of(prompt)))[1]) for prompt in ("a", "b", "c")]
    assert len({reply["id"] for reply in replies}) == 1
    assert len({reply["choices"][0]["message"]["content"] for reply in replies}) == 3


async def test_a_trickle_comes_byte_after_byte():
    async with answering(always(Fault.TRICKLE), Manner(pace=0.001), body_of("hi")) as (response, server):
        first = await response.content.readany()
        rest = await response.read()
    assert len(first) < 50
    assert "choices" in json.loads(first + rest)
    assert server.log[0].sent


# Each fault, through the client of this package


async def failure_of(fault: Fault) -> ProviderError:
    async with faulty(always(fault), QUICK) as server, model_at(server) as model:
        with pytest.raises(ProviderError) as caught:
            await averbalize(PROMPT, model=model, k=3, attempts=1)
    assert [record.kind for record in server.log] == [fault.value]
    return caught.value


STATUS = {Fault.ERROR: 500, Fault.UNAVAILABLE: 503, Fault.FAILED_JSON: 400, Fault.ERROR_EVENT: 500}
STATUS |= dict.fromkeys(LIMITS, 429)
WORDS = {
    Fault.FAILED_FINISH: "could not complete the reply",
    Fault.FAILED_JSON: "Failed to generate JSON",
    Fault.ERROR_BODY: "the engine died",
    Fault.ERROR_EVENT: "the engine died",
    Fault.BAD_CHUNK: "is damaged",
    Fault.SHORT_LENGTH: "is not HTTP, or is damaged",
    Fault.BAD_GZIP: "broke off or is damaged",
}
TRANSPORT = [fault for fault, effect in EFFECTS.items() if effect is Effect.TRANSPORT]


@pytest.mark.parametrize("fault", TRANSPORT)
async def test_transport_faults_are_provider_errors(fault: Fault):
    error = await failure_of(fault)
    assert error.status == STATUS.get(fault) or fault is Fault.ERROR_BODY
    assert WORDS.get(fault, "") in str(error)
    if fault is Fault.LIMIT_SECONDS:
        assert error.retry_after == faults.WAIT_SECONDS
    elif fault is Fault.LIMIT_DATE:
        assert error.retry_after is not None
        assert 0 <= error.retry_after <= 1
    else:
        assert error.retry_after is None


@pytest.mark.parametrize("fault", TRANSPORT)
async def test_transport_faults_may_be_tried_again(fault: Fault):
    assert (await failure_of(fault)).retryable


@pytest.mark.parametrize("fault", [fault for fault, effect in EFFECTS.items() if effect is Effect.USABLE])
async def test_usable_faults_are_answers(fault: Fault):
    async with faulty(always(fault), QUICK) as server, model_at(server) as model:
        found = await averbalize(PROMPT, model=model, k=3)
    assert (len(found), found.missing, found.provenance.requests) == (3, 0, 1)
    assert found.provenance.usage.total_tokens > 0
    assert max(len(candidate.text.encode()) for candidate in found) > (QUICK.huge if fault is Fault.HUGE else 0)
    assert [(record.kind, record.sent) for record in server.log] == [(fault.value, True)]


REASONS = {
    Fault.REFUSAL: "refused",
    Fault.UNREADABLE: "prose|empty",
    Fault.FILTERED: "content filter",
    Fault.CUT_OFF: "raise max_tokens",
}


@pytest.mark.parametrize("method", ["vs-standard", "direct"])
@pytest.mark.parametrize("fault", [fault for fault, effect in EFFECTS.items() if effect is Effect.CONTENT])
async def test_content_faults_are_reply_errors(fault: Fault, method: str):
    async with faulty(always(fault)) as server, model_at(server) as model:
        if fault is Fault.CUT_OFF and method == "direct":
            found = await averbalize(PROMPT, model=model, k=1, method=method, top_up=0)
            assert [candidate.repairs for candidate in found] == [("truncated",)]
            return
        with pytest.raises(ReplyError, match=REASONS[fault]) as caught:
            await averbalize(PROMPT, model=model, k=3, method=method, top_up=0)
    assert caught.value.reply is not None
    assert caught.value.reply.usage.prompt_tokens > 0
    assert bool(caught.value.reply.refusal) == (fault is Fault.REFUSAL)
    asked = 3 if method == "direct" else 1
    assert [(record.kind, record.sent) for record in server.log] == [(fault.value, True)] * asked


@pytest.mark.parametrize(
    ("fault", "repair"),
    [(Fault.IN_REASONING, "in-reasoning"), (Fault.IN_TOOL_CALL, "in-tool-call"), (Fault.AS_STREAM, None)],
)
async def test_answers_that_stand_elsewhere_are_streamed_and_marked(fault: Fault, repair: str | None):
    async with faulty(always(fault)) as server, model_at(server) as model:
        stream = astream(PROMPT, model=model, k=3)
        pieces = [candidate.text async for candidate in stream]
        found = stream.distribution
    assert len(found) == 3
    assert sorted(pieces) == sorted(found.texts)
    assert {candidate.repairs for candidate in found} == {(repair,) if repair else ()}
    assert all("\ufffd" not in candidate.text for candidate in found)
    assert any("👩🏽‍🚀" in candidate.text or "☕" in candidate.text for candidate in found)


FINAL = {
    Fault.REDIRECT: (307, "redirects to https://elsewhere/v1 (307)"),
    Fault.BOMB: (None, "the answer is larger than 1 MiB (unpacked)"),
    Fault.LIMIT_FAR: (429, "come again"),
}


@pytest.mark.parametrize("fault", FINAL)
async def test_faults_that_no_repetition_mends(fault: Fault):
    async with faulty(always(fault), QUICK) as server, model_at(server, max_bytes=2**20) as model:
        with pytest.raises(ProviderError) as caught:
            await averbalize(PROMPT, model=model, k=3)
    assert (caught.value.status, FINAL[fault][1] in str(caught.value)) == (FINAL[fault][0], True)
    assert caught.value.retryable == (fault is Fault.LIMIT_FAR)
    assert "secret" not in str(caught.value)
    assert len(server.log) == 1


async def test_a_failed_generation_leaves_structured_output_on():
    """The request is tried again, and later ones still carry the schema."""
    async with faulty(Plan(1, 1.0, (Fault.FAILED_JSON,), bound=1)) as server, model_at(server) as model:
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                await averbalize(PROMPT, model=model, k=3, attempts=1)
            assert caught.value.retryable
            assert (await averbalize(PROMPT, model=model, k=3)).provenance.structured
            model = model.sibling("other")
    assert [record.status for record in server.log] == [400, 200] * 2


async def test_a_trickle_outlasts_a_short_timeout():
    async with faulty(always(Fault.TRICKLE)) as server, model_at(server, timeout=1) as model:
        with pytest.raises(ProviderError, match="in time") as caught:
            await averbalize(PROMPT, model=model, k=3, attempts=1)
        await eventually(lambda: len(server.log) == 1)
    assert caught.value.retryable
    assert [(record.kind, record.sent) for record in server.log] == [(Fault.TRICKLE.value, False)]


async def test_the_fourth_attempt_is_answered():
    async with faulty(Plan(1, 1.0, (Fault.ERROR, Fault.DROPPED))) as server, model_at(server) as model:
        for _ in range(3):
            with pytest.raises(ProviderError):
                await averbalize(PROMPT, model=model, k=3, attempts=1)
        assert len(await averbalize(PROMPT, model=model, k=3)) == 3
    assert [record.attempt for record in server.log] == [1, 2, 3, 4]
    assert [record.kind == SOUND for record in server.log] == [False, False, False, True]


# Replay


async def faults_of(plan: Plan, bodies: list[Any], at_once: int) -> dict[tuple[str, int], tuple[str, int | None]]:
    """What each attempt of each body came to."""
    turn = asyncio.Semaphore(at_once)
    async with faulty(plan, QUICK) as server, aiohttp.ClientSession() as session:

        async def send(body: Any) -> None:
            async with turn:
                try:
                    await asked(session, server, body)
                except aiohttp.ClientError:
                    return

        await asyncio.gather(*map(send, bodies))
        await eventually(lambda: len(server.log) == len(bodies))
    came = {(record.key, record.attempt): (record.kind, record.status) for record in server.log}
    assert len(came) == len(bodies)
    for (key, attempt), (kind, _) in came.items():
        assert kind == (plan.fault(key, attempt) or SOUND)
    return came


async def test_a_run_comes_again_in_any_order():
    plan = Plan(11, 0.6, tuple(fault for fault in ALL if fault is not Fault.TRICKLE))
    bodies = [body_of(f"Generate 2 responses to {number}") for number in range(40)] * 4
    in_turn = await faults_of(plan, bodies, 1)
    random.Random(3).shuffle(bodies)
    assert await faults_of(plan, bodies, 16) == in_turn
    assert {EFFECTS.get(kind) for kind, _ in in_turn.values()} == {None, *EFFECTS.values()} - {Effect.FINAL}
    assert all(kind == SOUND for (_, attempt), (kind, _) in in_turn.items() if attempt == 4)


# Many at once


async def test_capacity():
    async with faulty(NEVER, Manner(delay=1, capacity=4)) as server, aiohttp.ClientSession() as session:
        bodies = [body_of(str(number)) for number in range(12)]
        statuses = [
            status for status, _ in await asyncio.gather(*(asked(session, server, body) for body in bodies))
        ]
        assert (statuses.count(200), statuses.count(429)) == (4, 8)
        kinds = [record.kind for record in server.log]
        assert (kinds.count(SOUND), kinds.count(OVER_CAPACITY)) == (4, 8)
        assert {record.attempt for record in server.log if record.kind == OVER_CAPACITY} == {0}
        again = [await asked(session, server, body) for body in bodies[:2]]
    assert [status for status, _ in again] == [200, 200]
    assert (server.peak, server.log[-1].in_flight) == (5, 1)


async def test_those_who_leave_free_their_place():
    async with faulty(NEVER, Manner(delay=30, capacity=1)) as server:
        timeout = aiohttp.ClientTimeout(total=1)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for number in range(2):
                with pytest.raises(TimeoutError):
                    await asked(session, server, body_of(str(number)))
                await eventually(lambda expected=number + 1: len(server.log) == expected)
    assert [(record.kind, record.sent, record.in_flight) for record in server.log] == [(SOUND, False, 1)] * 2


# A process of its own


@contextmanager
def process(log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, faults.__file__, "--seed", "1", "--port", "0", "--log", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server, f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


def ended(server: subprocess.Popen[str], with_signal: int) -> int:
    server.send_signal(with_signal)
    return server.wait(timeout=20)


async def test_the_process_serves_until_terminated(tmp_path: Path):
    plan = Plan(1, 0.5, (Fault.ERROR, Fault.REFUSAL))
    log = tmp_path / "requests.jsonl"
    with process(log, "--share", "0.5", "--kinds", "500,refusal", "--delay", "0.01") as (server, url):
        async with aiohttp.ClientSession() as session:
            statuses = []
            for number in range(20):
                async with session.post(f"{url}/chat/completions", json=body_of(str(number))) as response:
                    await response.read()
                    statuses.append(response.status)
        assert ended(server, signal.SIGTERM) == 0
    records = read_log(log)
    assert [record.status for record in records] == statuses
    assert [record.kind for record in records] == [plan.fault(record.key, 1) or SOUND for record in records]
    assert len({record.kind for record in records}) == 3
    assert all(record.sent for record in records)


async def test_the_log_outlives_a_kill_and_is_gone_on_with(tmp_path: Path):
    log = tmp_path / "requests.jsonl"
    for _ in range(2):
        with process(log, "--share", "0") as (server, url):
            async with aiohttp.ClientSession() as session:
                for number in range(3):
                    async with session.post(f"{url}/chat/completions", json=body_of(str(number))) as response:
                        await response.read()
                    # The reply may be here a moment before its line is there.
                    await eventually(lambda expected=number + 1: len(read_log(log)) % 3 == expected % 3)
            assert ended(server, signal.SIGKILL) == -signal.SIGKILL
    records = read_log(log)
    assert all(isinstance(record, Record) and record.sent for record in records)
    assert [record.attempt for record in records] == [1] * 6
