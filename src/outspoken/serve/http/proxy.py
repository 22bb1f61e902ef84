"""Requests for models that are not verbalized: to the upstream and back, byte for byte.

What may pass in either direction is an allow-list. The client's key stays here and the upstream's key goes to the
upstream alone. A failure reaches the client as an error in OpenAI's form, as long as nothing of an answer has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

import aiohttp
import jiter
import multidict
import yarl
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from outspoken.errors import OutspokenError, ProviderError, UsageError
from outspoken.models.http import checked_base, data_of, error_for, headers_for, proxy_for, secrets_among
from outspoken.models.openai_errors import ErrorContext
from outspoken.serve.http.responses import json_answer
from outspoken.serve.openai.chat_response import error_body, error_event, error_headers
from outspoken.serve.openai.fields import RequestError

__all__ = ["Proxy"]

PREFIX = "/v1"
_SENT = frozenset(
    {
        *("accept", "accept-language", "content-encoding", "content-type", "idempotency-key", "openai-beta"),
        *("traceparent", "tracestate", "user-agent", "x-request-id"),
    }
)
_RETURNED = frozenset(
    {
        *("cache-control", "content-disposition", "content-encoding", "content-language", "content-length"),
        *("content-type", "openai-model", "openai-processing-ms", "openai-version", "retry-after"),
        *("retry-after-ms", "x-request-id", "x-should-retry"),
    }
)
_RETURNED_TOO = "x-ratelimit-"
# An upstream's answer is data: opened in a browser it runs nothing under our own address.
_INERT = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"default-src 'none'; sandbox"))
_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')
_LARGEST_ERROR = 2**18
_NOT_THERE = frozenset({404, 405, 501})
# Servers of models hang up idle connections after five seconds, and a POST that meets that is lost.
_KEEP_IDLE_SECONDS = 3.0
_UNWATCHED_SECONDS = 0.05
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the upstream is sent."""

    method: str
    url: yarl.URL
    headers: multidict.CIMultiDict[str]
    body: bytes


