"""`POST /v1/chat/completions`: a draw, a plain answer, or the way to the upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from outspoken.chat import ChatRequest, Sampling
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import OutspokenError, ReplyError
from outspoken.models import Model
from outspoken.serve.http.responses import Events, body_of, json_answer, while_there
from outspoken.serve.limits import in_time
from outspoken.serve.openai.chat_request import ChatCall, may_verbalize, read_json, verbalizes
from outspoken.serve.openai.chat_response import (
    ChatResponse,
    Chunks,
    completion,
    declined,
    error_event,
    new_id,
    replied,
)
from outspoken.serve.pool.pools import Draw
from outspoken.serve.pool.refill import MeteredModel
from outspoken.serve.service import ReceivedChat, Service

__all__ = ["chat_completion"]


async def chat_completion(service: Service, request: Request) -> Response:
    """Answer one call of a client. Raises `OutspokenError`."""
    body = await body_of(request, service.bounds)
    if (asked := service.known(body)) is not None:
        return await _drawn(service, request, asked)
    way = service.backend.way
    payload = {} if way is not None and not may_verbalize(body) else read_json(body)
    if way is not None and not verbalizes(payload):
        service.metrics.passed()
        return way.response(request, body)
    call = service.read(payload)
    if call.verbalized:
        service.keep(body, asked := await service.pool_of(call))
        return await _drawn(service, request, asked)
    model = MeteredModel(service.backend.model(call.model), service.metrics, "direct")
    if call.stream:
        return await Events.begun(request, _streamed(service, model, call))
    return await while_there(request, _answered(service, model, call))


async def _drawn(service: Service, request: Request, asked: ReceivedChat) -> Response:
    call = asked.call
    draws: Sequence[Draw | ChatResponse]
    drawing = service.pools.draw(
        asked.key,
        asked.want,
        call.n,
        seed=call.seed,
        fresh=call.fresh,
        recycle=call.recycle and not call.fresh,
    )
    try:
        ready = not call.fresh and service.pools.ready(asked.key, call.n)
        drawn = await (drawing if ready else while_there(request, drawing))
    except ReplyError as error:
        answer = declined(error)
        if answer is None or error.reply is None:
            raise
        draws, usage = [answer], error.reply.usage
    else:
        service.metrics.drawn(drawn, own="fresh" if call.fresh else "" if call.seed is None else "seeded")
        draws, usage = drawn, sum((draw.usage for draw in drawn if draw.upstream), Usage())
    identity, created = new_id(), int(time.time())
    if not call.stream:
        return json_answer(completion(call, draws, id=identity, created=created, usage=usage))
    chunks = Chunks(call, id=identity, created=created)
    events = [chunks.whole(index, draw) for index, draw in enumerate(draws)]
    return Response(b"".join([*events, chunks.close(usage)]), media_type="text/event-stream")


# Plain answers of a model that this process asks.


async def _answered(service: Service, model: Model, call: ChatCall) -> Response:
    asking = [asyncio.create_task(_reply(service, model, call, index)) for index in range(call.n)]
    try:
        replies = await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    usage = sum((reply.usage for reply in replies), Usage())
    answers = [replied(reply) for reply in replies]
    return json_answer(completion(call, answers, id=new_id(), created=int(time.time()), usage=usage))


async def _reply(service: Service, model: Model, call: ChatCall, index: int) -> ChatReply:
    request = _request(call, index)
    model.check(request)
    async with service.places:
        return await in_time(model.complete(request), service.bounds.timeout, "less")


async def _streamed(service: Service, model: Model, call: ChatCall) -> AsyncGenerator[bytes, None]:
    """One choice after the other. What fails before anything was written is raised, and later an event."""
    chunks, usage, begun = Chunks(call, id=new_id(), created=int(time.time())), Usage(), False
    try:
        for index in range(call.n):
            request, opened = _request(call, index), False
            model.check(request)
            async with service.places, aclosing(model.stream(request)) as pieces:
                seconds = service.bounds.timeout
                while not isinstance(piece := await in_time(anext(pieces), seconds, "less"), ChatReply):
                    yield (b"" if opened else chunks.begin(index)) + chunks.piece(index, piece)
                    opened = begun = True
            answer = replied(piece)
            yield chunks.end(index, answer.finish) if opened else chunks.whole(index, answer)
            usage += piece.usage
            begun = True
    except OutspokenError as error:
        if not begun:
            raise
        yield error_event(error)
    else:
        yield chunks.close(usage)


def _request(call: ChatCall, index: int) -> ChatRequest:
    """The request for one of several choices: another choice needs another seed."""
    sampling: Sampling = call.settings.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)
    return ChatRequest(call.messages, sampling)
