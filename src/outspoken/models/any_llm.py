"""Models of providers with their own protocol, through any-llm and the SDKs of the providers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

from outspoken._imports import need
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import MissingExtraError, OutspokenError, ProviderError, UsageError
from outspoken.models.base import Capabilities, Model
from outspoken.models.http import PerLoop
from outspoken.models.openai_errors import ErrorContext, ErrorDetails, error_in, one_line, retry_after
from outspoken.models.openai_fields import send_with_optional
from outspoken.models.openai_stream import StreamedReply
from outspoken.models.openai_wire import chat_body, optional_fields, read_reply
from outspoken.models.providers import Provider

__all__ = ["AnyLLM"]


class AnyLLM(Model):
    """One model of a provider that any-llm supports.

    `timeout` limits a whole request, in seconds, beside the limit of a call or run. Raises `MissingExtraError` if
    any-llm or the provider's SDK is not installed, and `MissingKeyError` if its key is not in the environment.
    """

    def __init__(self, provider: Provider, model: str, *, timeout: float = 86_400.0) -> None:
        self._library = need("any_llm", f"{provider.name}/{model}", "providers")
        self.name = f"{provider.name}/{model}"
        self.capabilities = provider.any_llm or Capabilities()
        self._provider = provider.name
        self._model = model
        self._timeout = timeout
        key = provider.key()
        self._errors = ErrorContext(provider.name, provider.key_variable, (key,) if key else ())
        try:
            missing = self._library.AnyLLM.get_provider_class(self._provider).MISSING_PACKAGES_ERROR
        except ImportError as error:
            missing = error
        if missing:
            raise MissingExtraError(self.name, "providers") from missing
        options = {"api_key": key, "unified_exceptions": True, "max_retries": 0}
        create = partial(self._library.AnyLLM.create, self._provider, **options)
        self._clients: PerLoop[Any] = PerLoop(create, _close)

    async def complete(self, request: ChatRequest) -> ChatReply:
        completion, structured = await self._send(request)
        return read_reply(completion.model_dump(), self._errors, structured=structured, shape=request.shape)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        chunks, structured = await self._send(request, stream=True)
        stream, sent = StreamedReply(self._errors), 0
        try:
            while (chunk := await self._next(chunks, request)) is not None:
                if piece := stream.add(chunk.model_dump()):
                    sent += len(piece)
                    yield piece
        finally:
            await chunks.aclose()
        reply = stream.reply(structured=structured, shape=request.shape)
        if rest := reply.text[sent:]:
            yield rest
        yield reply

    async def aclose(self) -> None:
        await self._clients.aclose()

    async def _send(self, request: ChatRequest, *, stream: bool = False) -> tuple[Any, bool]:
        self.check(request)
        client = await self._clients.get()
        body = chat_body(request, self._model, stream=stream, developer_role=False)

        async def send(fields: Mapping[str, object]) -> Any:
            try:
                return await client.acompletion(timeout=self._timeout, **body, **fields)
            except Exception as error:
                raise self._error_for(error, request) from None

        fields = optional_fields(request) if self.capabilities.schema else {}
        response, sent = await send_with_optional(self._provider, self._model, fields, send)
        return response, "response_format" in sent

    async def _next(self, chunks: Any, request: ChatRequest) -> Any:
        try:
            return await anext(chunks, None)
        except Exception as error:
            raise self._error_for(error, request) from None

    def _error_for(self, error: Exception, request: ChatRequest) -> OutspokenError:
        """Our error for an error of any-llm, by its status and codes."""
        cause = getattr(error, "original_exception", None) or error
        message = one_line(str(cause), self._errors.secrets)
        ours = isinstance(cause, TypeError | ValueError | LookupError | AttributeError)
        if isinstance(error, self._library.exceptions.UnsupportedParameterError) or (
            ours and request.sampling.extra
        ):
            return UsageError(f"{self.name} does not take these settings ({message}): leave them out")
        status = getattr(error, "status_code", None)
        body = getattr(cause, "body", None) or getattr(cause, "details", None)
        if status is None and not body:
            return ProviderError(f"{self._provider} did not answer: {message}", retryable=not ours, original=cause)
        headers = getattr(getattr(cause, "response", None), "headers", None) or {}
        details = error_in(body) or ErrorDetails(message)
        return self._errors.error(details, status=status, wait=retry_after(headers))


async def _close(client: Any) -> None:
    """Close the SDK's client; in google-genai the asynchronous one is the attribute `aio`."""
    sdk = getattr(client.client, "aio", client.client)
    closing = (getattr(sdk, "aclose", None) or sdk.close)()
    if inspect.isawaitable(closing):
        await closing
