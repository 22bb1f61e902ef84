"""Keys, origins and limits; slow clients and clients that leave. Over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

for name in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(name)

from aiohttp import web  # noqa: E402
from serve_app import ASK, Running, Scripted, scripted  # noqa: E402

from outspoken.serve.keys import ClientLimits, Keys, hash_key, new_key  # noqa: E402
from outspoken.serve.limits import ServerLimits  # noqa: E402

KEY = new_key()
LIMITS = ClientLimits(per_minute=6000, burst=100, together=2)


def keys(limits: ClientLimits = LIMITS) -> Keys:
    return Keys([("alice", hash_key(KEY)), ("小明", hash_key(new_key()))][:1], limits)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.INFO)
    return caplog


async def test_a_server_with_keys_needs_one(log: pytest.LogCaptureFixture) -> None:
    async with scripted(keys=keys()) as (server, served, _):
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
            for path in ("/v1/models", "/metrics", "/reports", "/v1/distributions/x"):
                status, answer = await server.get(path, **header)
                assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            status, _ = await server.post("/v1/chat/completions", ASK, **header)
            assert status == 401
        assert not served.requests
        assert (await server.get("/healthz"))[0] == 200
        assert (await server.get("/about.json"))[1]["key_needed"] is True
        status, _ = await server.post("/v1/chat/completions", ASK, Authorization=f"Bearer {KEY}")
        assert status == 200
        plain = {**ASK, "model": "m"}
        await server.post("/v1/chat/completions", plain, Authorization=f"Bearer {KEY}")
        assert not any(KEY in str(request.headers) for request in served.requests)
    assert KEY not in log.text
    assert "笑話" not in log.text
    assert "alice" in log.text


async def test_prompts_are_logged_on_request(log: pytest.LogCaptureFixture) -> None:
    async with scripted(log_prompts=True) as (server, _, _):
        await server.texts()
    assert "說一個笑話 🎭" in log.text


async def test_the_limits_of_a_key() -> None:
    own = {"Authorization": f"Bearer {KEY}"}
    async with scripted(keys=keys()) as (server, _, upstream):
        upstream.gate.clear()
        asking = [asyncio.create_task(server.post("/v1/chat/completions", ASK, **own)) for _ in range(5)]
        done, waiting = await asyncio.wait(asking, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for task in done:
            status, answer = task.result()
            assert (status, answer["error"]["code"]) == (429, "too_many_at_once")
        upstream.gate.set()
        assert {(await task)[0] for task in waiting} == {200}
    async with scripted(keys=keys(ClientLimits(per_minute=1, burst=2))) as (server, _, _):
        statuses = [(await server.get("/v1/models", **own))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]


async def test_other_hosts_and_origins() -> None:
    async with scripted() as (server, _, _):
        for host in ("evil.example", "evil.example:80", "192.168.0.7", ""):
            status, answer = await server.get("/v1/models", Host=host)
            assert (status, answer["error"]["code"]) == (403, "forbidden_host"), host
        for host in ("localhost:8000", "127.0.0.1", "[::1]:99"):
            assert (await server.get("/v1/models", Host=host))[0] == 200
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            status, answer = await server.post("/v1/chat/completions", ASK, Origin=origin)
            assert (status, answer["error"]["code"]) == (403, "forbidden_origin"), origin
        assert (await server.chat())[0] == 200
        assert (await server.post("/v1/chat/completions", ASK, Origin=server.origin))[0] == 200


async def test_an_origin_that_is_allowed() -> None:
    origin = "https://app.example"
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with scripted(origins=[origin]) as (server, _, _):
        url = server.origin + "/v1/chat/completions"
        async with server.session.options(url, headers=asked) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == origin
        async with server.session.post(url, json=ASK, headers={"Origin": origin}) as response:
            assert (response.status, response.headers["access-control-allow-origin"]) == (200, origin)
        async with server.session.post(url, data=b'{"model": "m:vs"', headers={"Origin": origin}) as response:
            assert (response.status, response.headers["access-control-allow-origin"]) == (400, origin)
        async with server.session.post(url, json=ASK, headers={"Origin": "https://x.example"}) as response:
            assert response.status == 403
            assert "access-control-allow-origin" not in response.headers


async def test_bodies_that_are_too_large() -> None:
    async with scripted(limits=ServerLimits(max_body_mb=0.01)) as (server, _, _):
        large = json.dumps({**ASK, "x": "長" * 10_000}).encode()
        status, answer = await server.post("/v1/chat/completions", large)
        assert (status, answer["error"]["code"]) == (413, "body_too_large")

        async def pieces() -> Any:
            for start in range(0, len(large), 1000):
                yield large[start : start + 1000]

        async with server.session.post(server.origin + "/v1/chat/completions", data=pieces()) as response:
            assert response.status == 413
        assert (await server.chat())[0] == 200


async def test_more_requests_at_once_than_allowed() -> None:
    async with scripted(limits=ServerLimits(max_requests=2)) as (server, _, upstream):
        upstream.gate.clear()
        asking = [asyncio.create_task(server.chat()) for _ in range(2)]
        while not upstream.calls:
            await asyncio.sleep(0.01)
        status, answer = await server.chat()
        assert (status, answer["error"]["code"]) == (503, "overloaded")
        upstream.gate.set()
        assert [(await task)[0] for task in asking] == [200, 200]
        assert (await server.chat())[0] == 200


def connected(server: Running) -> socket.socket:
    host, _, port = server.origin.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"", b""), (b"POST /v1/chat", b""), (HEAD % 1000 + b'{"model"', b"HTTP/1.1 408")],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_client_that_sends_slowly(sent: bytes, answered: bytes) -> None:
    async with scripted(limits=ServerLimits(client_timeout=0.3)) as (server, _, _):
        with connected(server) as client:
            await asyncio.to_thread(client.sendall, sent)
            received = await asyncio.to_thread(read_all, client)
            assert received.startswith(answered)
            assert bool(received) == bool(answered)
        assert (await server.chat())[0] == 200  # others are served meanwhile


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


async def test_a_client_that_reads_nothing_is_disconnected() -> None:
    answers = json.dumps({"responses": [{"text": "長" * 4_000_000, "probability": 0.5}]})
    async with scripted(Scripted(lambda _: answers), limits=ServerLimits(client_timeout=0.5)) as (server, _, _):
        body = json.dumps({"model": "m", "messages": ASK["messages"]}).encode()
        client = connected(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connections = server.server.server_state.connections
        with client:
            await asyncio.to_thread(client.sendall, HEAD % len(body) + body)
            async with asyncio.timeout(15):
                while not any(connection.transport.get_write_buffer_size() for connection in connections):
                    await asyncio.sleep(0.01)
                while connections:
                    await asyncio.sleep(0.05)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert (await server.get("/healthz"))[0] == 200


async def test_a_client_that_leaves_cancels_its_own_call() -> None:
    ended = asyncio.Event()

    async with scripted() as (server, served, upstream):
        upstream.gate.clear()
        asking = asyncio.create_task(server.chat(outspoken={"fresh": True}))
        while not upstream.calls:
            await asyncio.sleep(0.01)
        served.requests[0].task.add_done_callback(lambda _: ended.set())
        asking.cancel()
        async with asyncio.timeout(5):
            await ended.wait()  # the call of the model was cancelled too


async def test_offers_to_upgrade_are_ignored() -> None:
    async with scripted() as (server, _, _):
        for name in ("Upgrade", "UPGRADE", "uPgRaDe"):
            offer = {"Connection": "Upgrade, HTTP2-Settings", name: "h2c", "HTTP2-Settings": "AAMAAABk"}
            assert (await server.post("/v1/chat/completions", ASK, **offer))[0] == 200


async def test_failures_are_logged_for_the_operator(log: pytest.LogCaptureFixture) -> None:
    def say(body: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "wrong key"}}, status=401)

    async with scripted(Scripted(say)) as (server, _, _):
        for model in ("m", "m:vs"):
            status, answer = await server.chat(model=model)
            assert (status, answer["error"]["code"]) == (502, "upstream_authentication")
    assert log.text.count("401") >= 2
