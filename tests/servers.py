"""Real servers on loopback for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "served-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hé 你好 🎉"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 7,
        "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 5},
    },
}


@dataclass
class Served:
    """A running server: its address, and the requests that it received."""

    origin: str
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[Served]:
    """A server that answers every request with `handler`."""
    served = Served("")

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        served.requests.append(request)
        served.bodies.append(json.loads(body) if body else None)
        return await handler(request)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()


def answering(payload: Any = COMPLETION, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    """Always the same JSON, or the same text if `payload` is text."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        if isinstance(payload, str):
            return web.Response(text=payload, status=status, headers=headers, content_type="text/html")
        return web.json_response(payload, status=status, headers=headers)

    return handle


def events(*texts: str, finish: str | None = "stop", done: bool = True) -> bytes:
    """A stream of chat-completion chunks, a chunk for each of `texts`, as a server writes it."""
    deltas: list[dict[str, Any]] = [{"delta": {"content": text}, "finish_reason": None} for text in texts]
    if finish:
        deltas.append({"delta": {}, "finish_reason": finish})
    chunks: list[dict[str, Any]] = [
        {"model": "served-model", "choices": [{"index": 0} | delta]} for delta in deltas
    ]
    chunks.append({"model": "served-model", "choices": [], "usage": COMPLETION["usage"]})
    lines = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, *["[DONE]"] * done]).encode()


def streaming(writes: Iterable[bytes], content_type: str = "text/event-stream") -> Handler:
    """A response written in these pieces."""
    pieces = list(writes)

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handle
