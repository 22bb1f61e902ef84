"""Reads the bodies of requests, and sends responses, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from outspoken.errors import OutspokenError
from outspoken.serve.limits import ServerLimits
from outspoken.serve.openai.errors import RequestError, error_body, error_headers
from outspoken.serve.openai.fields import as_json

__all__ = [
    "ClientLeftError",
    "EventStream",
    "error_response",
    "event",
    "json_response",
    "raw_error",
    "read_body",
    "wait_for_disconnect",
    "while_connected",
]

T = TypeVar("T")
_FailureEvent = Callable[[OutspokenError], bytes]

_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ClientLeftError(Exception):
    """The client closed the connection: nobody receives the response."""


async def read_body(request: Request, limits: ServerLimits) -> bytes:
    """The whole body of a request. Raises `RequestError` if it is too large.

    `TimedProtocol` cuts off clients that are too slow.
    """
    headers = request.scope["headers"]
    announced = next((int(value) for name, value in headers if name == b"content-length"), 0)
    body, more = bytearray(), True
    while True:
        if max(announced, len(body)) > limits.max_body:
            limit = f"{limits.max_body_mb:g} MB"
            message = f"the body is larger than {limit}: send less, or ask the operator for a larger --max-body-mb"
            raise RequestError(message, status=413, code="body_too_large")
        if not more:
            return bytes(body)
        part = await request.receive()
        if part["type"] == "http.disconnect":
            raise ClientLeftError
        body += part.get("body", b"")
        more = part.get("more_body", False)


def json_response(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in JSON."""
    return Response(as_json(payload), status, headers, "application/json")


def error_response(error: Exception) -> Response:
    """An error as a response, in OpenAI's form."""
    status, payload = error_body(error)
    headers = error_headers(error)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return json_response(payload, status, headers)


def raw_error(status: int, message: str) -> bytes:
    """The bytes of a whole response, for input that is not a valid request."""
    _, payload = error_body(RequestError(message, status=status))
    response = json_response(payload, status, {"Connection": "close"})
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*head, b"", bytes(response.body)])


def event(kind: str, payload: object) -> bytes:
    """A named server-sent event."""
    return b"event: " + kind.encode() + b"\ndata: " + as_json(payload) + b"\n\n"


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`; if the client leaves meanwhile, cancel it and raise `ClientLeftError`."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class EventStream(Response):
    """Server-sent events, sent as they are produced, until the client leaves.

    `first` exists already, so a failure before it still gets an HTTP status. A later failure becomes the event
    that `failed` returns.
    """

    media_type = "text/event-stream"

    def __init__(
        self, request: Request, first: bytes, rest: AsyncGenerator[bytes, None], failed: _FailureEvent
    ) -> None:
        super().__init__(headers=_STREAM)
        del self.headers["content-length"]
        self._request, self._first, self._rest, self._failed = request, first, rest, failed

    @classmethod
    async def start(
        cls, request: Request, events: AsyncGenerator[bytes, None], failed: _FailureEvent
    ) -> EventStream:
        """Wait for the first event. Raises the error that prevented it."""
        try:
            return cls(request, await while_connected(request, anext(events)), events, failed)
        except BaseException:
            await events.aclose()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientLeftError):
                await while_connected(self._request, self._send(send))
        finally:
            await self._rest.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        last = b""
        try:
            async for part in self._rest:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except OutspokenError as error:
            last = self._failed(error)
        await send({"type": "http.response.body", "body": last})
