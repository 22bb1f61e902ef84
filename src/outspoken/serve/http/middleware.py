"""The rules for every request (host, origin, key, limits); errors, metrics and the log of every response."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
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
from outspoken.serve.http.responses import ClientLeftError, error_response
from outspoken.serve.keys import Client, Keys
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai.errors import RequestError
from outspoken.serve.routes.address import Address, AddressTable

__all__ = ["Middleware", "OneLineFormatter", "is_loopback"]

_CLIENT_LEFT = 499
_HEADERS = frozenset({b"host", b"origin", b"authorization"})
_logger = logging.getLogger("outspoken.serve")


class OneLineFormatter(logging.Formatter):
    """A log format in which text of clients cannot begin a line or control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        record.msg, record.args = line, None
        return super().format(record)


@dataclass(eq=False)
class Middleware:
    """An ASGI application in front of another.

    Without `keys` only this machine may call it, with a loopback address as the host: a request with another host
    may come from a web page (DNS rebinding). Pages of other origins than `origins` may not call it.
    """

    app: ASGIApp
    _: KW_ONLY
    addresses: AddressTable
    keys: Keys | None
    origins: Collection[str]
    limits: ServerLimits
    metrics: Metrics

    def __post_init__(self) -> None:
        self._running = 0
        self.metrics.running = lambda: self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.app  # makes starlette raise exceptions for unknown addresses and methods
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, client_name = time.perf_counter(), _CLIENT_LEFT, ""

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"]
        address = self.addresses.find(path)
        self._running += 1
        try:
            headers = _headers(scope)
            self._check_origin(headers)
            client = self._client(address, headers)
            if self._running > self.limits.max_requests:
                message = f"{self.limits.max_requests} requests are being answered: try again in a moment"
                raise RequestError(message, status=503, code="overloaded", retry_after=1)
            if client is None:
                await self.app(scope, receive, send_counted)
            else:
                client_name = f" {client.name}"
                with client.admitted():
                    await self.app(scope, receive, send_counted)
        except ClientLeftError:
            pass
        except asyncio.CancelledError:
            # The server stops, and has waited long enough for this request.
            if status == _CLIENT_LEFT:
                stopping = StoppedError("the server stops: ask again later")
                await error_response(stopping)(scope, receive, send_counted)
            raise
        except Exception as error:
            if not isinstance(error, OutspokenError | HTTPException):
                _logger.error("a fault in the server itself", exc_info=error)
            elif isinstance(error, ProviderError | LedgerError | MissingKeyError | MissingExtraError):
                _logger.warning("%s %s: %s", scope["method"], path[:200], error)
            if status == _CLIENT_LEFT:
                response = error_response(self._translated(error, scope))
                if isinstance(error, HTTPException):
                    response.headers.update(error.headers or {})
                await response(scope, receive, send_counted)
        finally:
            self._running -= 1
            seconds = time.perf_counter() - started
            self.metrics.count_request("other" if address is None else address.label, status, seconds)
            milliseconds = 1000 * seconds
            _logger.info("%s %s %s %.0f ms%s", scope["method"], path[:200], status, milliseconds, client_name)

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if self.keys is None and not _is_this_machine(host):
            reason = "this server has no client keys and answers this machine alone"
            remedy = "call it as localhost or 127.0.0.1"
            raise RequestError(f"{reason}: {remedy}", status=403, code="forbidden_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and origin.partition("://")[2] != host:
            reason = "pages of other origins may not call this server"
            remedy = "its operator can allow one with --allow-origin"
            raise RequestError(f"{reason}: {remedy}", status=403, code="forbidden_origin")

    def _client(self, address: Address | None, headers: Mapping[str, str]) -> Client | None:
        """The client of a request; None if it needs no key."""
        if self.keys is None or (address is not None and address.open):
            return None
        client = self.keys.check(headers.get("authorization"))
        if client is None:
            message = "this server needs a client key: send it as Authorization: Bearer KEY"
            raise RequestError(message, status=401, code="invalid_api_key")
        return client

    def _translated(self, error: Exception, scope: Scope) -> Exception:
        """starlette's exception for an unknown address or method as a `RequestError`; others unchanged."""
        if not isinstance(error, HTTPException):
            return error
        path, known = scope["path"][:200], ", ".join(self.addresses.paths)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return RequestError(f"{path} does not accept {scope['method']}: it accepts {allowed}", status=405)
        message = f"nothing exists at {path}: the addresses are {known}, and with --upstream those of the upstream"
        return RequestError(message, status=error.status_code)


def _headers(scope: Scope) -> dict[str, str]:
    """The headers that are checked here. Raises `RequestError` if one is repeated."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        if raw in _HEADERS:
            name = raw.decode()
            if name in headers:
                raise RequestError(f"the header {name} is sent twice: send it once")
            headers[name] = value.decode("latin-1")
    return headers


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
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
