"""Chat completions: a draw, a plain reply of the model, or a request for the upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import OutspokenError, ReplyError
from outspoken.models import Model
from outspoken.serve.http.responses import EventStream, json_response, read_body, while_connected
from outspoken.serve.openai.chat_request import ChatCall, may_verbalize, verbalizes
from outspoken.serve.openai.chat_response import ChatResponse, Chunks, completion, declined, error_event, new_id
from outspoken.serve.openai.fields import read_json
from outspoken.serve.pool.refill import MeteredModel
from outspoken.serve.pool.values import Draw, with_timeout
from outspoken.serve.service import ReceivedChat, Service

__all__ = ["chat_completion"]


async def chat_completion(service: Service, request: Request) -> Response:
    """Answer one call of a client. Raises `OutspokenError`."""
    body = await read_body(request, service.limits)
    if (received := service.recall(body)) is not None:
        return await _drawn(service, request, received)
    has_upstream = service.backend.proxy is not None
    payload = {} if has_upstream and not may_verbalize(body) else read_json(body)
    if has_upstream and not verbalizes(payload):
        return service.forward(request, body)
    call = service.read(payload)
    if call.verbalized:
        service.remember(body, received := await service.receive(call))
        return await _drawn(service, request, received)
    model = MeteredModel(service.backend.model(call.model), service.metrics, "direct")
    if call.stream:
        return await EventStream.start(request, _streamed(service, model, call))
    return await while_connected(request, _plain(service, model, call))


async def _drawn(service: Service, request: Request, received: ReceivedChat) -> Response:
    call = received.call
    draws: Sequence[Draw | ChatResponse]
    drawing = service.pools.draw(
        received.key,
        received.pool_request,
        call.n,
        seed=call.seed,
        fresh=call.fresh,
        recycle=call.recycle and not call.fresh,
    )
    try:
        ready = not call.fresh and service.pools.ready(received.key, call.n)
        pooled = await (drawing if ready else while_connected(request, drawing))
    except ReplyError as error:
        response = declined(error)
        if response is None or error.reply is None:
            raise
        draws, usage = [response], error.reply.usage
    else:
        source = "fresh" if call.fresh else "" if call.seed is None else "seeded"
        service.metrics.count_draws(pooled, source=source)
        draws, usage = pooled, sum((draw.usage for draw in pooled if draw.upstream), Usage())
    identity, created = new_id(), int(time.time())
    if not call.stream:
        return json_response(completion(call, draws, id=identity, created=created, usage=usage))
    chunks = Chunks(call, id=identity, created=created)
    events = [chunks.choice(index, draw) for index, draw in enumerate(draws)]
    return Response(b"".join([*events, chunks.close(usage)]), media_type="text/event-stream")


# Plain replies of a model that this process asks.


async def _plain(service: Service, model: Model, call: ChatCall) -> Response:
    tasks = [asyncio.create_task(_reply(service, model, call, index)) for index in range(call.n)]
    try:
        replies = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    usage = sum((reply.usage for reply in replies), Usage())
    responses = [ChatResponse.from_reply(reply) for reply in replies]
    return json_response(completion(call, responses, id=new_id(), created=int(time.time()), usage=usage))


async def _reply(service: Service, model: Model, call: ChatCall, index: int) -> ChatReply:
    request = _request(call, index)
    model.check(request)
    async with service.slots:
        return await with_timeout(model.complete(request), service.limits.timeout, "less")


async def _streamed(service: Service, model: Model, call: ChatCall) -> AsyncGenerator[bytes, None]:
    """One choice after another. An error is raised before the first chunk, and an event after it."""
    chunks, usage, started = Chunks(call, id=new_id(), created=int(time.time())), Usage(), False
    seconds = service.limits.timeout
    try:
        for index in range(call.n):
            request, choice_started = _request(call, index), False
            model.check(request)
            async with service.slots, aclosing(model.stream(request)) as pieces:
                while not isinstance(piece := await with_timeout(anext(pieces), seconds, "less"), ChatReply):
                    yield (b"" if choice_started else chunks.start(index)) + chunks.piece(index, piece)
                    choice_started = started = True
            response = ChatResponse.from_reply(piece)
            yield chunks.end(index, response.finish) if choice_started else chunks.choice(index, response)
            usage += piece.usage
            started = True
    except OutspokenError as error:
        if not started:
            raise
        yield error_event(error)
    else:
        yield chunks.close(usage)


def _request(call: ChatCall, index: int) -> ChatRequest:
    """The request for one of several choices: each choice needs another seed."""
    sampling = call.settings.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)
    return ChatRequest(call.messages, sampling)
