"""Models behind any server that speaks OpenAI's chat completions or embeddings, over aiohttp."""

from __future__ import annotations

import errno
import io
import re
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import multidict
import yarl

from outspoken.chat import ChatReply, ChatRequest
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models._echo import echo_body, read_echo
from outspoken.models._offers import offering
from outspoken.models._per_loop import PerLoop
from outspoken.models.base import Capabilities, Embeddings, Model, Score, check_texts
from outspoken.models.openai_errors import Peer
from outspoken.models.openai_wire import (
    EventReader,
    StreamedReply,
    chat_body,
    decode,
    embedding_body,
    encode,
    model_names,
    optional,
    read_embeddings,
    read_reply,
)

__all__ = ["OpenAICompatible"]

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHORTEST_SECRET = 4
_LARGE_BODY = 2**20
_TEXTS_A_REQUEST = 128
_REFUSES_THIS = (400, 413, 422)

_FAILURES: tuple[tuple[tuple[type[Exception], ...], str, bool], ...] = (
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
_TELLING = (
    aiohttp.ClientResponseError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.RedirectClientError,
)


class OpenAICompatible(Model):
    """One model of a server that speaks OpenAI's chat completions, embeddings, or both.

    `base_url` is what stands before `/chat/completions`. An empty `model` means the only one that the server
    offers. `api_key` is sent to this server alone and appears in no message; `key_variable` is the environment
    variable that messages tell the reader to check. `timeout` bounds a whole exchange, in seconds. Proxies come
    from the usual environment variables (`HTTPS_PROXY`, `NO_PROXY`, …). Raises `UsageError` for a base URL, a key
    or a header that cannot be used.
    """

    capabilities = Capabilities(schema=True, seed=True, extra=True, stream=True, score=True, embed=True)

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        name: str | None = None,
        max_tokens_field: str = "max_tokens",
        timeout: float = 600.0,
        headers: Mapping[str, str] | None = None,
        key_variable: str = "OUTSPOKEN_API_KEY",
    ) -> None:
        if timeout <= 0:
            raise UsageError(f"timeout must be above 0 seconds, not {timeout:g}")
        base = _base(base_url)
        self._base = base
        self._shown = str(base.with_query(None))
        self._url = _under(base, "chat/completions")
        self._model = model
        self._named = bool(model)
        self.name = name or (f"{self._shown}#{model}" if model else self._shown)
        self._max_tokens_field = max_tokens_field
        self._timeout = timeout
        self._headers = _headers(api_key, headers or {}, key_variable)
        self._proxy = _proxy(base)
        secrets = [(api_key or "").strip(), *(headers or {}).values(), base.query_string, *base.query.values()]
        self._peer = Peer(
            self._shown, key_variable, tuple(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        )
        self._sessions = PerLoop(self._session, aiohttp.ClientSession.close)
        self._single_use = PerLoop(lambda: self._session(force_close=True), aiohttp.ClientSession.close)

    async def complete(self, request: ChatRequest) -> ChatReply:
        response, structured = await self._answer(request)
        async with response:
            return self._reply(await self._received(response.read()), structured)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        response, structured = await self._answer(request, stream=True)
        async with response:
            if response.content_type.endswith("json"):
                whole = self._reply(await self._received(response.read()), structured)
                if whole.text:
                    yield whole.text
                yield whole
                return
            reader, reply, head = EventReader(), StreamedReply(self._peer), b""
            while not reply.done:
                chunk = await self._received(response.content.readany())
                head = head or chunk
                for event in reader.feed(chunk) if chunk else reader.close():
                    if piece := reply.read(event):
                        yield piece
                if not chunk:
                    break
            if reply.empty:
                raise self._peer.foreign(head)
            yield reply.reply(structured=structured)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        check_texts(texts)
        model = self._model or await self._only_model()
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS_A_REQUEST):
            part = texts[start : start + _TEXTS_A_REQUEST]
            response = await self._send(
                "POST", _under(self._base, "embeddings"), encode(embedding_body(part, model))
            )
            async with response:
                payload = self._decoded(await self._received(response.read()))
            vectors += read_embeddings(payload, len(part), self._peer)
        return Embeddings(vectors)

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        model = self._model or await self._only_model()
        return [await self._score(prompt, continuation, model) for prompt, continuation in asked]

    async def _score(self, prompt: str, continuation: str, model: str) -> Score | UsageError:
        if not continuation:
            return UsageError("the continuation is empty: there is nothing to score")
        try:
            body = encode(echo_body(prompt + continuation, model))
            response = await self._send("POST", _under(self._base, "completions"), body)
        except PromptTooLongError as error:
            return error
        except ProviderError as error:
            if error.status in _REFUSES_THIS:
                return UsageError(str(error))
            raise
        async with response:
            payload = self._decoded(await self._received(response.read()))
        return read_echo(payload, prompt, continuation, self._shown)

    @property
    def url(self) -> str:
        """The base URL, without anything secret."""
        return self._shown

    async def identity(self) -> str:
        return self.name if self._named else f"{self.name}#{self._model or await self._only_model()}"

    async def models(self) -> list[str]:
        """The names of the models that the server offers."""
        response = await self._send("GET", _under(self._base, "models"))
        async with response:
            body = await self._received(response.read())
        try:
            return model_names(decode(body))
        except ValueError:
            raise self._peer.foreign(body) from None

    async def aclose(self) -> None:
        await self._sessions.aclose()
        await self._single_use.aclose()

    async def _answer(self, request: ChatRequest, *, stream: bool = False) -> tuple[aiohttp.ClientResponse, bool]:
        """A successful response, and whether the decoder was given the schema."""
        model = self._model or await self._only_model()
        body = chat_body(request, model, max_tokens_field=self._max_tokens_field, stream=stream)

        async def send(fields: Mapping[str, Any]) -> aiohttp.ClientResponse:
            return await self._send("POST", self._url, encode({**body, **fields}), once=stream)

        response, sent = await offering(self._shown, model, optional(request, stream=stream), send)
        return response, "response_format" in sent

    async def _send(
        self, method: str, url: yarl.URL, body: bytes | None = None, *, once: bool = False
    ) -> aiohttp.ClientResponse:
        """A successful response; with `once` its connection is not used again.

        Some servers hang up behind a stream without having said so, and the next request would go nowhere.
        """
        session = await (self._single_use if once else self._sessions).get()
        # aiohttp warns of large bodies handed over as bytes.
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        response = await self._received(
            session.request(
                method, url, data=data, headers=self._headers, proxy=self._proxy, allow_redirects=False
            )
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            said = await self._received(response.read())
        raise self._peer.http_error(response.status, response.headers, said)

    async def _received(self, awaited: Awaitable[T]) -> T:
        """What aiohttp delivers, or our error for its failure."""
        try:
            return await awaited
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            failure = _failure(error, self._shown)
            raise failure from failure.original

    def _reply(self, body: bytes, structured: bool) -> ChatReply:
        return read_reply(self._decoded(body), self._peer, structured=structured)

    def _decoded(self, body: bytes) -> Any:
        try:
            return decode(body)
        except ValueError:
            # A proxy's page between two sound replies passes; a wrong address fails again.
            raise self._peer.foreign(body, retryable=True) from None

    async def _only_model(self) -> str:
        names = await self.models()
        if len(names) != 1:
            offered = f"offers {len(names)} models ({', '.join(names[:20])})" if names else "names no model"
            raise UsageError(f"{self._shown} {offered}: say which one, as in {self._shown}#NAME")
        self._model = names[0]
        return self._model

    def _session(self, *, force_close: bool = False) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=_CONNECT_SECONDS),
        )


def _base(text: str) -> yarl.URL:
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


def _under(base: yarl.URL, path: str) -> yarl.URL:
    return base.with_path(f"{base.path.rstrip('/')}/{path}", keep_query=True)


def _headers(api_key: str | None, own: Mapping[str, str], key_variable: str) -> multidict.CIMultiDict[str]:
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


def _proxy(url: yarl.URL) -> str | None:
    """The proxy that the environment names for `url`.

    aiohttp's own `trust_env` looks it up in a thread for every request, and reads passwords from ~/.netrc.
    """
    host = url.host or ""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(url.scheme)


def _failure(error: aiohttp.ClientError | OSError, url: str) -> ProviderError:
    """Our error for one of aiohttp's, whose own text may carry the request's headers or a proxy's password."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if getattr(cause, "errno", None) in (errno.EMFILE, errno.ENFILE):
        what, retryable = "too many open files: ask for less at once, or raise `ulimit -n`", False
    else:
        what, retryable = next(row[1:] for row in _FAILURES if isinstance(error, row[0]))
    original = None if isinstance(error, _TELLING) else cause or error
    return ProviderError(what.format(url=url, cause=cause), retryable=retryable, original=original)
