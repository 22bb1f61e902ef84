"""The proxy over real connections: client, our server and upstream, all on loopback."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import web
from servers import COMPLETION, Served, answering, events, serving, streaming

from outspoken.errors import UsageError
from outspoken.serve.openai.errors import RequestError, error_body, error_headers

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, Response  # noqa: E402

from outspoken.serve.http import proxy  # noqa: E402
from outspoken.serve.http.proxy import Proxy  # noqa: E402
from outspoken.serve.http.server import protocol  # noqa: E402

KEY = "sk-upstream-4711"
OWN = {"Authorization": "Bearer osk-client-0815"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hé 你好 🎉"}]}


@asynccontextmanager
async def front(base_url: str, http: Any = "auto", **options: Any) -> AsyncGenerator[str]:
    """uvicorn with nothing but the proxy behind it. Yields its address."""
    way = Proxy(base_url, KEY, **options)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            response: Response = way.response(request, await request.body())
        except RequestError as error:
            status, body = error_body(error)
            response = JSONResponse(body, status, error_headers(error))
        await response(scope, receive, send)

    try:
        async with running(app, http) as origin:
            yield origin
    finally:
        await way.aclose()


@asynccontextmanager
async def running(app: Any, http: Any = "auto") -> AsyncGenerator[str]:
    """uvicorn with `app`. Yields its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", ws="none", log_config=None, http=http)
    server = uvicorn.Server(config)
    server.config.load()
    serving = asyncio.create_task(server._serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await serving


Ask = Callable[..., Awaitable[tuple[aiohttp.ClientResponse, bytes]]]


@asynccontextmanager
async def both(handler: Any, **options: Any) -> AsyncGenerator[tuple[Served, Ask]]:
    """An upstream, the proxy, and a function that sends requests to the proxy."""
    async with (
        serving(handler) as served,
        front(served.base_url, **options) as origin,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):

        async def ask(path: str = "/v1/chat/completions", method: str = "POST", **more: Any) -> Any:
            more.setdefault("headers", OWN)
            if method == "POST" and "data" not in more:
                more.setdefault("json", CHAT)
            async with session.request(method, yarl.URL(origin + path, encoded=True), **more) as response:
                return response, await response.read()

        yield served, ask


def error_of(body: bytes) -> dict[str, Any]:
    assert KEY not in body.decode()
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)


# Byte for byte.

BODY = (
    '{ "model":"m",\t"tools": [{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}],\r\n'
    '"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},'
    '{"type":"text","text":"\\u4f60 好 🎉 \\/ 1.0e+2"}]}], "n": 1.50, "unknown":null }'
).encode()


async def test_bodies_are_unchanged() -> None:
    seen: list[bytes] = []
    answer = (
        b'{"choices" :\n [ {"message":{"tool_calls":[{"id":"1"}]} } ],"x":1.0,"text":"\xe4\xbd\xa0 \\u597d" }  '
    )

    async def handle(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response(body=answer, content_type="application/json")

    async with both(handle) as (_, ask):
        response, body = await ask(data=BODY, headers={**OWN, "Content-Type": "application/json; charset=utf-8"})
    assert (response.status, body) == (200, answer)
    assert seen == [BODY]
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_large_and_binary_bodies_are_unchanged() -> None:
    blob = bytes(range(256)) * 4096 * 6  # 6 MiB
    answer = json.dumps({"image": "A" * 3_000_000}).encode()

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=blob if request.path.endswith("speech") else answer, content_type="audio/mpeg")

    async with both(handle) as (_, ask):
        assert (await ask("/v1/audio/speech"))[1] == blob
        assert (await ask(data=io.BytesIO(answer)))[1] == answer


