"""The server over real connections: draws, distributions, plain replies, errors, restarts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

for name in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(name)

from aiohttp import web  # noqa: E402
from serve_app import ASK, Running, Scripted, listed, reply, running, scripted  # noqa: E402
from servers import serving  # noqa: E402

from outspoken.models.local import Local  # noqa: E402
from outspoken.serve.backend import OneModel, Upstream  # noqa: E402
from outspoken.serve.limits import ServerLimits  # noqa: E402
from outspoken.serve.pool.store import PoolStore  # noqa: E402
from outspoken.settings import Settings  # noqa: E402

K20: dict[str, Any] = {"outspoken": {"k": 20}}


@pytest.mark.parametrize("clients", [1, 200])
async def test_many_identical_requests_cost_few_calls(clients: int) -> None:
    async with scripted() as (server, _, upstream):

        async def client() -> list[str]:
            return [text for _ in range(1000 // clients) for text in await server.texts(**K20)]

        texts = [text for each in await asyncio.gather(*(client() for _ in range(clients))) for text in each]
        assert len(texts) == 1000
        assert len(set(texts)) >= 900
        assert upstream.calls <= 60


async def test_a_choice_has_its_probability_and_its_distribution() -> None:
    async with scripted() as (server, served, upstream):
        status, first = await server.chat(n=2, temperature=0.7, outspoken={"k": 4})
        assert status == 200
        assert first["usage"]["total_tokens"] == 30
        assert [choice["index"] for choice in first["choices"]] == [0, 1]
        own = first["choices"][0]["outspoken"]
        assert own["probability"] == pytest.approx(0.25)
        assert own["draw"] == 1
        assert served.bodies[0]["temperature"] == 0.7
        assert served.bodies[0]["model"] == "m"
        _, second = await server.chat(temperature=0.7, outspoken={"k": 4})
        assert second["usage"]["total_tokens"] == 0
        status, found = await server.get(f"/v1/distributions/{own['distribution']}")
        assert status == 200
        assert (found["id"], len(found["candidates"])) == (own["distribution"], 4)
        status, missing = await server.get("/v1/distributions/dist-0")
        assert (status, missing["error"]["code"]) == (404, "distribution_not_found")
        await server.chat(outspoken={"k": 4})  # another temperature is another pool
        assert "Generate 4" in json.dumps(served.bodies[-1]["messages"])
        assert upstream.calls >= 2


async def test_a_refill_continues_the_conversation() -> None:
    async with scripted() as (server, served, _):
        for _ in range(9):
            await server.texts(outspoken={"k": 3})
        chats = [body["messages"] for body in served.bodies]
        assert [len(chat) for chat in chats[:3]] == [2, 4, 6]
        assert chats[2][:4] == chats[1]
        assert chats[1][2]["role"] == "assistant"
        assert "笑話 0" in chats[1][2]["content"]


async def test_seeds_repeat_and_fresh_asks_again() -> None:
    async with scripted() as (server, _, upstream):
        seeded = [await server.texts(seed=7, n=2) for _ in range(3)]
        assert seeded[0] == seeded[1] == seeded[2]
        assert len({tuple(await server.texts(seed=seed, n=2)) for seed in range(12)}) > 3
        assert upstream.calls == 1
        fresh = [await server.texts(outspoken={"fresh": True}) for _ in range(3)]
        assert upstream.calls == 4
        assert len({text for texts in fresh for text in texts}) == 3


async def test_a_model_with_nothing_new() -> None:
    async with scripted(Scripted(lambda body: listed("Kopf", "Zahl"))) as (server, _, upstream):
        first = [await server.texts(outspoken={"k": 2}) for _ in range(2)]
        assert sorted(text for texts in first for text in texts) == ["Kopf", "Zahl"]
        status, again = await server.chat(outspoken={"k": 2})
        assert (status, again["choices"][0]["outspoken"]["again"]) == (200, True)
        status, refused = await server.chat(outspoken={"k": 2, "recycle": False})
        assert (status, refused["error"]["code"]) == (422, "pool_exhausted")
        status, refused = await server.chat(n=3, outspoken={"k": 2})
        assert (status, refused["error"]["code"]) == (422, "pool_exhausted")
        calls = upstream.calls
        await server.texts(outspoken={"k": 2})
        assert upstream.calls == calls


async def test_clients_that_wait_share_one_call() -> None:
    async with scripted() as (server, _, upstream):
        upstream.gate.clear()
        waiting = [asyncio.create_task(server.texts(**K20)) for _ in range(15)]
        while not upstream.calls:
            await asyncio.sleep(0.01)
        leaving = waiting.pop()
        leaving.cancel()
        await asyncio.sleep(0.05)
        upstream.gate.set()
        texts = [text for each in await asyncio.gather(*waiting) for text in each]
        assert len(set(texts)) == 14
        assert upstream.calls <= 2  # the second is the refill ahead of need


async def events_of(server: Running, payload: Any) -> list[tuple[str, Any]]:
    async with server.session.post(server.origin + "/v1/distributions", json=payload) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        blocks = (await response.text()).split("\n\n")
    read = [block.split("\n", 1) for block in blocks if block and not block.startswith(":")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in read]


async def test_a_distribution_at_once_and_streamed() -> None:
    asked = {**ASK, "outspoken": {"k": 3}}
    async with scripted() as (server, served, upstream):
        events = await events_of(server, {**asked, "stream": True})
        assert [kind for kind, _ in events] == ["candidate"] * 3 + ["distribution"]
        assert [len(data["weights"]) for _, data in events[:3]] == [1, 2, 3]
        assert all(sum(data["weights"]) == pytest.approx(1) for _, data in events[:3])
        assert served.bodies[0]["stream"] is True
        streamed = events[-1][1]
        status, whole = await server.post("/v1/distributions", asked)
        assert status == 200
        assert {**whole, "created": 0} == {**streamed, "created": 0}
        assert (whole["object"], whole["model"], whole["method"]) == ("distribution", "m:vs", "vs-standard")
        assert whole["effective_size"] == pytest.approx(3, abs=0.01)
        assert (
            await events_of(server, {**asked, "stream": True}) == events[-1:]
        )  # it is in the pool: no other call
        assert upstream.calls == 1
        assert set(await server.texts(n=3, outspoken={"k": 3})) == {
            candidate["text"] for candidate in whole["candidates"]
        }


@pytest.mark.parametrize("method", ["direct", "sequence", "multi-turn", "vs-cot", "vs-multi"])
async def test_every_method_gives_a_distribution(method: str) -> None:
    async with scripted() as (server, _, _):
        payload = {**ASK, "model": "m", "outspoken": {"method": method, "k": 2, "turns": 2}}
        status, whole = await server.post("/v1/distributions", payload)
        assert status == 200, whole
        assert (whole["method"], len(whole["candidates"])) == (method, 4 if method == "vs-multi" else 2)


async def test_a_stream_can_fail() -> None:
    def say(body: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "out of order"}}, status=500)

    async with scripted(Scripted(say)) as (server, _, _):
        for path in ("/v1/distributions", "/v1/chat/completions"):
            status, answer = await server.post(path, {**ASK, "stream": True})
            assert (status, answer["error"]["code"]) == (502, "upstream_error")
            assert "127.0.0.1" not in answer["error"]["message"]


async def test_a_draw_as_a_stream() -> None:
    async with scripted() as (server, _, _):
        payload = {**ASK, "stream": True, "stream_options": {"include_usage": True}, "n": 2}
        async with server.session.post(server.origin + "/v1/chat/completions", json=payload) as response:
            assert response.content_type == "text/event-stream"
            lines = [line for line in (await response.text()).split("\n\n") if line]
        assert lines.pop() == "data: [DONE]"
        parts = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert parts[-1]["usage"]["total_tokens"] == 30
        text = "".join(c["delta"].get("content", "") for part in parts for c in part["choices"])
        assert text.count("🎉") == 2


@pytest.mark.parametrize("mark", ["prose", "field"])
async def test_a_refusal_is_returned_and_never_pooled(mark: str) -> None:
    said = "很抱歉，我無法協助這個請求。"
    answers = iter([said] * 3)

    def say(body: Any) -> str | web.StreamResponse:
        if next(answers, None) is None:
            return listed("一", "二")
        return said if mark == "prose" else web.json_response(reply("", refusal=said))

    async with scripted(Scripted(say)) as (server, _, _):
        status, first = await server.chat(n=2, outspoken={"k": 2})
        assert status == 200
        (choice,) = first["choices"]
        assert choice["message"]["content" if mark == "prose" else "refusal"] == said
        assert choice["outspoken"] == {"verbalized": False}
        for _ in answers:  # use up the refusals
            pass
        assert set(await server.texts(n=2, outspoken={"k": 2})) == {"一", "二"}


async def test_an_upstream_that_rejects_schemas_is_asked_without_one() -> None:
    def say(body: Any) -> str | web.StreamResponse:
        if "response_format" in body:
            return web.json_response(
                {"error": {"message": "response_format is not supported", "param": "response_format"}}, status=400
            )
        return listed("a", "b")

    async with scripted(Scripted(say)) as (server, _, _):
        assert set(await server.texts(n=2, outspoken={"k": 2})) == {"a", "b"}


async def test_unknown_fields_are_passed_to_the_model() -> None:
    async with scripted() as (server, served, _):
        assert await server.texts(min_p=0.1, provider={"order": ["x"]}, user="alice")
        assert served.bodies[0]["min_p"] == 0.1
        assert served.bodies[0]["provider"] == {"order": ["x"]}
        assert "user" not in served.bodies[0]


async def test_the_models_and_their_names() -> None:
    async with scripted() as (server, _, _):
        _, listing = await server.get("/v1/models")
        names = [row["id"] for row in listing["data"]]
        assert names[:5] == ["m", "m:vs", "m:vs-cot", "m:vs-multi", "其他"]
        status, one = await server.get("/v1/models/m:vs")
        assert (status, one["id"], one["object"]) == (200, "m:vs", "model")
        status, none = await server.get("/v1/models/x:vs")
        assert (status, none["error"]["code"]) == (404, "model_not_found")


async def test_other_requests_are_forwarded() -> None:
    async with scripted(Scripted(lambda body: "plain")) as (server, served, _):
        body = {**ASK, "model": "m", "tools": [{"type": "function"}], "logprobs": True}
        status, answer = await server.post("/v1/chat/completions", body)
        assert (status, answer) == (200, reply("plain"))
        assert served.bodies[-1] == body
        status, _ = await server.get("/v1/models/m")
        assert status == 200


async def test_pools_survive_a_restart(tmp_path: Path) -> None:
    upstream, drawn, seeded = Scripted(), list[str](), list[list[str]]()
    async with serving(upstream) as served:
        for _ in range(3):
            backend, store = Upstream.at(served.base_url, idle_seconds=5), PoolStore(tmp_path / "pools.sqlite")
            async with running(backend, store=store) as server:
                drawn += await server.texts(n=3, **K20)
                seeded.append(await server.texts(seed=3, **K20))
    assert len(set(drawn)) == 9
    assert seeded[0] == seeded[1] == seeded[2]
    assert upstream.calls == 1


async def test_a_stop_lets_requests_finish() -> None:
    async with scripted() as (server, _, upstream):
        upstream.gate.clear()
        asking = asyncio.create_task(server.chat())
        while not upstream.calls:
            await asyncio.sleep(0.01)
        server.server.stop()
        await asyncio.sleep(0.3)
        assert not asking.done()
        upstream.gate.set()
        status, _ = await asking
        assert status == 200


async def test_a_silent_model_times_out() -> None:
    limits = ServerLimits(timeout=0.3)
    async with scripted(Scripted(seconds=30), limits=limits) as (server, _, _):
        status, answer = await server.chat()
        assert (status, answer["error"]["code"]) == (504, "upstream_timeout")


async def test_measures_count_and_embed(minilm: Local) -> None:
    await minilm.load()  # download its file here: the server downloads nothing
    async with scripted() as (server, _, _):
        _, measured = await server.post(
            "/v1/measures", {"texts": ["coffee is hot", "Coffee is hot.", "法國大革命"]}
        )
        assert (measured["texts"], measured["distinct"], measured["note"]) == (3, 2, None)
        assert 0.2 < measured["semantic_diversity"] < 1
        _, measured = await server.post("/v1/measures", {"texts": ["one"]})
        assert (measured["distinct"], measured["semantic_diversity"]) == (1, None)
        for bad in ({}, {"texts": []}, {"texts": [1]}, {"texts": ["x"] * 201}):
            status, answer = await server.post("/v1/measures", bad)
            assert (status, answer["error"]["param"]) == (400, "texts")


async def test_metrics_health_and_about() -> None:
    async with scripted(defaults=Settings(k=7)) as (server, _, _):
        await server.texts()
        await server.texts()
        assert (await server.get("/healthz"))[1]["status"] == "ok"
        about = (await server.get("/about.json"))[1]
        assert about["defaults"]["k"] == 7
        assert about["key_needed"] is False
        assert {row["name"] for row in about["methods"]} >= {"direct", "vs-standard", "vs-multi"}
        async with server.session.get(server.origin + "/metrics") as response:
            text = await response.text()
        assert 'outspoken_draws_total{source="pool"} 1.0' in text
        assert 'outspoken_draws_total{source="waited"} 1.0' in text
        assert 'outspoken_upstream_calls_total{kind="fill",outcome="answered"} 1.0' in text
        assert "outspoken_pool_texts 7.0" in text
        assert "笑話" not in text


async def test_plain_replies_of_the_embedded_model(smollm2: Local) -> None:
    async with running(Kept(smollm2)) as server:
        asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
        status, answer = await server.post("/v1/chat/completions", {**asked, "n": 2, "seed": 5})
        assert status == 200, answer
        assert len(answer["choices"]) == 2
        assert "outspoken" not in answer["choices"][0]
        assert answer["usage"]["completion_tokens"] <= 16
        async with server.session.post(
            server.origin + "/v1/chat/completions", json={**asked, "stream": True, "seed": 5}
        ) as response:
            blocks = [block for block in (await response.text()).split("\n\n") if block]
        assert blocks[-1] == "data: [DONE]"
        pieces = [json.loads(block.removeprefix("data: "))["choices"][0] for block in blocks[:-1]]
        assert len(pieces) > 3
        assert "".join(piece["delta"].get("content", "") for piece in pieces).strip()
        for bad, code in (("gpt-4o", "model_not_found"), ("gpt-4o:vs", "model_not_found")):
            status, answer = await server.post("/v1/chat/completions", {**asked, "model": bad})
            assert (status, answer["error"]["code"]) == (404, code)
            assert "smollm2" in answer["error"]["message"]
        status, answer = await server.post("/v1/embeddings", {"input": "x"})
        assert status == 404
        assert "--upstream" in answer["error"]["message"]


class Kept(OneModel):
    """The session's model, which other tests use too: it stays open."""

    async def aclose(self) -> None:
        pass
