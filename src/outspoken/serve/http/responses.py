"""Bodies in and answers out, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from outspoken.serve.limits import ServerLimits
from outspoken.serve.openai.chat_response import as_json, error_body, error_headers
from outspoken.serve.openai.fields import RequestError

__all__ = ["ClientLeftError", "Events", "body_of", "event", "failure", "json_answer", "refusal", "while_there"]

T = TypeVar("T")

_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ClientLeftError(Exception):
    """The client hung up, or takes nothing any more: there is nobody to answer."""


async def body_of(request: Request, bounds: ServerLimits) -> bytes:
    """The whole body of a request. Raises `RequestError` where it is too large; a slow one the server ends."""
    for name, value in request.scope["headers"]:
        if name == b"content-length" and int(value) > bounds.max_body:
            raise _too_large(bounds)
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        size += len(part := message.get("body", b""))
        if size > bounds.max_body:
            raise _too_large(bounds)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(bounds: ServerLimits) -> RequestError:
    return RequestError(
        f"the body is larger than {bounds.max_body_mb:g} MB: send less, or ask the operator for --max-body-mb",
        status=413,
        code="body_too_large",
    )


def json_answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON. What no UTF-8 has is written as a question mark."""
    return Response(as_json(payload), status, headers, "application/json")


def failure(error: Exception) -> Response:
    """An error as the answer, in OpenAI's form."""
    status, payload = error_body(error)
    headers = error_headers(error)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return json_answer(payload, status, headers)


def refusal(status: int, why: str) -> bytes:
    """The whole response, as bytes, to what could not be read as a request."""
    _, payload = error_body(RequestError(why, status=status))
    answer = json_answer(payload, status, {"Connection": "close"})
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    head += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*head, b"", bytes(answer.body)])


def event(kind: str, payload: Any) -> bytes:
    """A named server-sent event."""
    return b"event: " + kind.encode() + b"\ndata: " + as_json(payload) + b"\n\n"


async def while_there(request: Request, awaited: Awaitable[T]) -> T:
    """Await something for as long as the client waits for it. Raises `ClientLeftError` when it has gone; what was
    awaited is cancelled then."""
    working = asyncio.ensure_future(awaited)
    leaving = asyncio.create_task(_left(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class Events(Response):
    """Server-sent events as they come, for as long as the client takes them. `first` has come already, so that
    what fails before it is told with its status."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=_STREAM)
        del self.headers["content-length"]
        self._request, self._first, self._rest = request, first, rest

    @classmethod
    async def begun(cls, request: Request, events: AsyncGenerator[bytes, None]) -> Events:
        """Wait for the first event. Raises what kept it from coming."""
        try:
            return cls(request, await while_there(request, anext(events)), events)
        except BaseException:
            await events.aclose()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientLeftError):
                await while_there(self._request, self._give(send))
        finally:
            await self._rest.aclose()

    async def _give(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for part in self._rest:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