async def test_compressed_and_multipart_requests_are_unchanged() -> None:
    bodies = [
        (gzip.compress(BODY, mtime=0), {"Content-Encoding": "gzip", "Content-Type": "application/json"}),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x00\xff\r\n--b--\r\n',
            {"Content-Type": "multipart/form-data; boundary=b"},
        ),
    ]
    seen: list[tuple[bytes, str | None, str | None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        seen.append(
            (await request.body(), request.headers.get("content-encoding"), request.headers.get("content-type"))
        )
        await Response(b"{}", media_type="application/json")(scope, receive, send)

    async with running(app) as upstream, front(f"{upstream}/v1") as origin, aiohttp.ClientSession() as session:
        for body, headers in bodies:
            async with session.post(f"{origin}/v1/audio/transcriptions", data=body, headers=headers) as response:
                assert response.status == 200
    assert seen == [(body, headers.get("Content-Encoding"), headers["Content-Type"]) for body, headers in bodies]


async def test_head_and_delete_are_forwarded() -> None:
    async with both(answering()) as (served, ask):
        response, body = await ask("/v1/models", method="HEAD")
        assert (response.status, body) == (200, b"")
        assert int(response.headers["Content-Length"]) == len(json.dumps(COMPLETION))
        assert (await ask("/v1/files/f", method="DELETE", data=b'{"why": 1}'))[0].status == 200
        assert (await ask("/v1/chat/completions", data=b""))[0].status == 200
    assert [(r.method, r.headers.get("Content-Length")) for r in served.requests] == [
        ("HEAD", None),
        ("DELETE", "10"),
        ("POST", "0"),
    ]


async def test_method_path_and_query_are_unchanged() -> None:
    async with both(answering()) as (served, ask):
        await ask("/v1/files/a%2Fb%20%E4%BD%A0?limit=2&order=a%2Cb&x", method="GET")
        await ask("/v1/files/f-1", method="DELETE")
    assert [(r.method, r.raw_path) for r in served.requests] == [
        ("GET", "/v1/files/a%2Fb%20%E4%BD%A0?limit=2&order=a%2Cb&x"),
        ("DELETE", "/v1/files/f-1"),
    ]


async def test_the_base_url_replaces_v1_and_keeps_its_query() -> None:
    async with (
        serving(answering()) as served,
        front(f"{served.origin}/openai/deployments?api-version=1") as origin,
        aiohttp.ClientSession() as session,
        session.get(f"{origin}/v1/models?a=b") as response,
    ):
        assert response.status == 200
    assert served.requests[0].raw_path == "/openai/deployments/models?api-version=1&a=b"


@pytest.mark.parametrize(
    "path",
    [
        *("/v1", "/v2/models", "/v1/../admin", "/v1/a/%2e%2e/%2E%2e/admin", "/v1/%252e%252e/admin"),
        *("/v1/..%5cadmin", "/v1/%25252525252e./a", "/v1/./x"),
    ],
)
async def test_nothing_above_the_base_url_can_be_reached(path: str) -> None:
    async with both(answering()) as (served, ask):
        response, body = await ask(path, method="GET")
    assert (response.status, served.requests) == (404, [])
    assert "/v1/" in error_of(body)["message"]


# Headers.


async def test_the_clients_key_stays_and_the_upstreams_is_sent() -> None:
    headers = {
        **OWN,
        **dict.fromkeys(
            ("X-Api-Key", "Api-Key", "Cookie", "X-Goog-Api-Key", "OpenAI-Organization"), "osk-client-0815"
        ),
        "Proxy-Authorization": "Basic osk-client-0815",
        "TE": "trailers",
        "Connection": "keep-alive, X-Request-Id",
        "X-Request-Id": "of this connection",
        "Idempotency-Key": "i-1",
        "User-Agent": "OpenAI/Python 3",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, br",
        "X-Forwarded-For": "10.0.0.1",
    }
    async with both(answering()) as (served, ask):
        await ask(headers=headers)
    sent = served.requests[0].headers
    assert sent.getall("Authorization") == [f"Bearer {KEY}"]
    assert "osk-client-0815" not in str(sent)
    assert {name.lower() for name in sent} == {
        *("accept", "accept-encoding", "authorization", "content-length", "content-type", "host"),
        *("idempotency-key", "user-agent"),
    }
    assert (sent["User-Agent"], sent["Accept-Encoding"]) == ("OpenAI/Python 3", "identity")
    assert sent["Host"] in served.origin


async def test_without_a_key_none_is_sent() -> None:
    async with serving(answering()) as served:
        way = Proxy(served.base_url)
        sent = way._headers(Request({"type": "http", "headers": [(b"authorization", b"Bearer osk")]}))
        await way.aclose()
    assert "Authorization" not in sent


async def test_only_headers_for_the_client_come_back() -> None:
    headers = {
        "Connection": "X-Ratelimit-Limit-Tokens",
        "X-Ratelimit-Limit-Tokens": "of this connection",
        "X-Ratelimit-Remaining-Requests": "7",
        "X-Request-Id": "r-1",
        "Retry-After-Ms": KEY,
        "Set-Cookie": "a=b",
        "Server": "upstream/1",
        "Access-Control-Allow-Origin": "*",
        "OpenAI-Organization": "acme",
        "Content-Disposition": "inline; filename=é.json",
    }
    async with both(answering(headers=headers)) as (_, ask):
        response, _ = await ask()
    got = response.headers
    assert (got["X-Ratelimit-Remaining-Requests"], got["X-Request-Id"]) == ("7", "r-1")
    assert got["Content-Disposition"] == "inline; filename=é.json"
    for name in ("Retry-After-Ms", "Set-Cookie", "Access-Control-Allow-Origin", "OpenAI-Organization"):
        assert name not in got
    assert "X-Ratelimit-Limit-Tokens" not in got
    assert "upstream/1" not in str(got)


async def test_compressed_responses_stay_compressed() -> None:
    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b-as-it-is", headers={"Content-Encoding": "gzip"})

    async with both(packed) as (_, ask):
        response, body = await ask()
    assert (response.headers["Content-Encoding"], body) == ("gzip", b"\x1f\x8b-as-it-is")


# Streams.


async def test_a_stream_is_unchanged_and_not_delayed() -> None:
    pieces = [b"data: {", b'"a":"\xe4\xbd', b'\xa0"}\r\n\r\n', b": ping\n\n", b"data: [DONE]\n\n"]
    let_on = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(pieces[0])
        await let_on.wait()
        for piece in pieces[1:]:
            await response.write(piece)
        return response

    async with (
        serving(handle) as served,
        front(served.base_url) as origin,
        aiohttp.ClientSession() as session,
        session.post(f"{origin}/v1/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        first = await asyncio.wait_for(response.content.readany(), 5)
        assert first == pieces[0], "the upstream waits until this has come"
        let_on.set()
        assert first + await response.read() == b"".join(pieces)
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert served.requests[0].headers["Connection"] == "close"


async def test_two_hundred_streams_at_once() -> None:
    stream = events(*("你好 🎉" * 20 for _ in range(20)))

    async with both(streaming([stream[:100], stream[100:]])) as (served, ask):
        bodies = await asyncio.gather(*(ask(json={**CHAT, "stream": True}) for _ in range(200)))
    assert {body for _, body in bodies} == {stream}
    assert len(served.requests) == 200


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_frees_the_upstream(begun: bool) -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            if begun:
                await response.prepare(request)
                await response.write(b"data: 1\n\n")
            started.set()
            await asyncio.sleep(60)
        finally:
            closed.set()
        return response

    before = asyncio.all_tasks()
    async with serving(handle) as served, front(served.base_url) as origin:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(f"{origin}/v1/chat/completions", json=CHAT))
            await asyncio.wait_for(started.wait(), 5)
            if begun:
                # Closed explicitly: otherwise the garbage collector would warn in a later test.
                async with await asking as response:
                    assert await response.content.readany() == b"data: 1\n\n"
            asking.cancel()
        await asyncio.wait_for(closed.wait(), 5)
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() <= before, "no task is left behind"


@pytest.mark.parametrize("kind", ["answer", "stream", "failure"])
async def test_a_client_may_leave_at_any_moment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of the event loop is tried: before the connection, while waiting, inside the body, at its end."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if kind == "answer":
            return web.json_response(COMPLETION)
        response = web.StreamResponse(status=400 if kind == "failure" else 200)
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(0.05)
        return response

    whole = 0
    monkeypatch.setattr(proxy, "_SECONDS_UNWATCHED", 0.0)
    async with serving(handle) as served:
        way = Proxy(served.base_url, KEY)
        for step in range(120):
            left, ended = asyncio.Event(), asyncio.Event()

            async def receive(left: asyncio.Event = left) -> Any:
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any, ended: asyncio.Event = ended) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    ended.set()

            scope = {"type": "http", "method": "POST", "path": "/v1/x", "query_string": b"", "headers": []}
            response = way.response(Request(scope), b"{}")
            asking = asyncio.create_task(response(scope, receive, send))
            for _ in range(step):
                await asyncio.sleep(0)
            left.set()
            await asyncio.wait_for(asking, 5)
            whole += ended.is_set()
            assert way._session is not None or step == 0
            connector: Any = way._session and way._session.connector
            assert not (connector and connector._acquired), f"step {step} left a connection open"
            if connector and step % 2:  # the next one opens a new connection
                await way.aclose()
                way = Proxy(served.base_url, KEY)
        await way.aclose()
    assert whole < 120
    assert whole or kind != "answer", "some left early, and of the answers some came whole"


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    closed = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 2**20)
        finally:
            closed.set()

    async with serving(handle) as served, front(served.base_url, http=protocol(0.5)) as origin:
        url = yarl.URL(origin)
        reader, writer = await asyncio.open_connection(url.host, url.port, limit=1)
        writer.write(b"GET /v1/files/large HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(closed.wait(), 20)
        writer.close()
        del reader


# Failures.


async def test_an_upstream_that_is_down(unused_port: int) -> None:
    async with (
        front(f"http://127.0.0.1:{unused_port}/v1") as origin,
        aiohttp.ClientSession() as session,
        session.post(f"{origin}/v1/chat/completions", json=CHAT) as response,
    ):
        error = error_of(await response.read())
        assert (response.status, error["code"], error["type"]) == (502, "upstream_error", "server_error")
        assert "is the server running" in error["message"]
        assert str(unused_port) not in error["message"]


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def test_an_upstream_that_is_slow() -> None:
    async def handle(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with both(handle, idle_seconds=0.3) as (_, ask):
        began = time.monotonic()
        response, body = await ask()
        assert time.monotonic() - began < 10
    assert (response.status, error_of(body)["code"]) == (504, "upstream_timeout")


def hanging_up(head: bytes, content_type: str) -> Any:
    """Writes some of a body and drops the connection."""

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        if head or content_type:
            response = web.StreamResponse(headers={"Content-Type": content_type})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(head)
            await asyncio.sleep(0.05)
        request.transport.close()
        await asyncio.sleep(5)
        raise AssertionError("the connection is gone")

    return handle


async def test_an_upstream_that_disconnects_before_it_responds() -> None:
    async with both(hanging_up(b"", "")) as (_, ask):
        response, body = await ask()
    assert (response.status, error_of(body)["code"]) == (502, "upstream_error")


async def test_an_upstream_that_disconnects_between_two_events() -> None:
    async with both(hanging_up(b"data: {}\n\n", "text/event-stream")) as (_, ask):
        response, body = await ask(json={**CHAT, "stream": True})
    assert response.status == 200
    assert body.startswith(b"data: {}\n\ndata: ")
    assert error_of(body.removeprefix(b"data: {}\n\ndata: "))["code"] == "upstream_error"


@pytest.mark.parametrize(
    ("head", "kind"), [(b"data: {", "text/event-stream"), (b'{"choices": [', "application/json")]
)
async def test_half_a_response_never_looks_complete(head: bytes, kind: str) -> None:
    async with both(hanging_up(head, kind)) as (_, ask):
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(json={**CHAT, "stream": True})


async def test_an_error_in_openais_form_is_returned_with_retry_after() -> None:
    error = {
        "error": {"message": "slow down, 慢慢來", "type": "requests", "code": "rate_limit_exceeded", "param": None}
    }
    async with both(answering(error, 429, {"Retry-After": "7", "X-Ratelimit-Remaining-Requests": "0"})) as (
        _,
        ask,
    ):
        response, body = await ask()
    assert (response.status, body) == (429, json.dumps(error).encode())
    assert (response.headers["Retry-After"], response.headers["X-Ratelimit-Remaining-Requests"]) == ("7", "0")


@pytest.mark.parametrize(
    ("payload", "status", "headers", "answered", "code"),
    [
        ("<h1>Too many</h1>", 429, {"Retry-After": "7"}, 429, "rate_limit_exceeded"),
        ("<h1>Bad gateway</h1>", 502, {}, 502, "upstream_error"),
        ("<h1>Not here</h1>", 404, {}, 404, None),
        ("", 405, {}, 405, None),
        ("<script>alert(1)</script>", 200, {}, 502, "upstream_error"),
        ("x" * 10**6, 500, {}, 502, "upstream_error"),
        ({"detail": "no such thing"}, 422, {}, 422, None),
        ({"error": "a text alone"}, 400, {}, 400, None),
        ({"error": {"message": "who?"}}, 401, {}, 502, "upstream_authentication"),
        ({"error": {"message": "not you"}}, 403, {}, 502, "upstream_authentication"),
        ({"error": {"message": f"key {KEY} has no money"}}, 400, {}, 400, None),
        ('{"error": {"message": "\\u0073k-upstream-4711 has no money"}}', 400, {}, 400, None),
        ("", 304, {}, 502, "upstream_error"),
        ({}, 302, {"Location": "https://elsewhere.example/v1"}, 502, "upstream_error"),
        ({"error": {"message": "packed"}}, 400, {"Content-Encoding": "br"}, 400, None),
    ],
)
async def test_any_other_failure_has_openais_form(
    payload: Any, status: int, headers: dict[str, str], answered: int, code: str | None
) -> None:
    async with both(answering(payload, status, headers)) as (_, ask):
        response, body = await ask()
    assert (response.status, error_of(body)["code"]) == (answered, code)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers.get("Retry-After") == headers.get("Retry-After")
    assert "Location" not in response.headers


async def test_connections_are_reused_and_none_stays_open() -> None:
    peers: set[Any] = set()

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response(COMPLETION)

    files = Path("/proc/self/fd")
    async with both(handle) as (_, ask):
        await ask()
        before = len(list(files.iterdir())) if files.exists() else 0
        for _ in range(50):
            await ask()
        after = len(list(files.iterdir())) if files.exists() else 0
    assert len(peers) == 1
    assert after == before


@pytest.mark.parametrize(
    ("base_url", "options"),
    [
        ("localhost:8000", {}),
        ("http://user:pass@h/v1", {}),
        ("http://h/v1", {"api_key": "a\nb"}),
        ("http://h/v1", {"idle_seconds": 0}),
    ],
)
def test_invalid_upstreams(base_url: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Proxy(base_url, **options)
