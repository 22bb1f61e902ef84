"""The server as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from outspoken.methods.table import load_plugins
from outspoken.serve.backend import Backend
from outspoken.serve.http.middleware import Middleware
from outspoken.serve.keys import Keys
from outspoken.serve.limits import ServerLimits
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.routes.address import Address, Handler
from outspoken.serve.routes.table import ADDRESSES
from outspoken.serve.service import Service
from outspoken.serve.site import Site
from outspoken.settings import Settings

__all__ = ["create_app", "routes"]


def create_app(
    backend: Backend,
    *,
    defaults: Settings = Settings(),
    limits: ServerLimits = ServerLimits(),
    keys: Keys | None = None,
    store: PoolStore | None = None,
    reports: Path | None = None,
    origins: Sequence[str] = (),
    log_prompts: bool = False,
) -> ASGIApp:
    """The server as an ASGI application, for uvicorn or another server.

    `defaults` apply to fields that a verbalized request omits. Without `keys` it answers this machine alone.
    `store` keeps the pools over restarts, `reports` is a folder whose reports the page lists, `origins` are other
    origins whose pages may call it. The application closes `backend` and `store` when it is shut down.
    """
    load_plugins()
    service = Service(
        backend,
        limits=limits,
        defaults=defaults,
        store=store,
        site=Site(reports),
        key_needed=keys is not None,
        log_prompts=log_prompts,
    )

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None]:
        yield
        await service.aclose()

    with_upstream = backend.proxy is not None
    served = [address for address in ADDRESSES.addresses if with_upstream or not address.needs_upstream]
    router = Router(routes(served, service), redirect_slashes=False, lifespan=lifespan)
    app = Middleware(
        router, addresses=ADDRESSES, keys=keys, origins=origins, limits=limits, metrics=service.metrics
    )
    if not origins:
        return app
    methods = ("GET", "POST")
    return CORSMiddleware(app, allow_origins=origins, allow_methods=methods, allow_headers=["*"], max_age=600)


def routes(addresses: Iterable[Address], service: Service) -> list[Route]:
    """The routes of these addresses."""
    return [Route(row.path, _Endpoint(row.handler, service), methods=list(row.methods)) for row in addresses]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An endpoint without starlette's wrapper around functions: `Middleware` handles the exceptions."""

    handler: Handler
    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(self.service, Request(scope, receive))
        await response(scope, receive, send)