class Proxy:
    """The way to one upstream; belongs to one event loop.

    `base_url` stands in for `/v1` of this server. `key_variable` is the environment variable that holds `api_key`.
    `idle_seconds` bounds each wait for the upstream's next bytes, `total_seconds` a whole exchange. Raises
    `UsageError` for a base URL or a key that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        key_variable: str = "OUTSPOKEN_API_KEY",
        connect_seconds: float = 10.0,
        idle_seconds: float = 600.0,
        total_seconds: float = 3600.0,
    ) -> None:
        if not min(connect_seconds, idle_seconds, total_seconds) > 0:
            raise UsageError("the time limits of the upstream must be above 0 seconds")
        base = checked_base(base_url)
        self._root = str(base.with_query(None)).rstrip("/")
        self._query = base.raw_query_string
        self._proxy = proxy_for(base)
        self._own = multidict.CIMultiDict({"Accept-Encoding": "identity"})
        if key := headers_for(api_key, {}, key_variable).get("Authorization"):
            self._own["Authorization"] = key
        self._secrets = secrets_among([(api_key or "").strip(), base.query_string, *base.query.values()])
        self._peer = ErrorContext(str(base.with_query(None)), key_variable, self._secrets)
        self._timeout = aiohttp.ClientTimeout(
            total=total_seconds, sock_connect=connect_seconds, sock_read=idle_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def response(self, request: Request, body: bytes) -> Response:
        """The response that forwards `request`, whose whole body is `body`, when it is sent.

        Raises `RequestError` for an address that has no counterpart at the upstream.
        """
        return _Forwarded(self, _Ask(request.method, self._target(request), self._sent(request), body))

    async def aclose(self) -> None:
        """Close the connections to the upstream: exchanges that go on break off, new ones are refused."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _target(self, request: Request) -> yarl.URL:
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        query: bytes = request.scope["query_string"]
        path, asked = raw.decode("latin-1"), query.decode("latin-1")
        rest = path.removeprefix(PREFIX)
        if not path.startswith(f"{PREFIX}/") or not _is_plain(rest) or not _is_line(path + asked):
            raise RequestError("there is nothing at this address: it must begin with /v1/", status=404)
        queries = "&".join(part for part in (self._query, asked) if part)
        return yarl.URL(f"{self._root}{rest}" + (f"?{queries}" if queries else ""), encoded=True)

    def _sent(self, request: Request) -> multidict.CIMultiDict[str]:
        named = _named(request.headers.getlist("connection"))
        headers = multidict.CIMultiDict(
            (name, value) for name, value in request.headers.items() if name in _SENT and name not in named
        )
        headers.update(self._own)
        return headers

    async def forward(self, ask: _Ask, send: Send) -> None:
        """Ask the upstream and hand on what it answers."""
        try:
            response = await self._asked(ask)
        except OutspokenError as error:
            await self._tell(error, send)
            return
        try:
            failure, said = await self._read_failure(response)
            if failure is not None:
                await self._tell(failure, send)
            else:
                await self._hand_on(response, said, send)
        finally:
            response.close()

    async def _asked(self, ask: _Ask) -> aiohttp.ClientResponse:
        if self._closed:
            raise ProviderError("the server is closing: ask again soon", status=503)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            )
        if _ASKS_FOR_STREAM.search(ask.body):
            # Some servers hang up behind a stream without having said so.
            ask.headers["Connection"] = "close"
        data = data_of(ask.body or None)
        try:
            return await self._session.request(
                ask.method, ask.url, data=data, headers=ask.headers, proxy=self._proxy, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            raise error_for(error, self._peer.url) from None

    async def _read_failure(self, response: aiohttp.ClientResponse) -> tuple[OutspokenError | None, bytes]:
        """The error to answer with, if any, and what has been read of the body.

        Sound answers are not read here. An upstream's own error passes as it is, if it is in OpenAI's form, does
        not blame the client for our key, and holds nothing secret.
        """
        status = response.status
        page = response.content_type in ("text/html", "application/xhtml+xml")
        if 200 <= status < 300 and not page:
            return None, b""
        said = b""
        try:
            while len(said) <= _LARGEST_ERROR and (part := await response.content.readany()):
                said += part
        except (aiohttp.ClientError, OSError) as error:
            return error_for(error, self._peer.url), b""
        if 200 <= status < 300:
            return self._peer.foreign(said[:_LARGEST_ERROR]), b""
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if encoded or len(said) > _LARGEST_ERROR:
            return self._peer.http_error(status, response.headers, b"{}"), b""
        if status in _NOT_THERE and not self._may_pass(said):
            why = "the upstream has nothing at this address, or does not take this method there"
            return RequestError(why, status=status), b""
        if status < 400 or status in (401, 403) or not self._may_pass(said):
            return self._peer.http_error(status, response.headers, said), b""
        return None, said

    def _may_pass(self, said: bytes) -> bool:
        """Whether an error is in OpenAI's form and holds nothing secret, escaped or not."""
        try:
            payload = jiter.from_json(said)
        except ValueError:
            return False
        if not isinstance(payload, dict) or not isinstance(payload.get("error"), dict):
            return False
        texts = (said.decode("utf-8", "replace"), json.dumps(payload, ensure_ascii=False))
        return not any(secret in text for secret in self._secrets for text in texts)

    async def _hand_on(self, response: aiohttp.ClientResponse, said: bytes, send: Send) -> None:
        headers = [*self._returned(response), *_INERT]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if said:
            await send({"type": "http.response.body", "body": said})
            return
        tail, content = b"\n\n", response.content
        try:
            while chunk := await content.readany():
                tail = (tail + chunk[-4:])[-4:]
                more = not content.at_eof()
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
                if not more:
                    return
        except (aiohttp.ClientError, OSError) as error:
            if response.content_type != "text/event-stream" or not tail.endswith((b"\n\n", b"\r\n\r\n")):
                return  # unfinished: the server closes the connection, and the client sees that some is missing
            chunk = error_event(error_for(error, self._peer.url))
        await send({"type": "http.response.body", "body": chunk})

    def _returned(self, response: aiohttp.ClientResponse) -> Iterable[tuple[bytes, bytes]]:
        named = _named(response.headers.getall("Connection", []))
        for name, value in response.raw_headers:
            shown = name.decode("latin-1").lower()
            if (
                (shown in _RETURNED or shown.startswith(_RETURNED_TOO))
                and shown not in named
                and not any(secret.encode() in value for secret in self._secrets)
            ):
                yield shown.encode("latin-1"), value

    async def _tell(self, error: OutspokenError, send: Send) -> None:
        _logger.warning("a request that was passed on: %s", error)
        status, payload = error_body(error)
        told = json_answer(payload, status, error_headers(error))
        await send({"type": "http.response.start", "status": status, "headers": told.raw_headers})
        await send({"type": "http.response.body", "body": told.body})


class _Forwarded(Response):
    """The upstream's answer, asked for when it is sent, and no longer than the client waits for it."""

    def __init__(self, way: Proxy, ask: _Ask) -> None:
        super().__init__()
        self._way = way
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, watching = asyncio.get_running_loop(), None

        def watch() -> None:
            nonlocal watching
            watching = loop.create_task(_left(receive, staying))

        # Most quick answers are gone before anything is worth watching.
        start = loop.call_later(_UNWATCHED_SECONDS, watch)
        try:
            async with asyncio.timeout(None) as staying:
                await self._way.forward(self._ask, send)
        except TimeoutError:
            return
        finally:
            start.cancel()
            if watching is not None:
                watching.cancel()


async def _left(receive: Receive, staying: asyncio.Timeout) -> None:
    """Ends `staying` when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    staying.reschedule(asyncio.get_running_loop().time())


def _named(connection: Iterable[str]) -> frozenset[str]:
    """The headers that a Connection header declares to be of this connection alone."""
    return frozenset(name.strip().lower() for value in connection for name in value.split(","))


def _is_plain(path: str) -> bool:
    """Whether a path stays below where it begins, however often it is decoded on its way."""
    for _ in range(4):
        if "\\" in path or any(part in (".", "..") for part in path.split("/")):
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False


def _is_line(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "#" not in text
