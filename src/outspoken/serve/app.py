"""The server as an ASGI application: its addresses, and what each of them needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from outspoken import methods
from outspoken._version import __version__
from outspoken.errors import OutspokenError
from outspoken.serve import openapi
from outspoken.serve.answers import ClientLeftError, body_of, failure, json_answer
from outspoken.serve.backend import Backend
from outspoken.serve.bounds import Bounds
from outspoken.serve.chat import chat_completion
from outspoken.serve.distributions import distribution, known_distribution
from outspoken.serve.front import Front
from outspoken.serve.keys import Keys
from outspoken.serve.measuring import Measuring
from outspoken.serve.metrics import CONTENT_TYPE
from outspoken.serve.openai_fields import RequestError
from outspoken.serve.pool_store import PoolStore
from outspoken.serve.service import Service
from outspoken.serve.site import pages
from outspoken.settings import Settings

__all__ = ["create_app"]

_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


def create_app(
    backend: Backend,
    *,
    defaults: Settings = Settings(),  # noqa: B008  (frozen)
    bounds: Bounds = Bounds(),  # noqa: B008  (frozen)
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
    measuring = Measuring()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await measuring.aclose()
        await service.aclose()

    app = FastAPI(
        title="Outspoken",
        version=__version__,
        summary="OpenAI-compatible: answers are drawn from the distribution that a model verbalizes.",
        docs_url=None,  # it would be fetched from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        routes=[*pages(reports)],
    )
    _add_routes(app, service, measuring, about=_about(service, keys, reports))

    async def failed(_: Request, error: Exception) -> Response:
        return failure(error)

    async def left(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    app.add_exception_handler(OutspokenError, failed)
    app.add_exception_handler(HTTPException, _no_address)
    app.add_exception_handler(ClientLeftError, left)
    app.add_exception_handler(Exception, failed)
    front: ASGIApp = Front(app, keys=keys, origins=origins, bounds=bounds, metrics=service.metrics)
    if origins:
        front = CORSMiddleware(
            front, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], max_age=600
        )
    return front


def _add_routes(app: FastAPI, service: Service, measuring: Measuring, about: dict[str, Any]) -> None:
    """Requests are read by hand: only what is not verbalized may pass byte for byte, whatever it holds."""

    @app.post("/v1/chat/completions", openapi_extra=openapi.CHAT)
    async def chat(request: Request) -> Response:
        """A chat completion. A model's name with `:vs`, `:vs-cot` or `:vs-multi` draws from the verbalized
        distribution; any other passes through."""
        return await chat_completion(service, request)

    @app.post("/v1/distributions", openapi_extra=openapi.DISTRIBUTION)
    async def whole(request: Request) -> Response:
        """The whole distribution that a chat completion is drawn from; streamed, each candidate as it comes."""
        return await distribution(service, request)

    @app.get("/v1/distributions/{name}", openapi_extra=openapi.KNOWN)
    async def known(name: str) -> Response:
        """The distribution of an id that a choice carried."""
        return known_distribution(service, name)

    @app.get("/v1/models", openapi_extra=openapi.MODELS)
    async def models() -> Response:
        """The models, and the names under which they are verbalized."""
        return json_answer(await service.backend.listing())

    @app.get("/v1/models/{name:path}", openapi_extra=openapi.MODEL)
    async def model(name: str) -> Response:
        """One model."""
        found = next((row for row in (await service.backend.listing())["data"] if row["id"] == name), None)
        if found is None:
            raise RequestError(f"there is no model {name[:80]!r} here", status=404, code="model_not_found")
        return json_answer(found)

    @app.post("/v1/measures", openapi_extra=openapi.MEASURES)
    async def measures(request: Request) -> Response:
        """How many of some texts are different, and how much they differ in meaning."""
        return await measuring.answer(request, service.bounds)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", openapi_extra=openapi.HEALTH)
    async def health() -> Response:
        """Whether the server runs."""
        return json_answer({"status": "ok", "version": __version__})

    @app.get("/metrics", openapi_extra=openapi.METRICS)
    async def metrics() -> Response:
        """What has been counted, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/about.json", include_in_schema=False)
    async def told() -> Response:
        return json_answer(about, headers={"cache-control": "no-cache"})

    if (way := service.backend.way) is not None:

        @app.api_route("/v1/{rest:path}", methods=_ANY, include_in_schema=False)
        async def rest(request: Request) -> Response:
            service.metrics.passed()
            return way.response(request, await body_of(request, service.bounds))


def _about(service: Service, keys: Keys | None, reports: Path | None) -> dict[str, Any]:
    """What the page must know before anything is asked."""
    defaults = asdict(service.defaults)
    return {
        "version": __version__,
        "key_needed": keys is not None,
        "methods": [{"name": name, "about": about} for name, about in methods.ABOUT.items()],
        "defaults": {name: defaults[name] for name in ("method", "k", "tau", "temperature")},
        "most_k": service.bounds.max_k,
        "reports": reports is not None,
    }


async def _no_address(request: Request, error: Exception) -> Response:
    """What starlette refuses: an address that is not there, or one that takes another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path[:200]
    why = {
        404: f"there is nothing at {path}: here are /v1/chat/completions, /v1/distributions, /v1/models and "
        "/v1/measures, and with --upstream what the upstream has",
        405: f"{path} does not take {request.method}",
    }
    answer = failure(RequestError(why.get(status, "this request cannot be answered"), status=status))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
