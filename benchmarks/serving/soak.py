"""The soak: clients of every kind, some of whom vanish, before an upstream that goes wrong."""

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

__all__ = ["Found", "soak"]

CLIENTS, SHARE_OF_FAULTS, SHARE_THAT_LEAVES = 48, 0.3, 0.3
PATIENCE = 90.0
# They may be broken off as the upstream's answer was: what has been sent cannot be taken back.
PASSED_ON = frozenset({"chat", "chat, streamed"})
WAYS = ("before the body", "while waiting", "within the answer")


@dataclass
class Found:
    """What a soak has shown: `table` counts outcomes by kind, `wrong` describes those that may not be; `files` and
    `tasks` are how many more there are than before; `growth` is memory at the end over that after a quarter."""

    table: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[str] = field(default_factory=list)
    files: int = 0
    tasks: int = 0
    growth: float = 0.0
    mb: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


async def soak(requests: int, seed: int) -> Found:
    """So many requests, the first quarter of them to warm up."""
    found, chance = Found(), random.Random(seed)
    with (
        process(HERE.parent / "upstream.py", "--seed", str(seed), "--share", str(SHARE_OF_FAULTS)) as (up,),
        part("outspoken", "--upstream", f"http://127.0.0.1:{up}/v1", "--pools", "30", "--texts", "2000") as ports,
    ):
        port, side = ports
        before = await told(side)
        await storm(port, requests // 4, chance, found)
        warm = await settled(side, before)
        await storm(port, requests - requests // 4, chance, found)
        after = await settled(side, before)
    found.files, found.tasks = after["files"] - before["files"], after["tasks"] - before["tasks"]
    found.growth, found.mb = after["mb"] / warm["mb"], [before["mb"], warm["mb"], after["mb"]]
    found.names = after["names"]
    return found


async def told(side: int) -> dict[str, Any]:
    """What the server's side door says of its tasks, files and memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", side)
    writer.write(b"\n")
    said = json.loads(await reader.readline())
    writer.close()
    return said


async def settled(side: int, before: dict[str, Any]) -> dict[str, Any]:
    """The same once fills have ended and idle connections are closed, or after forty seconds: aiohttp closes idle
    ones after thirty at most."""
    for _ in range(80):
        await asyncio.sleep(0.5)
        now = await told(side)
        if now["tasks"] <= before["tasks"] and now["files"] <= before["files"]:
            break
    return now


async def storm(port: int, requests: int, chance: random.Random, found: Found) -> None:
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            kind, request = asked(port, chance)
            way = chance.choice(WAYS) if chance.random() < SHARE_THAT_LEAVES else None
            try:
                async with asyncio.timeout(PATIENCE):
                    outcome = await visit(port, request, way, chance)
            except TimeoutError:
                outcome = ("no answer in time", b"")
            except OSError as error:
                outcome = (f"{type(error).__name__}", b"")
            judge(kind, way, *outcome, found)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def asked(port: int, chance: random.Random) -> tuple[str, bytes]:
    """One request of a random kind."""
    # What passes through is new each time, as the fault server spares what it has seen often.
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
    """Ask, and leave in this way; returns what came of it, and the body of the answer."""
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
        if way == "within the answer":
            await reader.read(chance.randrange(1, 2000))
            return "left", b""
        return await answer(reader)
    finally:
        if way is not None and chance.random() < 0.5:
            writer.transport.abort()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
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
        return "broken off", body
    return status, body


def judge(kind: str, way: str | None, outcome: str, body: bytes, found: Found) -> None:
    """Count it, and note it where a client that stayed got neither an answer nor an error in OpenAI's form."""
    sound = outcome == "left" and way is not None
    if outcome == "200":
        sound = _is_answer(kind, body)
        if _failed_later(body):
            outcome = "200, then an error"
    elif outcome.isdecimal():
        error = _error_of(body)
        sound = error is not None and error["code"] != "internal_error"
        outcome = f"{outcome} {error['code']}" if error and error["code"] else outcome
    elif outcome == "broken off":
        sound = kind in PASSED_ON
    elif way is not None and outcome != "no answer in time":
        sound = True  # its own leaving
    found.table[kind][f"left {way}" if outcome == "left" else outcome] += 1
    if not sound:
        found.wrong.append(f"{kind}: {outcome}: {body[-300:]!r}")


def _error_of(body: bytes) -> dict[str, Any] | None:
    try:
        error = json.loads(body)["error"]
        return error if {"message", "type", "code"} <= error.keys() and error["message"] else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _failed_later(body: bytes) -> bool:
    return b'data: {"error":' in body


def _is_answer(kind: str, body: bytes) -> bool:
    if kind in PASSED_ON:
        return True  # the upstream's, whatever it is
    if kind == "draw, streamed":
        return body.endswith(b"data: [DONE]\n\n") or _failed_later(body)
    if kind.startswith("distribution, streamed"):
        return b"event: distribution\n" in body or _failed_later(body)
    if kind == "metrics":
        return b"outspoken_requests_total" in body
    wanted = {"distribution": "candidates", "models": "data"}.get(kind, "choices")
    return bool(json.loads(body)[wanted])
