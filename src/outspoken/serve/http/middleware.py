"""What every request meets first: who asks, from where, and how much at once. What every answer leaves through."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outspoken.errors import (
    LedgerError,
    MissingExtraError,
    MissingKeyError,
    OutspokenError,
    ProviderError,
    StoppedError,
)
from outspoken.serve.http.responses import ClientLeftError, failure
from outspoken.serve.keys import Keys
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai.fields import RequestError

__all__ = ["Middleware", "OneLine", "is_loopback"]

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


class OneLine(logging.Formatter):
    """A log in which what a client sent cannot begin a line of its own, or speak to a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        record.msg, record.args = said, None
        return super().format(record)


class Middleware:
    """An ASGI application before another.

    Without `keys` only this machine may ask: a request must name it as the host (a foreign name that leads here is
    a web page's attempt to reach it), and no page of another origin may ask unless it is one of `origins`.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys | None, origins: Collection[str], bounds: ServerLimits, metrics: Metrics
    ) -> None:
        self._app = app
        self._keys = keys
        self._origins = frozenset(origins)
        self._bounds = bounds
        self._metrics = metrics
        self._running = 0
        metrics.running = lambda: self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._app  # so that starlette raises what is not there
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, who = time.perf_counter(), _LEFT, ""

        async def give(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        try:
            headers = _headers(scope)
            self._check_origin(headers)
            client = self._client(scope["path"], headers)
            self._check_room()
            if client is None:
                await self._app(scope, receive, give)
            else:
                who = f" {client.name}"
                with client.admitted():
                    await self._app(scope, receive, give)
        except ClientLeftError:
            pass
        except asyncio.CancelledError:
            # The server does not wait any longer for requests to end.
            if status == _LEFT:
                stopping = StoppedError("the server stops: ask again later")
                await failure(stopping)(scope, receive, give)
            raise
        except Exception as error:
            if not isinstance(error, OutspokenError | HTTPException):
                _logger.error("a fault in the server itself", exc_info=error)
            elif isinstance(error, ProviderError | LedgerError | MissingKeyError | MissingExtraError):
                _logger.warning("%s %s: %s", scope["method"], scope["path"][:200], error)
            if status == _LEFT:
                answer = failure(_ours(error, scope))
                if isinstance(error, HTTPException):
                    answer.headers.update(error.headers or {})
                await answer(scope, receive, give)
        finally:
            self._running -= 1
            took = time.perf_counter() - began
            self._metrics.answered(_route(scope["path"]), status, took)
            if _logger.isEnabledFor(logging.INFO):
                path = scope["path"][:200]
                _logger.info("%s %s %d %.0f ms%s", scope["method"], path, status, 1000 * took, who)

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if self._keys is None and not _is_this_machine(host):
            raise RequestError(
                "this server has no client keys and answers this machine alone: call it as localhost or 127.0.0.1",
                status=403,
                code="forbidden_host",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
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

    def _check_room(self) -> None:
        if self._running > self._bounds.max_requests:
            raise RequestError(
                f"{self._bounds.max_requests} requests are being answered: ask again in a moment",
                status=503,
                code="overloaded",
                retry_after=1,
            )


def _ours(error: Exception, scope: Scope) -> Exception:
    """What starlette raises for an address that is not there, or takes another method, as an error of ours."""
    if not isinstance(error, HTTPException):
        return error
    path = scope["path"][:200]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return RequestError(f"{path} does not take {scope['method']}: it takes {allowed}", status=405)
    return RequestError(
        f"there is nothing at {path}: here are /v1/chat/completions, /v1/distributions, /v1/models and "
        "/v1/measures, and with --upstream what the upstream has",
        status=error.status_code,
    )


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


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _is_this_machine(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return False
    return parts.netloc == host and parts.username is None and is_loopback(parts.hostname or "")


def _route(path: str) -> str:
    """A path without what clients make up, for a label."""
    if path in _ROUTES:
        return path
    return next((f"{below}…" for below in _ROUTES_BELOW if path.startswith(below)), "other")
