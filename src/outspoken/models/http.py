"""Shared parts of HTTP clients: URLs, headers, proxies, sessions, bodies, and our errors for those of aiohttp."""

from __future__ import annotations

import asyncio
import errno
import io
import re
import urllib.request
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Generic, TypeAlias, TypeVar

import aiohttp
import multidict
import yarl

from outspoken.errors import ProviderError, UsageError

__all__ = [
    "FAILURES",
    "LARGEST_BODY",
    "REVEALING",
    "PerLoop",
    "body_of",
    "checked_base",
    "data_of",
    "error_for",
    "headers_for",
    "proxy_for",
    "secrets_among",
    "url_below",
    "watched",
]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MIN_SECRET_LENGTH = 4
_LARGE_BODY = 2**20
LARGEST_BODY = 2**26
"""The bytes that a reply may have, unpacked."""
_LOOK_SECONDS = 0.5

_BAD_URL = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, aiohttp.RedirectClientError)
# aiohttp's errors: their types, our message, and whether a retry can help. The first match counts.
FAILURES: tuple[tuple[tuple[type[Exception], ...], str, bool], ...] = (
    (
        (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch),
        "no secure connection to {url}: check the server's certificate ({cause})",
        False,
    ),
    (
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        "the proxy refused the connection to {url}: check HTTP_PROXY, HTTPS_PROXY and NO_PROXY",
        True,
    ),
    (
        (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError),
        "nothing answers at {url}: is the server running?",
        True,
    ),
    ((TimeoutError,), "{url} did not answer in time: raise the timeout if it is only slow", True),
    # A response without a sound status line, headers or length: of another protocol, or damaged on its way.
    (
        (aiohttp.ClientResponseError,),
        "what {url} sent is not HTTP, or is damaged: check the port in the base URL, or try again",
        True,
    ),
    ((aiohttp.ClientPayloadError,), "the answer of {url} broke off or is damaged: try again", True),
    (_BAD_URL, "{url} cannot be used as a base URL: write it as in http://localhost:8000/v1", False),
    ((aiohttp.ClientError, OSError), "the connection to {url} broke off: try again", True),
)
# The text of these errors contains the headers or the whole address of the request.
REVEALING = (aiohttp.ClientResponseError, *_BAD_URL)


def checked_base(text: str) -> yarl.URL:
    """The base URL in `text`, such as `http://localhost:8000/v1`: the part before `/chat/completions`.

    A query is kept. Raises `UsageError` for anything else, and for a URL with a user name or a password.
    """
    try:
        url = yarl.URL(text.strip())
    except ValueError:
        url = yarl.URL()
    if url.user is not None or url.password is not None:
        raise UsageError("the base URL holds a user or a password: put the key into the environment instead")
    if url.scheme not in ("http", "https") or not url.host or not url.host.isprintable() or " " in url.host:
        raise UsageError("the base URL must look like http://localhost:8000/v1 or https://api.example.com/v1")
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.with_path(path, keep_query=True).with_fragment(None)


@lru_cache(maxsize=256)
def url_below(base: yarl.URL, path: str) -> yarl.URL:
    """The URL of `path` below the base URL, with the base URL's query."""
    return base.with_path(f"{base.path.rstrip('/')}/{path}", keep_query=True)


def headers_for(api_key: str | None, extra: Mapping[str, str], key_variable: str) -> multidict.CIMultiDict[str]:
    """The headers of our requests: JSON, our name, the key if there is one, then the `extra` headers.

    Messages name the environment variable `key_variable`. Raises `UsageError` for a key or a header that cannot be
    sent.
    """
    headers = multidict.CIMultiDict({"Content-Type": "application/json", "User-Agent": "outspoken"})
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in {key_variable} contains characters that are not allowed: copy it again")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in extra.items():
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise UsageError(f"the header {name!r} cannot be sent: use printable ASCII without line breaks")
    headers.update(extra)
    return headers


def proxy_for(url: yarl.URL) -> str | None:
    """The proxy for `url` according to the environment.

    aiohttp's `trust_env` looks it up in a thread for every request, and reads passwords from ~/.netrc.
    """
    host = url.host or ""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(url.scheme)


