"""What every way to an upstream over HTTP needs: its base URL, our headers, the proxy, errors for aiohttp's."""

from __future__ import annotations

import errno
import io
import re
import urllib.request
from collections.abc import Iterable, Mapping

import aiohttp
import multidict
import yarl

from outspoken.errors import ProviderError, UsageError

__all__ = [
    "FAILURES",
    "TELLING",
    "checked_base",
    "data_of",
    "error_for",
    "headers_for",
    "proxy_for",
    "secrets_among",
    "under",
]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHORTEST_SECRET = 4
_LARGE_BODY = 2**20

# aiohttp's failures: their kinds, what is told of them, and whether to ask again can help. The first that fits.
FAILURES: tuple[tuple[tuple[type[Exception], ...], str, bool], ...] = (
    (
        (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch),
        "no secure connection to {url}: check the server's certificate ({cause})",
        False,
    ),
    (
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        "the proxy did not let us through to {url}: check HTTP_PROXY, HTTPS_PROXY and NO_PROXY",
        True,
    ),
    (
        (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError),
        "nothing answers at {url}: is the server running?",
        True,
    ),
    ((TimeoutError,), "{url} did not answer in time: raise the timeout if it is only slow", True),
    ((aiohttp.ClientResponseError,), "{url} does not speak HTTP: check the port in the base URL", False),
    (
        (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, aiohttp.RedirectClientError),
        "{url} cannot be used as a base URL",
        False,
    ),
    ((aiohttp.ClientError, OSError), "the connection to {url} broke off", True),
)
# These carry the headers or the whole address of the request.
TELLING = (
    aiohttp.ClientResponseError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.RedirectClientError,
)


def checked_base(text: str) -> yarl.URL:
    """The base URL that `text` names, as in `http://localhost:8000/v1`: what stands before `/chat/completions`.

    Its query is kept. Raises `UsageError` for anything else, and for a URL that holds a user or a password.
    """
    try:
        url = yarl.URL(text.strip())
    except ValueError:
        url = yarl.URL()
    if url.user is not None or url.password is not None:
        raise UsageError("the base URL holds a user or a password: put the key in the environment instead")
    if url.scheme not in ("http", "https") or not url.host or not url.host.isprintable() or " " in url.host:
        raise UsageError("the base URL must look like http://localhost:8000/v1 or https://api.example.com/v1")
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.with_path(path, keep_query=True).with_fragment(None)


def under(base: yarl.URL, path: str) -> yarl.URL:
    """The address of `path` below the base URL, with the base URL's query."""
    return base.with_path(f"{base.path.rstrip('/')}/{path}", keep_query=True)


def headers_for(api_key: str | None, own: Mapping[str, str], key_variable: str) -> multidict.CIMultiDict[str]:
    """The headers of our own requests: JSON, our name, the key where there is one, then `own`.

    `key_variable` is the environment variable that the message names. Raises `UsageError` for a key or a header
    that cannot be sent.
    """
    headers = multidict.CIMultiDict({"Content-Type": "application/json", "User-Agent": "outspoken"})
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in {key_variable} holds characters that no key has: copy it again")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in own.items():
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise UsageError(f"the header {name!r} cannot be sent: use printable ASCII without line breaks")
    headers.update(own)
    return headers


def proxy_for(url: yarl.URL) -> str | None:
    """The proxy that the environment names for `url`.

    aiohttp's own `trust_env` looks it up in a thread for every request, and reads passwords from ~/.netrc.
    """
    host = url.host or ""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(url.scheme)


def secrets_among(texts: Iterable[str]) -> tuple[str, ...]:
    """Those of `texts` that no message may contain: the shortest would be found in any text."""
    return tuple(text for text in texts if len(text) >= _SHORTEST_SECRET)


def data_of(body: bytes | None) -> bytes | io.BytesIO | None:
    """`body` as aiohttp takes it: it warns of large bodies handed over as bytes."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


def error_for(error: aiohttp.ClientError | OSError, url: str) -> ProviderError:
    """Our error for one of aiohttp's, whose own text may carry the request's headers or a proxy's password.

    `url` is what the message names: without credentials or query.
    """
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if getattr(cause, "errno", None) in (errno.EMFILE, errno.ENFILE):
        what, retryable = "too many open files: ask for less at once, or raise `ulimit -n`", False
    else:
        what, retryable = next(row[1:] for row in FAILURES if isinstance(error, row[0]))
    original = None if isinstance(error, TELLING) else cause or error
    return ProviderError(what.format(url=url, cause=cause), retryable=retryable, original=original)
