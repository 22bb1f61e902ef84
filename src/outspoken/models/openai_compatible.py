"""Models on any server that speaks OpenAI's chat completions or embeddings, over aiohttp."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import aiohttp

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models import http, openai_fields, openai_wire
from outspoken.models._prompt_logprobs import echo_body, read_echo
from outspoken.models.base import Capabilities, Embeddings, Model, Score, check_texts
from outspoken.models.openai_errors import ErrorContext, error_in
from outspoken.models.openai_stream import EventReader, StreamedReply

__all__ = ["OpenAICompatible"]

T = TypeVar("T")

_CHAT = "chat/completions"
_SECONDS, _CONNECT_SECONDS = 600.0, 10.0
_TEXTS_PER_REQUEST = 128
_REJECTIONS = (400, 413, 422)
_LARGEST_ERROR = 2**18


class OpenAICompatible(Model):
    """One model of a server that speaks OpenAI's chat completions, embeddings, or both.

    `base_url` is the URL before `/chat/completions`; `url` is the same without its query. An empty `model` means
    the only model that the server offers. `api_key` is sent to this server alone and appears in no message;
    messages about the key name the environment variable `key_variable`. `timeout` limits a whole request, in
    seconds; None: 600, except that the call or run limits the time of a chat. A reply of more than `max_bytes`,
    unpacked, is refused. Proxies come from the usual environment variables (`HTTPS_PROXY`, `NO_PROXY`, …). Raises
    `UsageError` for an invalid base URL, key, header or limit.
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
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        key_variable: str = "OUTSPOKEN_API_KEY",
        max_bytes: int = http.LARGEST_BODY,
    ) -> None:
        if timeout is not None and timeout <= 0:
            raise UsageError(f"timeout must be above 0 seconds, not {timeout:g}")
        if max_bytes < 1:
            raise UsageError(f"max_bytes must be at least 1, not {max_bytes}")
        base = http.checked_base(base_url)
        self._base = base
        self.url = str(base.with_query(None))
        self._model = model
        self._named = bool(model)
        self.name = name or (f"{self.url}#{model}" if model else self.url)
        self._max_tokens_field = max_tokens_field
        self._timeout = aiohttp.ClientTimeout(timeout or _SECONDS, sock_connect=_CONNECT_SECONDS)
        self._timeout_of_chat = aiohttp.ClientTimeout(timeout, sock_connect=_CONNECT_SECONDS)
        self._max_bytes = max_bytes
        self._headers = http.headers_for(api_key, headers or {}, key_variable)
        self._proxy = http.proxy_for(base)
        secrets = [(api_key or "").strip(), *(headers or {}).values(), base.query_string, *base.query.values()]
        self._errors = ErrorContext(self.url, key_variable, http.secrets_among(secrets))
        self._sessions = http.PerLoop(self._session, aiohttp.ClientSession.close)
        self._sessions_for_streams = http.PerLoop(
            lambda: self._session(force_close=True), aiohttp.ClientSession.close
        )

    async def complete(self, request: ChatRequest) -> ChatReply:
        response, structured = await self._answer(request)
        if response.content_type != "text/event-stream":
            return await self._reply(response, request, structured)
        reply = StreamedReply(self._errors)
        async with aclosing(self._pieces(response, reply)) as pieces:
            async for _ in pieces:
                pass
        return reply.reply(structured=structured, shape=request.shape)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        response, structured = await self._answer(request, stream=True)
        if response.content_type.endswith("json"):
            reply, sent = await self._reply(response, request, structured), 0
        else:
            stream, sent = StreamedReply(self._errors), 0
            async with aclosing(self._pieces(response, stream)) as pieces:
                async for piece in pieces:
                    sent += len(piece)
                    yield piece
            reply = stream.reply(structured=structured, shape=request.shape)
        if rest := reply.text[sent:]:
            yield rest
        yield reply

    async def _pieces(self, response: aiohttp.ClientResponse, reply: StreamedReply) -> AsyncGenerator[str]:
        """The pieces of text of a stream, which `reply` collects."""
        reader, pending, beginning = EventReader(), 0, b""
        with http.watched(response):
            async with response:
                while not reply.done:
                    chunk = await self._chunk(response, reply)
                    events = reader.feed(chunk) if chunk else reader.close()
                    for event in events:
                        if piece := reply.read(event):
                            yield piece
                    if not chunk:
                        break
                    if reply.empty:
                        beginning += chunk[: _LARGEST_ERROR - len(beginning)]
                    pending = 0 if events else pending + len(chunk)
                    if max(pending, reply.size) > self._max_bytes:
                        response.close()
                        raise self._errors.too_large(self._max_bytes)
        if reply.empty:
            raise self._no_stream(beginning)

    async def _chunk(self, response: aiohttp.ClientResponse, reply: StreamedReply) -> bytes:
        """The next bytes of a stream, none at its end or if the connection breaks after the whole reply."""
        try:
            return await self._await(response.content.readany())
        except ProviderError:
            if not reply.finished:
                raise
            return b""

    def _no_stream(self, body: bytes) -> Exception:
        """Our error for a body without events: the one that the server reports in it, if there is one."""
        try:
            details = error_in(openai_wire.decode(body))
        except ValueError:
            details = None
        return self._errors.error(details) if details else self._errors.foreign(body, retryable=True)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        check_texts(texts)
        model = self._model or await self._only_model()
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS_PER_REQUEST):
            part = texts[start : start + _TEXTS_PER_REQUEST]
            response = await self._send("POST", "embeddings", openai_wire.embedding_body(part, model))
            vectors += openai_wire.read_embeddings(await self._decoded(response), len(part), self._errors)
        return Embeddings(vectors)

    async def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        model = self._model or await self._only_model()
        return [await self._score(prompt, continuation, model) for prompt, continuation in pairs]

    async def _score(self, prompt: str, continuation: str, model: str) -> Score | UsageError:
        if not continuation:
            return UsageError("the continuation is empty: there is nothing to score")
        try:
            response = await self._send("POST", "completions", echo_body(prompt + continuation, model))
        except PromptTooLongError as error:
            return error
        except ProviderError as error:
            if error.status in _REJECTIONS:
                return UsageError(str(error))
            raise
        return read_echo(await self._decoded(response), prompt, continuation, self.url)

    def sibling(self, model: str) -> OpenAICompatible:
        """Another model of the same server, over the same connections: closing either closes both."""
        other = copy.copy(self)
        other._model, other._named = model, True
        other.name = f"{self.url}#{model}"
        return other

    async def identity(self) -> str:
        return self.name if self._named else f"{self.name}#{self._model or await self._only_model()}"

    async def models(self) -> list[str]:
        """The names of the models that the server offers."""
        body = await self._body_of(await self._send("GET", "models"))
        try:
            return openai_wire.model_names(openai_wire.decode(body))
        except ValueError:
            raise self._errors.foreign(body) from None

    async def aclose(self) -> None:
        await self._sessions.aclose()
        await self._sessions_for_streams.aclose()

    async def _answer(self, request: ChatRequest, *, stream: bool = False) -> tuple[aiohttp.ClientResponse, bool]:
        """A successful response, and whether the request contained the schema."""
        model = self._model or await self._only_model()
        body = openai_wire.chat_body(request, model, max_tokens_field=self._max_tokens_field, stream=stream)

        async def send(fields: Mapping[str, object]) -> aiohttp.ClientResponse:
            try:
                return await self._send("POST", _CHAT, {**body, **fields}, stream=stream)
            except ProviderError as error:
                if not (name := openai_fields.rename_limit(body, error)):
                    raise
                self._max_tokens_field = name
            return await self._send("POST", _CHAT, {**body, **fields}, stream=stream)

        fields = openai_wire.optional_fields(request, stream=stream)
        response, sent = await openai_fields.send_with_optional(self.url, model, fields, send)
        return response, "response_format" in sent

    async def _send(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, stream: bool = False
    ) -> aiohttp.ClientResponse:
        """A successful response; the connection of a stream is not used again.

        Some servers close it after a stream without notice, and the next request would fail.
        """
        data = None if body is None else http.data_of(openai_wire.encode(body))
        session = await (self._sessions_for_streams if stream else self._sessions).get()
        url = http.url_below(self._base, path)
        response = await self._await(
            session.request(
                method,
                url,
                data=data,
                headers=self._headers,
                proxy=self._proxy,
                timeout=self._timeout_of_chat if path == _CHAT else self._timeout,
                allow_redirects=False,
            )
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            said, _ = await self._await(http.body_of(response, _LARGEST_ERROR))
            raise self._errors.http_error(response.status, response.headers, said)

    async def _await(self, awaited: Awaitable[T]) -> T:
        """The result of an aiohttp call; raises our error for its errors."""
        try:
            return await awaited
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            failure = http.error_for(error, self.url)
            raise failure from failure.original

    async def _body_of(self, response: aiohttp.ClientResponse) -> bytes:
        async with response:
            body, whole = await self._await(http.body_of(response, self._max_bytes))
            if not whole:
                response.close()
                raise self._errors.too_large(self._max_bytes)
            return body

    async def _decoded(self, response: aiohttp.ClientResponse) -> Any:
        body = await self._body_of(response)
        try:
            return openai_wire.decode(body)
        except ValueError:
            # A proxy may have sent one page between two valid replies; a wrong URL fails again.
            raise self._errors.foreign(body, retryable=True) from None

    async def _reply(self, response: aiohttp.ClientResponse, request: ChatRequest, structured: bool) -> ChatReply:
        payload = await self._decoded(response)
        return openai_wire.read_reply(payload, self._errors, structured=structured, shape=request.shape)

    async def _only_model(self) -> str:
        names = await self.models()
        if len(names) != 1:
            offered = f"offers {len(names)} models ({', '.join(names[:20])})" if names else "names no model"
            raise UsageError(f"{self.url} {offered}: name one, as in {self.url}#NAME")
        self._model = names[0]
        return self._model

    def _session(self, *, force_close: bool = False) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
        )