def secrets_among(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that no message may contain; very short ones, which occur in any text, are left out."""
    return tuple(text for text in texts if len(text) >= _MIN_SECRET_LENGTH)


def data_of(body: bytes | None) -> bytes | io.BytesIO | None:
    """`body` in a form for aiohttp, which warns about large bodies of type bytes."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


async def body_of(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The body, unpacked, and True; or only its beginning and False if it has more than `most` bytes.

    Raises aiohttp's errors.
    """
    content = response.content
    with watched(response):
        first = await content.readany()
        parts, size = [first], len(first)
        while size <= most and not content.at_eof():
            parts.append(await content.readany())
            size += len(parts[-1])
    return (b"".join(parts), True) if size <= most else (first[:most], False)


@contextmanager
def watched(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Within the block, reading the body fails soon after a part of it turned out to be damaged.

    aiohttp closes the connection at a damaged chunk, and lets the reader of the body wait for its timeout.
    """
    content, connection = response.content, response.connection
    protocol = None if connection is None else connection.protocol
    if protocol is None:  # all of the body has arrived
        yield
        return
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if protocol.exception() is None:
            timer = loop.call_later(_LOOK_SECONDS, look)
        elif not content.is_eof():
            content.set_exception(aiohttp.ClientPayloadError("the body is damaged"))

    timer = loop.call_later(_LOOK_SECONDS, look)
    try:
        yield
    finally:
        timer.cancel()


def error_for(error: aiohttp.ClientError | OSError, url: str) -> ProviderError:
    """Our error for one of aiohttp's, whose text may contain the request's headers or a proxy's password.

    The message names `url`, which has no credentials and no query.
    """
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if getattr(cause, "errno", None) in (errno.EMFILE, errno.ENFILE):
        message, retryable = "too many open files: lower the concurrency, or raise `ulimit -n`", True
    else:
        message, retryable = next(row[1:] for row in FAILURES if isinstance(error, row[0]))
    original = None if isinstance(error, REVEALING) else cause or error
    return ProviderError(message.format(url=url, cause=cause), retryable=retryable, original=original)


T = TypeVar("T")
Close: TypeAlias = Callable[[T], Coroutine[Any, Any, None]]
Resources: TypeAlias = dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None]]]


class PerLoop(Generic[T]):
    """Creates a `T` for each event loop that needs one, and closes it when the loop ends or the owner is deleted.

    A model is not notified when a loop ends (`asyncio.run`, a notebook, a background thread). An open asynchronous
    generator is: its loop closes it on shutting down, or when nothing refers to it any more.
    """

    def __init__(self, create: Callable[[], T], close: Close[T]) -> None:
        self._create = create
        self._close = close
        self._resources: Resources[T] = {}
        weakref.finalize(self, _release, self._resources, close)

    async def get(self) -> T:
        """The resource of the running loop."""
        loop = asyncio.get_running_loop()
        if known := self._resources.get(loop):
            return known[0]
        _release({old: self._resources.pop(old) for old in list(self._resources) if old.is_closed()}, self._close)
        resource = self._create()
        lifetime = _lifetime(self._resources, loop, resource, self._close)
        self._resources[loop] = resource, lifetime
        await anext(lifetime)
        return resource

    async def aclose(self) -> None:
        """Close all resources, each in its own loop; waits for that of the running loop."""
        current = self._resources.pop(asyncio.get_running_loop(), None)
        _release(self._resources, self._close)
        if current is not None:
            await current[1].aclose()


async def _lifetime(
    resources: Resources[T], loop: asyncio.AbstractEventLoop, resource: T, close: Close[T]
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        resources.pop(loop, None)
        await close(resource)


def _release(resources: Resources[T], close: Close[T]) -> None:
    while resources:
        loop, (resource, _) = resources.popitem()
        if loop.is_closed():
            # Its loop is gone: run the coroutine up to its first wait, which frees the resource.
            closing = close(resource)
            with suppress(StopIteration, RuntimeError):
                closing.send(None)
            closing.close()
