"""The server as an ASGI application: its addresses, and what each of them needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from outspoken._version import __version__
from outspoken.methods import steps
from outspoken.serve.backend import Backend
from outspoken.serve.http.middleware import Middleware
from outspoken.serve.http.responses import body_of, json_answer
from outspoken.serve.keys import Keys
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import CONTENT_TYPE
from outspoken.serve.openai.fields import RequestError
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.routes import openapi
from outspoken.serve.routes.chat import chat_completion
from outspoken.serve.routes.distributions import distribution, known_distribution
from outspoken.serve.routes.measures import MeasureRequests
from outspoken.serve.service import Service
from outspoken.serve.site.pages import pages
from outspoken.settings import Settings

__all__ = ["create_app"]

_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


def create_app(
    backend: Backend,
    *,
    defaults: Settings = Settings(),
    bounds: ServerLimits = ServerLimits(),
    keys: Keys | None = None,
    store: PoolStore | None = None,
    reports: Path | None = None,
    origins: Sequence[str] = (),
    log_prompts: bool = False,
) -> ASGIApp:
    """The server as an ASGI application, for uvicorn or another.

    `defaults` hold what a verbalized request does not say. Without `keys` it answers this machine alone. `store`
    keeps the pools over restarts, `reports` is a folder whose reports the page lists, `origins` are other origins
    whose pages may ask. The application closes `backend` and `store` when it is shut down.
    """
    service = Service.made(backend, bounds=bounds, defaults=defaults, store=store, log_prompts=log_prompts)
    measuring = MeasureRequests()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        yield
        await measuring.aclose()
        await service.aclose()

    routes = [*_api(service, measuring, about=_about(service, keys, reports)), *pages(reports)]
    router = Router(routes, redirect_slashes=False, lifespan=lifespan)
    front: ASGIApp = Middleware(router, keys=keys, origins=origins, bounds=bounds, metrics=service.metrics)
    if origins:
        front = CORSMiddleware(
            front, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], max_age=600
        )
    return front


class _Address:
    """An endpoint without what starlette wraps around a function: `Middleware` answers what is raised."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _api(service: Service, measuring: MeasureRequests, about: dict[str, Any]) -> list[Route]:
    way = service.backend.way
    document = openapi.document()

    async def chat(request: Request) -> Response:
        return await chat_completion(service, request)

    async def whole(request: Request) -> Response:
        return await distribution(service, request)

    async def known(request: Request) -> Response:
        return known_distribution(service, request.path_params["name"])

    async def models(_: Request) -> Response:
        return json_answer(await service.backend.listing())

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = next((row for row in (await service.backend.listing())["data"] if row["id"] == name), None)
        if found is None:
            raise RequestError(f"there is no model {name[:80]!r} here", status=404, code="model_not_found")
        return json_answer(found)

    async def measures(request: Request) -> Response:
        return await measuring.answer(request, service.bounds)

    async def health(_: Request) -> Response:
        return json_answer({"status": "ok", "version": __version__})

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    async def told(_: Request) -> Response:
        return json_answer(about, headers={"cache-control": "no-cache"})

    async def described(_: Request) -> Response:
        return json_answer(document)

    async def rest(request: Request) -> Response:
        assert way is not None
        service.metrics.passed()
        return way.response(request, await body_of(request, service.bounds))

    routes = [
        Route("/v1/chat/completions", _Address(chat), methods=["POST"]),
        Route("/v1/distributions", _Address(whole), methods=["POST"]),
        Route("/v1/distributions/{name}", _Address(known), methods=["GET"]),
        Route("/v1/models", _Address(models), methods=["GET"]),
        Route("/v1/models/{name:path}", _Address(model), methods=["GET"]),
        Route("/v1/measures", _Address(measures), methods=["POST"]),
        Route("/healthz", _Address(health), methods=["GET"]),
        Route("/metrics", _Address(metrics), methods=["GET"]),
        Route("/about.json", _Address(told), methods=["GET"]),
        Route("/openapi.json", _Address(described), methods=["GET"]),
    ]
    if way is not None:
        routes.append(Route("/v1/{rest:path}", _Address(rest), methods=_ANY))
    return routes


def _about(service: Service, keys: Keys | None, reports: Path | None) -> dict[str, Any]:
    """What the page must know before anything is asked."""
    return {
        "version": __version__,
        "key_needed": keys is not None,
        "methods": [{"name": name, "about": about} for name, about in steps.ABOUT.items()],
        "defaults": {name: getattr(service.defaults, name) for name in ("method", "k", "tau", "temperature")},
        "most_k": service.bounds.max_k,
        "reports": reports is not None,
    }
