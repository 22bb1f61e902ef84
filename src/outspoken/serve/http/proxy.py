"""Forwards requests that are not verbalized to the upstream, and its responses to the client, byte for byte.

An allow-list for each direction decides which headers pass. The client's key stays here, and the upstream's key
goes to the upstream alone. A failure before the response begins becomes an error in OpenAI's form.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from urllib.parse import unquote

import aiohttp
import jiter
import multidict
import yarl
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from outspoken.errors import OutspokenError, ProviderError, UsageError
from outspoken.models.http import (
    body_of,
    checked_base,
    data_of,
    error_for,
    headers_for,
    proxy_for,
    secrets_among,
    watched,
)
from outspoken.models.openai_errors import ErrorContext, masked
from outspoken.serve.http.responses import error_response, wait_for_disconnect
from outspoken.serve.openai.chat_response import error_event
from outspoken.serve.openai.errors import RequestError

__all__ = ["Proxy"]

PREFIX = "/v1"
_FORWARDED = frozenset(
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
_RETURNED_PREFIX = "x-ratelimit-"
# An upstream's response is data: opened in a browser, it runs no script under this server's address.
_INERT = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"default-src 'none'; sandbox"))
_STREAM_REQUESTED = re.compile(rb'"stream"\s*:\s*true')
_LARGEST_ERROR = 2**18
_NOT_FOUND = frozenset({404, 405, 501})
# Model servers close idle connections after five seconds, and a POST sent at that moment is lost.
_KEEP_IDLE_SECONDS = 3.0
_SECONDS_UNWATCHED = 0.05
_SECONDS_TO_CONNECT = 10.0
_SECONDS_IN_ALL = 3600.0
_logger = logging.getLogger(__name__)


class Proxy:
    """Forwards requests to one upstream; belongs to one event loop.

    `base_url` replaces `/v1` of this server. `key_variable` is the environment variable that holds `api_key`.
    `idle_seconds` limits each wait for the upstream's next bytes; a request may take an hour in all. Raises
    `UsageError` for an invalid base URL or key.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        key_variable: str = "OUTSPOKEN_API_KEY",
        idle_seconds: float = 600.0,
    ) -> None:
        if not idle_seconds > 0:
            raise UsageError("the time limits of the upstream must be above 0 seconds")
        base = checked_base(base_url)
        self._root = str(base.with_query(None)).rstrip("/")
        self._query = base.raw_query_string
        self._proxy = proxy_for(base)
        self._added = multidict.CIMultiDict({"Accept-Encoding": "identity"})
        if key := headers_for(api_key, {}, key_variable).get("Authorization"):
            self._added["Authorization"] = key
        self._secrets = secrets_among([(api_key or "").strip(), base.query_string, *base.query.values()])
        self._peer = ErrorContext(str(base.with_query(None)), key_variable, self._secrets)
        self._timeout = aiohttp.ClientTimeout(
            total=_SECONDS_IN_ALL, sock_connect=_SECONDS_TO_CONNECT, sock_read=idle_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def response(self, request: Request, body: bytes) -> Response:
        """A response that forwards `request` with its whole `body` when it is sent.

        Raises `RequestError` for an address outside `/v1/`.
        """
        return _ForwardingResponse(self, request.method, self._target(request), self._headers(request), body)

    async def aclose(self) -> None:
        """Close the connections to the upstream: running requests break off, new ones are refused."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _target(self, request: Request) -> yarl.URL:
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        query: bytes = request.scope["query_string"]
        path, own_query = raw.decode("latin-1"), query.decode("latin-1")
        rest = path.removeprefix(PREFIX)
        if not path.startswith(f"{PREFIX}/") or not _stays_below(rest) or not _is_printable(path + own_query):
            raise RequestError("nothing exists at this address: it must begin with /v1/", status=404)
        queries = "&".join(part for part in (self._query, own_query) if part)
        return yarl.URL(f"{self._root}{rest}" + (f"?{queries}" if queries else ""), encoded=True)

    def _headers(self, request: Request) -> multidict.CIMultiDict[str]:
        excluded = _connection_headers(request.headers.getlist("connection"))
        headers = multidict.CIMultiDict(
            (name, value) for name, value in request.headers.items() if name in _FORWARDED and name not in excluded
        )
        headers.update(self._added)
        return headers

    async def forward(self, request: _ForwardingResponse, send: Send) -> None:
        """Send a request to the upstream, and its response to the client. Raises the error to respond with."""
        response = await self._request(request)
        try:
            await self._return_response(response, await self._error_body(response), send)
        finally:
            response.close()

    async def _request(self, request: _ForwardingResponse) -> aiohttp.ClientResponse:
        if self._closed:
            raise ProviderError("the server is closing: try again soon", status=503)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            )
        if _STREAM_REQUESTED.search(request.content):
            # Some servers close the connection after a stream without announcing it.
            request.forwarded["Connection"] = "close"
        url, data = request.url, data_of(request.content or None)
        try:
            return await self._session.request(
                request.method, url, data=data, headers=request.forwarded, proxy=self._proxy, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            raise error_for(error, self._peer.url) from None

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of an error that the client may see unchanged; b"" for a response that succeeded.

        The client may see an error in OpenAI's form without a secret, unless it is about this server's key. Raises
        the error to respond with instead.
        """
        status = response.status
        succeeded = 200 <= status < 300
        if succeeded and response.content_type not in ("text/html", "application/xhtml+xml"):
            return b""
        try:
            body, whole = await body_of(response, _LARGEST_ERROR)
        except (aiohttp.ClientError, OSError) as error:
            raise error_for(error, self._peer.url) from None
        if succeeded:
            raise self._peer.foreign(body)
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if encoded or not whole:
            raise self._peer.http_error(status, response.headers, b"{}")
        if status in _NOT_FOUND and not self._may_pass(body):
            message = "the upstream has nothing at this address, or does not accept this method"
            raise RequestError(message, status=status)
        if status < 400 or status in (401, 403) or not self._may_pass(body):
            raise self._peer.http_error(status, response.headers, body)
        return body

    def _may_pass(self, body: bytes) -> bool:
        """Whether an error has OpenAI's form and contains no secret, escaped or not."""
        try:
            payload = jiter.from_json(body)
        except ValueError:
            return False
        if not isinstance(payload, dict) or not isinstance(payload.get("error"), dict):
            return False
        texts = (body.decode("utf-8", "replace"), json.dumps(payload, ensure_ascii=False))
        return all(masked(text, self._secrets) == text for text in texts)

    async def _return_response(self, response: aiohttp.ClientResponse, body: bytes, send: Send) -> None:
        headers = [*self._returned_headers(response), *_INERT]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if body:
            await send({"type": "http.response.body", "body": body})
            return
        tail, content = b"\n\n", response.content
        try:
            with watched(response):
                while chunk := await content.readany():
                    tail = (tail + chunk[-4:])[-4:]
                    more = not content.at_eof()
                    await send({"type": "http.response.body", "body": chunk, "more_body": more})
                    if not more:
                        return
        except (aiohttp.ClientError, OSError) as error:
            if response.content_type != "text/event-stream" or not tail.endswith((b"\n\n", b"\r\n\r\n")):
                return  # the server closes the connection, which tells the client that the response is incomplete
            chunk = error_event(error_for(error, self._peer.url))
        await send({"type": "http.response.body", "body": chunk})

    def _returned_headers(self, response: aiohttp.ClientResponse) -> Iterable[tuple[bytes, bytes]]:
        excluded = _connection_headers(response.headers.getall("Connection", []))
        for raw, value in response.raw_headers:
            name = raw.decode("latin-1").lower()
            if (
                (name in _RETURNED or name.startswith(_RETURNED_PREFIX))
                and name not in excluded
                and masked(text := value.decode("latin-1"), self._secrets) == text
            ):
                yield name.encode("latin-1"), value


class _ForwardingResponse(Response):
    """Sends the request to the upstream when it is sent itself, and cancels it when the client leaves.

    The upstream receives the headers `forwarded` and the body `content`.
    """

    def __init__(
        self, proxy: Proxy, method: str, url: yarl.URL, forwarded: multidict.CIMultiDict[str], content: bytes
    ) -> None:
        super().__init__()
        self._proxy = proxy
        self.method, self.url, self.forwarded, self.content = method, url, forwarded, content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, watching = asyncio.get_running_loop(), None

        def watch() -> None:
            nonlocal watching
            watching = loop.create_task(_expire_on_disconnect(receive, timeout))

        # Most responses are complete before it is worth watching for a disconnect.
        start = loop.call_later(_SECONDS_UNWATCHED, watch)
        try:
            async with asyncio.timeout(None) as timeout:
                try:
                    await self._proxy.forward(self, send)
                except OutspokenError as error:
                    _logger.warning("a forwarded request failed: %s", error)
                    await error_response(error)(scope, receive, send)
        except TimeoutError:
            return
        finally:
            start.cancel()
            if watching is not None:
                watching.cancel()


async def _expire_on_disconnect(receive: Receive, timeout: asyncio.Timeout) -> None:
    await wait_for_disconnect(receive)
    timeout.reschedule(asyncio.get_running_loop().time())


def _connection_headers(connection: Iterable[str]) -> frozenset[str]:
    """The headers that a Connection header names: they are not forwarded."""
    return frozenset(name.strip().lower() for value in connection for name in value.split(","))


def _stays_below(path: str) -> bool:
    """Whether a path stays in its folder, even if servers decode it several times."""
    for _ in range(4):
        if "\\" in path or any(part in (".", "..") for part in path.split("/")):
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "#" not in text
