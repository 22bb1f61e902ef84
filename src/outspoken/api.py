"""The functions that most users need: a prompt in, a distribution out."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Unpack

from outspoken import models, templates
from outspoken.candidate import Candidate, Verbalized
from outspoken.chat import Message, as_messages
from outspoken.distribution import Distribution
from outspoken.engine import CachedCall, SingleCall, drive, drive_stream, iterate, opened, run
from outspoken.errors import UsageError
from outspoken.json_schema import validator
from outspoken.ledger import Ledger
from outspoken.methods.call import MethodCall
from outspoken.methods.steps import Steps, start
from outspoken.models.base import Model
from outspoken.settings import Options, RequestLimits, read_call

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["AsyncStream", "Stream", "astream", "averbalize", "stream", "verbalize"]

Prompt = str | Sequence[Message | Mapping[str, Any]]
Cache = str | os.PathLike[str] | Ledger | None


def verbalize(
    prompt: Prompt,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    cache: Cache = None,
    **options: Unpack[Options],
) -> Distribution:
    """Ask a model for candidates with their probabilities.

    `prompt` is text, or a chat in OpenAI's form that ends with the user's turn. `model` is a name such as
    `openai/gpt-4.1` or `http://localhost:8000/v1#name`, or a `Model`; without one it is `$OUTSPOKEN_MODEL`, else
    the small model that runs in this process. `schema`, a pydantic model or a JSON schema, makes the candidates
    structured: each one's `value` is validated against it. `cache` is the path of a ledger, or an open `Ledger`:
    an equal call gets the replies in it, and asks for nothing that is there.

    Transient errors of the server and the network are retried. Works in a script, in a thread, in a pool of
    processes and in a notebook. Raises `UsageError` (invalid arguments), `ProviderError` (the server or the
    network failed), `ReplyError` (the reply holds no candidate) or `LedgerError` (the cache cannot be used).

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
    """
    return run(averbalize(prompt, model=model, schema=schema, cache=cache, **options))


async def averbalize(
    prompt: Prompt,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    cache: Cache = None,
    **options: Unpack[Options],
) -> Distribution:
    """`verbalize` for asynchronous code; many may run at once.

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
    """
    steps, resolved, limits = _prepare(prompt, model, schema, options)
    if cache is None:
        return await drive(steps, SingleCall(resolved, limits))
    async with opened(cache) as ledger:
        return await drive(steps, CachedCall(resolved, limits, ledger))


def stream(
    prompt: Prompt,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    cache: Cache = None,
    **options: Unpack[Options],
) -> Stream:
    """`verbalize` that yields each candidate as soon as the model has written it; see `Stream`.

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
    """
    return Stream(*_prepare(prompt, model, schema, options), cache)


def astream(
    prompt: Prompt,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    cache: Cache = None,
    **options: Unpack[Options],
) -> AsyncStream:
    """`stream` for asynchronous code.

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
    """
    return AsyncStream(*_prepare(prompt, model, schema, options), cache)


class AsyncStream(AsyncIterator[Candidate]):
    """Candidates as the model writes them; afterwards `distribution` is the complete result.

    During the reply, a candidate's `probability` is its weight among the candidates received so far, and `so_far`
    is the distribution of these. Only the final distribution is normalised over all candidates, validated, and
    without those outside the tail.
    """

    def __init__(self, steps: Steps, model: Model, limits: RequestLimits, cache: Cache) -> None:
        self._items = _streamed(steps, model, limits, cache)
        self._read: list[Verbalized] = []
        self._final: Distribution | None = None

    async def __anext__(self) -> Candidate:
        async for item in self._items:
            if isinstance(item, Distribution):
                self._final = item
                continue
            self._read.append(item)
            return next(candidate for candidate in self.so_far if candidate.text == item.text)
        raise StopAsyncIteration

    @property
    def so_far(self) -> Distribution:
        """The distribution of the candidates received so far; the final one once the stream has ended."""
        return self._final or Distribution.from_verbalized(self._read)

    @property
    def distribution(self) -> Distribution:
        """The final distribution. Raises `UsageError` before the stream has ended."""
        if self._final is None:
            raise UsageError("the stream has not ended: iterate it to the end first")
        return self._final

    async def aclose(self) -> None:
        """Stop, and cancel the running request."""
        await self._items.aclose()


class Stream(Iterator[Candidate]):
    """`AsyncStream` for synchronous code."""

    def __init__(self, steps: Steps, model: Model, limits: RequestLimits, cache: Cache) -> None:
        self._stream = AsyncStream(steps, model, limits, cache)
        self._items = iterate(self._generate())

    async def _generate(self) -> AsyncGenerator[Candidate, None]:
        try:
            async for candidate in self._stream:
                yield candidate
        finally:
            await self._stream.aclose()

    def __next__(self) -> Candidate:
        return next(self._items)

    @property
    def so_far(self) -> Distribution:
        return self._stream.so_far

    @property
    def distribution(self) -> Distribution:
        return self._stream.distribution

    def close(self) -> None:
        """Stop, and cancel the running request."""
        self._items.close()


def _prepare(
    prompt: Prompt,
    model: str | Model | None,
    schema: type[BaseModel] | Mapping[str, Any] | None,
    options: Options,
) -> tuple[Steps, Model, RequestLimits]:
    settings, limits = read_call(options)
    messages = as_messages(prompt)
    template = templates.load(settings.template)
    json_schema, validate = validator(schema)
    resolved = model if isinstance(model, Model) else models.get_model(model or models.default_name())
    enforces = resolved.capabilities.schema
    call = MethodCall(messages, settings, template, resolved.name, enforces, json_schema, validate)
    return start(call), resolved, limits


async def _streamed(
    steps: Steps, model: Model, limits: RequestLimits, cache: Cache
) -> AsyncGenerator[Verbalized | Distribution]:
    async with nullcontext() if cache is None else opened(cache) as ledger:
        handler = SingleCall(model, limits) if ledger is None else CachedCall(model, limits, ledger)
        async with aclosing(drive_stream(steps, handler)) as items:
            async for item in items:
                yield item
