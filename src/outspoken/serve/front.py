"""What every request meets first: who asks, from where, and how much at once. What every answer leaves through."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outspoken.errors import OutspokenError
from outspoken.serve.answers import failure
from outspoken.serve.bounds import Bounds
from outspoken.serve.keys import Keys
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai_fields import RequestError

__all__ = ["Front"]

_OPEN = ("/", "/healthz", "/about.json", "/openapi.json", "/favicon.ico", "/reports-frame")
_OPEN_BELOW = "/site/"
_ROUTES = frozenset(
    {
        *("/", "/v1/chat/completions", "/v1/distributions", "/v1/models", "/v1/measures", "/healthz", "/metrics"),
        *("/about.json", "/openapi.json", "/reports"),
    }
)
_ROUTES_BELOW = ("/v1/distributions/", "/v1/models/", "/v1/", "/site/", "/reports/")
_LEFT = 499  # nobody was answered
_logger = logging.getLogger("outspoken.serve")


class Front:
    """An ASGI application before another.

    Without `keys` only this machine may ask: a request must name it as the host (a foreign name that leads here is
    a web page's attempt to reach it), and no page of another origin may ask unless it is one of `origins`.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys | None, origins: Collection[str], bounds: Bounds, metrics: Metrics
    ) -> None:
        self._app = app
        self._keys = keys
        self._origins = frozenset(origins)
        self._bounds = bounds
        self._metrics = metrics
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, who = time.perf_counter(), _LEFT, ""
        with self._metrics.request(_route(scope["path"])) as answered:

            async def give(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    answered(status := message["status"])
                await send(message)

            try:
                headers = _headers(scope)
                self._check_origin(headers)
                client = self._client(scope["path"], headers)
                who = f" {client.name}" if client else ""
                with self._place(), client.admitted() if client else nullcontext():
                    await self._app(scope, receive, give)
            except Exception as error:
                await self._tell(error, scope, receive, give, begun=status != _LEFT)
        took = 1000 * (time.perf_counter() - began)
        _logger.info("%s %s %d %.0f ms%s", scope["method"], scope["path"][:200], status, took, who)

    async def _tell(self, error: Exception, scope: Scope, receive: Receive, give: Send, *, begun: bool) -> None:
        """Answer with an error, where nothing has been answered yet."""
        if not isinstance(error, OutspokenError):
            _logger.error("a fault in the server itself", exc_info=error)
        if begun:
            return
        await failure(error)(scope, receive, give)

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if self._keys is None and not _is_this_machine(host):
            raise RequestError(
                "this server has no client keys and answers this machine alone: call it as localhost or 127.0.0.1",
                status=403,
                code="forbidden_host",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != host:
            raise RequestError(
                "pages of other origins may not ask here: its operator can allow one with --allow-origin",
                status=403,
                code="forbidden_origin",
            )

    def _client(self, path: str, headers: Mapping[str, str]) -> Any:
        if self._keys is None or path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        client = self._keys.check(headers.get("authorization"))
        if client is None:
            raise RequestError(
                "this server needs one of its client keys: send it as Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
            )
        return client

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= self._bounds.max_requests:
            raise RequestError(
                f"{self._running} requests are being answered: ask again in a moment",
                status=503,
                code="overloaded",
                retry_after=1,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that are looked at here. Raises `RequestError` where one is there twice."""
    wanted = (b"host", b"origin", b"authorization")
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in wanted:
            if name.decode() in found:
                raise RequestError(f"the header {name.decode()} is there twice: send it once")
            found[name.decode()] = value.decode("latin-1")
    return found


def _is_this_machine(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        if parts.netloc != host or parts.username is not None:
            return False
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _route(path: str) -> str:
    """A path without what clients make up, for a label."""
    if path in _ROUTES:
        return path
    return next((f"{below}…" for below in _ROUTES_BELOW if path.startswith(below)), "other")
