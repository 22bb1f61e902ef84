"""A small soak test: clients that leave, an upstream that fails, and no task or file that remains."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from faults import ALL, Fault, Manner, Plan, faulty

for name in ("fastapi", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(name)

from serve_app import Running, running  # noqa: E402

from outspoken.serve.backend import Upstream  # noqa: E402
from outspoken.serve.limits import ServerLimits  # noqa: E402

CHAT, WHOLE = "/v1/chat/completions", "/v1/distributions"
OWN = {"k": 3}
# Path, and fields of the request. Requests that are not verbalized are forwarded.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "draw": (CHAT, {"model": "m:vs", "outspoken": OWN}),
    "draw, streamed": (CHAT, {"model": "m:vs", "stream": True, "outspoken": OWN}),
    "draw, fresh": (CHAT, {"model": "m:vs-cot", "outspoken": {**OWN, "fresh": True}}),
    "chat": (CHAT, {"model": "m"}),
    "distribution": (WHOLE, {"model": "m", "outspoken": OWN}),
    "distribution, streamed": (WHOLE, {"model": "m", "stream": True, "outspoken": OWN}),
    "distribution, fresh": (WHOLE, {"model": "m", "stream": True, "outspoken": {**OWN, "fresh": True}}),
    "metrics": ("/metrics", {}),
}
# A date in Retry-After means a wait of a second, which only the benchmark can afford.
BRIEF = tuple(fault for fault in ALL if fault is not Fault.LIMIT_DATE)
QUICK = Manner(delay=0.005, pace=0.0001, huge=20_000)


async def test_leaving_clients_and_a_failing_upstream_leave_no_task_or_file() -> None:
    files, tasks, chance = open_files(), asyncio.all_tasks(), random.Random(6)
    outcomes: Counter[str] = Counter()
    async with faulty(Plan(6, 0.3, BRIEF), QUICK) as upstream:
        backend = Upstream.at(upstream.base_url, idle_seconds=20)
        async with running(backend, limits=ServerLimits(max_pools=5, max_texts=100, timeout=20)) as server:
            await server.get("/healthz")
            before = tasks_of_the_server()
            await storm(server, 300, chance, outcomes)
            await until(lambda: not others(server))
            await until(lambda: tasks_of_the_server() <= before)
            assert await running_now(server) == 1, "the one that asks is the only one"
            status, answer = await server.chat(model="m:vs", outspoken=OWN)
            assert status == 200, answer
        kinds = {record.kind for record in upstream.log}
    await until(lambda: asyncio.all_tasks() <= tasks)
    await until(lambda: open_files() <= files)
    assert len(kinds) > len(BRIEF) / 2, "the upstream hardly went wrong"
    assert outcomes["answer"] > 100, outcomes
    assert outcomes["error"] > 5, outcomes
    assert outcomes["left"] > 50, outcomes


async def test_leaving_a_fresh_distribution_cancels_the_call_of_the_model() -> None:
    async with (
        faulty(Plan(1, 0), Manner(delay=60)) as upstream,
        running(Upstream.at(upstream.base_url, idle_seconds=90)) as server,
    ):
        for number, kind in enumerate(("draw, fresh", "distribution, fresh", "chat"), 1):
            _, writer = await asyncio.open_connection(*address(server))
            writer.write(request(kind, "一個問題"))
            await until(lambda: upstream._busy == 1)
            writer.transport.abort()
            await until(lambda number=number: upstream._busy == 0 and len(upstream.log) == number)
        assert await running_now(server) == 1


async def test_leaving_a_shared_fill_does_not_cancel_it() -> None:
    async with (
        faulty(Plan(1, 0), Manner(delay=0.3)) as upstream,
        running(Upstream.at(upstream.base_url, idle_seconds=20)) as server,
    ):
        _, writer = await asyncio.open_connection(*address(server))
        writer.write(request("draw", "same"))
        await until(lambda: upstream._busy == 1)
        waiting = asyncio.create_task(visit(server, request("draw", "same"), None, random.Random(1)))
        await asyncio.sleep(0)
        writer.transport.abort()
        status, body = await waiting
        assert status == 200, body
        assert "outspoken" in json.loads(body)["choices"][0]
        first = {record.attempt for record in upstream.log}
        assert first == {1}, "the same question was asked twice"


def request(kind: str, prompt: str) -> bytes:
    path, more = KINDS[kind]
    if not more:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body = json.dumps({"messages": [{"role": "user", "content": prompt}], **more}).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def storm(server: Running, requests: int, chance: random.Random, outcomes: Counter[str]) -> None:
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            kind = chance.choice(list(KINDS))
            # The fault server spares requests it has seen often, so forwarded ones are always new.
            prompt = f"ein Witz ☕ {chance.random() if kind == 'chat' else chance.randrange(8)}"
            way = chance.choice(("unsaid", "waiting", "reading", *[None] * 6))
            async with asyncio.timeout(30):
                status, body = await visit(server, request(kind, prompt), way, chance)
            outcomes["left" if way else judged(kind, status, body)] += 1

    await asyncio.gather(*(client() for _ in range(16)))


async def visit(server: Running, sent: bytes, way: str | None, chance: random.Random) -> tuple[int, bytes]:
    """Send a request, and leave in this way. Status and body; 0 if the response was cut off or not read."""
    reader, writer = await asyncio.open_connection(*address(server))
    try:
        if way == "unsaid":
            writer.write(sent[: sent.find(b"\r\n\r\n") + chance.randrange(20)])
            await asyncio.sleep(0.01 * chance.random())
        elif way == "waiting":
            writer.write(sent)
            await asyncio.sleep(0.03 * chance.random())
        elif way == "reading":
            writer.write(sent)
            await reader.read(chance.randrange(1, 2000))
        else:
            writer.write(sent)
            return await answer(reader)
        if chance.random() < 0.5:
            writer.transport.abort()
        return 0, b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    body = b""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
    except asyncio.IncompleteReadError:
        return 0, body
    return int(head.split()[1]), body


def judged(kind: str, status: int, body: bytes) -> str:
    """The kind of response that a client got; fails unless it is a valid one, or an error in OpenAI's form."""
    if status == 0:
        assert kind == "chat", f"{kind} was broken off: {body[-300:]!r}"
        return "broken off"
    if status != 200:
        error = json.loads(body)["error"]
        assert error["message"], (kind, status, error)
        assert error["type"], (kind, status, error)
        assert error["code"] != "internal_error", (kind, status, error)
        return "error"
    if b'data: {"error":' in body and kind != "chat":
        return "error"
    ends = {
        "draw, streamed": b"data: [DONE]\n\n",
        "distribution, streamed": b"event: distribution\n",
        "distribution, fresh": b"event: distribution\n",
        "metrics": b"outspoken_requests_total",
        "chat": b"",
    }
    if kind in ends:
        assert ends[kind] in body, (kind, body[-300:])
    else:
        assert json.loads(body)["candidates" if kind == "distribution" else "choices"], (kind, body[-300:])
    return "answer"


def address(server: Running) -> tuple[str, int]:
    host, _, port = server.origin.removeprefix("http://").rpartition(":")
    return host, int(port)


def others(server: Running) -> int:
    """Connections of the server, except the one that the session keeps."""
    return max(0, len(server.server.server_state.connections) - 1)


async def running_now(server: Running) -> int:
    async with server.session.get(f"{server.origin}/metrics") as response:
        lines = (await response.text()).splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("outspoken_requests_running "))))


def tasks_of_the_server() -> Counter[str]:
    """The running tasks, except those of the upstream's idle connections."""
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return Counter(name for name in names if name != "RequestHandler.start")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not true():
            await asyncio.sleep(0.01)
