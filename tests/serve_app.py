"""The whole server in a test's own loop, over real connections, in front of a scripted upstream."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from servers import Served, serving

from outspoken.serve.app import create_app
from outspoken.serve.backend import Backend, Upstream
from outspoken.serve.http.server import Server, listen
from outspoken.serve.limits import ServerLimits

ASK: dict[str, Any] = {"model": "m:vs", "messages": [{"role": "user", "content": "說一個笑話 🎭"}]}
_WORDED = re.compile(r"Generate (\d+)|with (\d+) responses")


@dataclass
class Scripted:
    """An upstream that never repeats itself, unless `say` returns the text of its next reply."""

    say: Callable[[Any], str | web.StreamResponse] | None = None
    seconds: float = 0.0
    count: Any = field(default_factory=itertools.count)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "m"}, {"id": "其他"}]})
        body = await request.json()
        self.calls += 1
        await asyncio.sleep(self.seconds)
        await self.gate.wait()
        said = self.say(body) if self.say else self.candidates(body)
        if isinstance(said, web.StreamResponse):
            return said
        if not body.get("stream"):
            return web.json_response(reply(said))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for at in range(0, len(said), 20):
            piece = {"choices": [{"index": 0, "delta": {"content": said[at : at + 20]}}]}
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": reply("")["usage"]}
        await response.write(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())
        return response

    def candidates(self, body: Any) -> str:
        """As many new candidates as the prompt asks for."""
        found = _WORDED.search(body["messages"][-1]["content"])
        k = int(found[1] or found[2]) if found else 1
        texts = [f"笑話 {next(self.count)} 🎉" for _ in range(k)]
        return listed(*texts) if found else texts[0]


def listed(*texts: str) -> str:
    """A valid reply with these candidates, equally likely."""
    responses = [{"text": text, "probability": round(1 / len(texts), 4)} for text in texts]
    return json.dumps({"responses": responses}, ensure_ascii=False)


def reply(text: str, **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-up",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }


@dataclass
class Running:
    """A running server, its address, and a client's session."""

    origin: str
    session: aiohttp.ClientSession
    server: Server

    async def post(self, path: str, payload: Any, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        async with self.session.post(self.origin + path, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.origin + path, headers=headers) as response:
            return response.status, await response.json()

    async def chat(self, **fields: Any) -> tuple[int, Any]:
        return await self.post("/v1/chat/completions", {**ASK, **fields})

    async def texts(self, **fields: Any) -> list[str]:
        status, answer = await self.chat(**fields)
        assert status == 200, answer
        return [choice["message"]["content"] for choice in answer["choices"]]


@asynccontextmanager
async def running(
    backend: Backend, *, limits: ServerLimits = ServerLimits(), **options: Any
) -> AsyncGenerator[Running]:
    """A server on a port of its own; at the end it stops gracefully and leaves no task behind."""
    started = asyncio.Event()
    server = Server(create_app(backend, limits=limits, **options), limits, ready=started.set)
    with listen("127.0.0.1", 0) as socket:
        serving_it = asyncio.create_task(server.serve([socket]))
        await started.wait()
        try:
            async with aiohttp.ClientSession() as session:
                yield Running(f"http://127.0.0.1:{socket.getsockname()[1]}", session, server)
        finally:
            server.stop()
            await serving_it


@asynccontextmanager
async def scripted(
    upstream: Scripted | None = None, **options: Any
) -> AsyncGenerator[tuple[Running, Served, Scripted]]:
    """A server in front of a scripted upstream."""
    script = upstream or Scripted()
    async with (
        serving(script) as served,
        running(Upstream.at(served.base_url, idle_seconds=5), **options) as server,
    ):
        yield server, served, script
