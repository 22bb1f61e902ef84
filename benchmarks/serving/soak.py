"""A soak test: clients of every kind, some of which leave, in front of an upstream that fails."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from load import get, post
from parts import HERE, part, process

__all__ = ["SoakResult", "soak"]

CLIENTS, SHARE_OF_FAULTS, SHARE_THAT_LEAVES = 48, 0.3, 0.3
TIMEOUT = 90.0
# Their responses may be cut off like the upstream's: the part that was sent cannot be taken back.
FORWARDED = frozenset({"chat", "chat, streamed"})
WAYS = ("before the body", "while waiting", "while reading")


@dataclass
class SoakResult:
    """The result of a soak test.

    `table` counts outcomes by kind, `wrong` describes invalid ones. `files` and `tasks` are the increase of their
    numbers, `growth` is the memory at the end over that after a quarter.
    """

    table: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[str] = field(default_factory=list)
    files: int = 0
    tasks: int = 0
    growth: float = 0.0
    mb: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


async def soak(requests: int, seed: int) -> SoakResult:
    """Send `requests` requests, the first quarter of them to warm up."""
    result, chance = SoakResult(), random.Random(seed)
    with (
        process(HERE.parent / "upstream.py", "--seed", str(seed), "--share", str(SHARE_OF_FAULTS)) as (up,),
        part("outspoken", "--upstream", f"http://127.0.0.1:{up}/v1", "--pools", "30", "--texts", "2000") as ports,
    ):
        port, side = ports
        before = await reported(side)
        await storm(port, requests // 4, chance, result)
        warm = await settled(side, before)
        await storm(port, requests - requests // 4, chance, result)
        after = await settled(side, before)
    result.files, result.tasks = after["files"] - before["files"], after["tasks"] - before["tasks"]
    result.growth, result.mb = after["mb"] / warm["mb"], [before["mb"], warm["mb"], after["mb"]]
    result.names = after["names"]
    return result


async def reported(side: int) -> dict[str, Any]:
    """The tasks, files and memory that the server reports at its second port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", side)
    writer.write(b"\n")
    said = json.loads(await reader.readline())
    writer.close()
    return said


async def settled(side: int, before: dict[str, Any]) -> dict[str, Any]:
    """The same once fills have ended and idle connections are closed (aiohttp: after thirty seconds at most), or
    after forty seconds."""
    for _ in range(80):
        await asyncio.sleep(0.5)
        now = await reported(side)
        if now["tasks"] <= before["tasks"] and now["files"] <= before["files"]:
            break
    return now


async def storm(port: int, requests: int, chance: random.Random, result: SoakResult) -> None:
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            kind, request = asked(port, chance)
            way = chance.choice(WAYS) if chance.random() < SHARE_THAT_LEAVES else None
            try:
                async with asyncio.timeout(TIMEOUT):
                    outcome = await visit(port, request, way, chance)
            except TimeoutError:
                outcome = ("timeout", b"")
            except OSError as error:
                outcome = (f"{type(error).__name__}", b"")
            judge(kind, way, *outcome, result)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def asked(port: int, chance: random.Random) -> tuple[str, bytes]:
    """One request of a random kind."""
    # Forwarded prompts are new each time, as the fault server spares requests it has seen often.
    drawn, new = f"Tell me a joke ☕ ({chance.randrange(40)})", f"Tell me a joke ☕ ({chance.random()})"
    own = {"k": 5}
    chat, whole = "/v1/chat/completions", "/v1/distributions"
    kinds: dict[str, tuple[str, str, dict[str, Any]]] = {
        "draw": (chat, drawn, {"model": "m:vs", "n": chance.choice((1, 1, 3)), "outspoken": own}),
        "draw, streamed": (chat, drawn, {"model": "m:vs", "stream": True, "outspoken": own}),
        "draw, fresh": (chat, drawn, {"model": "m:vs-cot", "outspoken": {**own, "fresh": True}}),
        "chat": (chat, new, {"model": "m"}),
        "chat, streamed": (chat, new, {"model": "m", "stream": True}),
        "distribution": (whole, drawn, {"model": "m", "outspoken": own}),
        "distribution, streamed": (whole, drawn, {"model": "m", "stream": True, "outspoken": own}),
        "distribution, streamed, fresh": (
            whole,
            drawn,
            {"model": "m", "stream": True, "outspoken": {**own, "fresh": True}},
        ),
        "bad request": (chat, drawn, {"model": "m:vs", "outspoken": {"k": 0}}),
    }
    kind = chance.choice([*kinds, "draw", "draw, streamed", "metrics", "models"])
    if kind in ("metrics", "models"):
        return kind, get(port, "/metrics" if kind == "metrics" else "/v1/models")
    path, prompt, more = kinds[kind]
    return kind, post(port, {"messages": [{"role": "user", "content": prompt}], **more}, path)


async def visit(port: int, request: bytes, way: str | None, chance: random.Random) -> tuple[str, bytes]:
    """Send a request, and leave in this way; returns the outcome, and the body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if way == "before the body":
            writer.write(request[: request.find(b"\r\n\r\n") + chance.randrange(30)])
            await asyncio.sleep(chance.random() * 0.02)
            return "left", b""
        writer.write(request)
        if way == "while waiting":
            await asyncio.sleep(chance.random() * 0.05)
            return "left", b""
        if way == "while reading":
            await reader.read(chance.randrange(1, 2000))
            return "left", b""
        return await read_response(reader)
    finally:
        if way is not None and chance.random() < 0.5:
            writer.transport.abort()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def read_response(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    body = b""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = head.split()[1].decode()
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
    except asyncio.IncompleteReadError:
        return "cut off", body
    return status, body


def judge(kind: str, way: str | None, outcome: str, body: bytes, result: SoakResult) -> None:
    """Count an outcome; it is wrong if a client that stayed got neither a response nor a proper error."""
    valid = outcome == "left" and way is not None
    if outcome == "200":
        valid = _is_complete(kind, body)
        if _failed_later(body):
            outcome = "200, then an error"
    elif outcome.isdecimal():
        error = _error_of(body)
        valid = error is not None and error["code"] != "internal_error"
        outcome = f"{outcome} {error['code']}" if error and error["code"] else outcome
    elif outcome == "cut off":
        valid = kind in FORWARDED
    elif way is not None and outcome != "timeout":
        valid = True  # it left
    result.table[kind][f"left {way}" if outcome == "left" else outcome] += 1
    if not valid:
        result.wrong.append(f"{kind}: {outcome}: {body[-300:]!r}")


def _error_of(body: bytes) -> dict[str, Any] | None:
    try:
        error = json.loads(body)["error"]
        return error if {"message", "type", "code"} <= error.keys() and error["message"] else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _failed_later(body: bytes) -> bool:
    return b'data: {"error":' in body


def _is_complete(kind: str, body: bytes) -> bool:
    if kind in FORWARDED:
        return True  # any response of the upstream
    if kind == "draw, streamed":
        return body.endswith(b"data: [DONE]\n\n") or _failed_later(body)
    if kind.startswith("distribution, streamed"):
        return b"event: distribution\n" in body or _failed_later(body)
    if kind == "metrics":
        return b"outspoken_requests_total" in body
    wanted = {"distribution": "candidates", "models": "data"}.get(kind, "choices")
    return bool(json.loads(body)[wanted])
