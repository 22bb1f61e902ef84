"""A scripted server for the page of `outspoken serve`, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from outspoken.methods.table import METHODS
from outspoken.serve.app import routes as routes_of
from outspoken.serve.routes.table import ADDRESSES
from outspoken.serve.site import Site

EVIL = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1"> & {{ 7 * 7 }}'
STATES = (("New York", 0.4), ("Texas", 0.3), ("Colorado", 0.3), ("California", 0.2), ("Arizona", 0.1))
BITING = (
    ("لماذا ذهبت القهوة إلى الشرطة؟ لأن أحدهم سرق حبوبها!", 0.3),
    (EVIL, 0.25),
    ("為什麼咖啡要報警?因為它被「搶」了一口。" * 4, 0.2),
    ("W" * 300, 0.15),
    ("A cat, a coffee and an astronaut 👩🏽‍🚀 walk into a bar.\n\nThe bar was set too low.", 0.1),
)
OPEN = ("/about.json", "/reports-frame", "/site/")


@dataclass
class Script:
    """What the server does next, and the requests it got."""

    candidates: tuple[tuple[str, float | None], ...] = STATES
    draws: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    key: str = ""
    pace: float = 0.0
    answers_in: float = 0.0
    refuses: tuple[int, str] | None = None
    fails_after: int | None = None
    note: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    together: int = 0
    most_together: int = 0
    left: int = 0

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]


def whole(script: Script, body: dict[str, Any]) -> dict[str, Any]:
    """The distribution of the script's candidates, as the server writes it."""
    total = sum(stated or 0 for _, stated in script.candidates)
    made = [
        {"text": text, "probability": (stated or 0) / total, "stated": stated, "repairs": []}
        for text, stated in script.candidates
    ]
    entropy = -sum(one["probability"] * log(one["probability"]) for one in made if one["probability"])
    own = body["outspoken"]
    return {
        "id": "dist-1f0c", "object": "distribution", "created": 1, "model": body["model"],
        "prompt": body["messages"][-1]["content"], "method": own["method"], "template": "standard",
        "k": own.get("k", 5), "tau": own.get("tau"), "usage": {"prompt_tokens": 120, "completion_tokens": 78},
        "requests": 1, "candidates": sorted(made, key=lambda one: -one["probability"]), "mass": total, "missing": 0,
        "set_aside": [], "reasoning": [], "stopped": "", "entropy": entropy, "effective_size": exp(entropy),
        **script.more,
    }  # fmt: skip


def error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "x", "param": None, "code": None}}, status)


async def stream(script: Script, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Events split at difficult places, with comments and both kinds of line breaks."""
    text, shares = ": hello\r\n\r\n", []
    for index, (candidate, stated) in enumerate(script.candidates):
        if index == script.fails_after:
            failure = json.dumps(
                {"error": {"message": "the upstream is gone", "type": "server_error", "code": 502}}
            )
            yield f"event: error\ndata: {failure}\n\n".encode()
            return
        shares.append(stated or 0)
        data = {"index": index, "text": candidate, "stated": stated, "weights": [s / sum(shares) for s in shares]}
        text += f"event: candidate\r\ndata: {json.dumps(data, ensure_ascii=False)}\r\n\r\n: wait\n"
        content = text.encode()
        middle = len(content) - 10  # within the line break that completes the event
        yield content[:middle]
        await asyncio.sleep(script.pace)
        text = ""
        yield content[middle:]
    content = f"event: distribution\ndata: {json.dumps(whole(script, body), ensure_ascii=False)}\n\n".encode()
    for start in range(0, len(content), 1013):
        yield content[start : start + 1013]


def site_routes(reports: Path | None) -> list[Route]:
    """The routes of the page alone, as the server has them."""
    service: Any = SimpleNamespace(site=Site(reports))
    rows = [row for row in ADDRESSES.addresses if row.path == "/" or row.path.startswith(("/site/", "/reports"))]
    return routes_of(rows, service)


def routes(script: Script) -> list[Route]:
    async def distributions(request: Request) -> Response:
        body = await request.json()
        script.asked.append((request.url.path, body))
        return StreamingResponse(stream(script, body), media_type="text/event-stream")

    async def held(request: Request) -> Response:
        body = {"model": "m", "messages": [{"content": ""}], "outspoken": {"method": "vs-standard"}}
        return JSONResponse({**whole(script, body), "id": request.path_params["id"]})

    async def completions(request: Request) -> Response:
        body = await request.json()
        script.asked.append((request.url.path, body))
        script.together += 1
        script.most_together = max(script.most_together, script.together)
        try:
            await asyncio.sleep(script.answers_in)
        finally:
            script.together -= 1
        if script.refuses:
            return error(*script.refuses)
        drawn: dict[str, Any] = {}
        text = "Texas"
        if "outspoken" in body:
            own = {"probability": 0.2308, "distribution": "dist-1f0c", "draw": 1}
            text, more = script.draws.pop(0) if script.draws else (f"State {script.left}", {})
            script.left += 1
            drawn = {"outspoken": {**own, **more}}
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, **drawn}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
            }
        )

    async def models(request: Request) -> Response:
        names = [
            base + suffix
            for base in ("local/smollm2", "openai/gpt-4.1")
            for suffix in ("", ":vs", ":vs-cot", ":vs-multi")
        ]
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in names]
        return JSONResponse({"object": "list", "data": data})

    async def measures(request: Request) -> Response:
        texts = (await request.json())["texts"]
        distinct = len(set(texts))
        diversity = None if script.note else round(distinct / len(texts) / 3, 4)
        return JSONResponse(
            {"texts": len(texts), "distinct": distinct, "semantic_diversity": diversity, "note": script.note}
        )

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "version": "0.7.0", "key_needed": bool(script.key), "most_k": 100, "reports": True,
                "methods": [
                    {
                        "name": name,
                        "about": f"how {name} asks",
                        "suffix": method.server_suffix,
                        "states_probabilities": method.states_probabilities,
                    }
                    for name, method in METHODS.items()
                ],
                "defaults": {"method": "vs-standard", "k": 5, "tau": None, "temperature": None},
            }
        )  # fmt: skip

    return [
        Route("/v1/distributions", distributions, methods=["POST"]),
        Route("/v1/distributions/{id}", held),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/measures", measures, methods=["POST"]),
        Route("/about.json", about),
    ]


class Guarded:
    """Requires the client's key if the script has one."""

    def __init__(self, app: Any, script: Script) -> None:
        self.app, self.script = app, script

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (
            scope["type"] == "http"
            and self.script.key
            and scope["path"] != "/"
            and not scope["path"].startswith(OPEN)
        ):
            given = dict(scope["headers"]).get(b"authorization", b"").decode()
            if given != f"Bearer {self.script.key}":
                await error(401, "the client key is missing or wrong")(scope, receive, send)
                return
        await self.app(scope, receive, send)


@asynccontextmanager
async def serving(script: Script, reports: Path | None) -> AsyncIterator[str]:
    """The address of the running server."""
    app = Guarded(Starlette(routes=[*site_routes(reports), *routes(script)]), script)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        running = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = server.force_exit = True
            await running
