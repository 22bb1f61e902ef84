"""Models behind any server that speaks OpenAI's chat completions or embeddings, over aiohttp."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import yarl

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models._per_loop import PerLoop
from outspoken.models._prompt_logprobs import echo_body, read_echo
from outspoken.models.base import Capabilities, Embeddings, Model, Score, check_texts
from outspoken.models.http import checked_base, data_of, error_for, headers_for, proxy_for, secrets_among, under
from outspoken.models.openai_errors import ErrorContext
from outspoken.models.openai_wire import (
    EventReader,
    StreamedReply,
    chat_body,
    decode,
    embedding_body,
    encode,
    model_names,
    offering,
    optional,
    read_embeddings,
    read_reply,
)

__all__ = ["OpenAICompatible"]

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
_TEXTS_A_REQUEST = 128
_REFUSES_THIS = (400, 413, 422)


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
        base = checked_base(base_url)
        self._base = base
        self._shown = str(base.with_query(None))
        self._url = under(base, "chat/completions")
        self._model = model
        self._named = bool(model)
        self.name = name or (f"{self._shown}#{model}" if model else self._shown)
        self._max_tokens_field = max_tokens_field
        self._timeout = timeout
        self._headers = headers_for(api_key, headers or {}, key_variable)
        self._proxy = proxy_for(base)
        secrets = [(api_key or "").strip(), *(headers or {}).values(), base.query_string, *base.query.values()]
        self._peer = ErrorContext(self._shown, key_variable, secrets_among(secrets))
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
                "POST", under(self._base, "embeddings"), encode(embedding_body(part, model))
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
            response = await self._send("POST", under(self._base, "completions"), body)
        except PromptTooLongError as error:
            return error
        except ProviderError as error:
            if error.status in _REFUSES_THIS:
                return UsageError(str(error))
            raise
        async with response:
            payload = self._decoded(await self._received(response.read()))
        return read_echo(payload, prompt, continuation, self._shown)

    def sibling(self, model: str) -> OpenAICompatible:
        """Another model of the same server, through the same connections: closing either closes both."""
        other = copy.copy(self)
        other._model, other._named = model, True
        other.name = f"{self._shown}#{model}"
        return other

    @property
    def url(self) -> str:
        """The base URL, without anything secret."""
        return self._shown

    async def identity(self) -> str:
        return self.name if self._named else f"{self.name}#{self._model or await self._only_model()}"

    async def models(self) -> list[str]:
        """The names of the models that the server offers."""
        response = await self._send("GET", under(self._base, "models"))
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
        response = await self._received(
            session.request(
                method, url, data=data_of(body), headers=self._headers, proxy=self._proxy, allow_redirects=False
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
            failure = error_for(error, self._shown)
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
