"""The addresses that take a chat: completions (drawn, plain or forwarded), and whole distributions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import PurePath
from typing import Annotated, Literal, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.distribution import Distribution
from outspoken.engine import SingleCall
from outspoken.errors import ReplyError
from outspoken.models import Model
from outspoken.serve.http.responses import EventStream, event, json_response, read_body, while_connected
from outspoken.serve.limits import LONGEST_WAIT
from outspoken.serve.openai.chat_request import ChatCall, may_verbalize, verbalizes
from outspoken.serve.openai.chat_response import ChatResponse, Chunks, completion, declined, error_event, new_id
from outspoken.serve.openai.errors import RequestError, error_body, without_addresses
from outspoken.serve.openai.fields import read_json
from outspoken.serve.pool.refill import MeteredModel
from outspoken.serve.pool.values import Draw, distribution_id, with_timeout
from outspoken.serve.service import ReceivedChat, Service

__all__ = ["DistributionDocument", "chat_completion", "distribution", "known_distribution"]

_SECONDS_OF_SILENCE = 10.0
_STILL_WAITING = b": the model is being asked\n\n"


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
        return await EventStream.start(request, _streamed(service, model, call), error_event)
    return await while_connected(request, _plain(service, model, call))


async def _drawn(service: Service, request: Request, received: ReceivedChat) -> Response:
    call = received.call
    draws: Sequence[Draw | ChatResponse]
    drawing = service.pools.draw(
        received.key, received.pool_request, call.n, seed=call.seed, fresh=call.fresh, recycle=call.recycle
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
        asking = SingleCall(model, service.limits.of_request, longest_wait=LONGEST_WAIT)
        return await with_timeout(asking.complete(request), service.limits.timeout, "less")


async def _streamed(service: Service, model: Model, call: ChatCall) -> AsyncGenerator[bytes, None]:
    chunks, usage = Chunks(call, id=new_id(), created=int(time.time())), Usage()
    for index in range(call.n):
        request, started = _request(call, index), False
        model.check(request)
        async with service.slots, aclosing(model.stream(request)) as pieces:
            seconds = service.limits.timeout
            while not isinstance(piece := await with_timeout(anext(pieces), seconds, "less"), ChatReply):
                yield (b"" if started else chunks.start(index)) + chunks.piece(index, piece)
                started = True
        response = ChatResponse.from_reply(piece)
        yield chunks.end(index, response.finish) if started else chunks.choice(index, response)
        usage += piece.usage
    yield chunks.close(usage)


def _request(call: ChatCall, index: int) -> ChatRequest:
    """The request for one of several choices, each with another seed."""
    sampling = call.settings.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)
    return ChatRequest(call.messages, sampling)


class CandidateFields(TypedDict):
    """A candidate of a distribution, as far as clients rely on it."""

    text: str
    probability: Annotated[float, {"minimum": 0, "maximum": 1}]
    stated: float | None
    repairs: list[str]


class DistributionDocument(TypedDict):
    """A distribution, as far as clients rely on it; it also has the fields of `Distribution.to_dict`."""

    id: str
    object: Literal["distribution"]
    created: int
    model: str
    method: str
    template: str
    candidates: list[CandidateFields]
    mass: float | None
    missing: int
    stopped: str
    entropy: Annotated[float, {"description": "In nats."}]
    effective_size: float


async def distribution(service: Service, request: Request) -> Response:
    """The distribution that the same request to chat completions would be drawn from. Raises `OutspokenError`."""
    call = service.read(await read_body(request, service.limits), always=True)
    received = await service.receive(call)
    if call.stream:
        events = _streamed_candidates(service, received)
        return await EventStream.start(request, events, lambda error: event("error", error_body(error)[1]))
    work = service.pools.distribution(received.key, received.pool_request, fresh=call.fresh)
    return json_response(_document(await while_connected(request, work), call.requested_model))


async def known_distribution(service: Service, request: Request) -> Response:
    """The distribution with the id of a choice. Raises `RequestError` (404) if it is not kept any more."""
    known = service.pools.find(request.path_params["name"])
    if known is None:
        reasons = "its pool was dropped, the draw was fresh, or the server restarted"
        message = f"there is no distribution with this id: {reasons}"
        raise RequestError(message, status=404, code="distribution_not_found")
    return json_response(_document(known, service.backend.public_name(known.provenance.model)))


def _document(result: Distribution, model: str) -> dict[str, object]:
    return {
        "id": distribution_id(result),
        "object": "distribution",
        "created": int(time.time()),
        **result.to_dict(),
        "model": model,
        "template": PurePath(result.provenance.template).stem,  # the operator's template may be a file
        "stopped": without_addresses(result.stopped),
    }


async def _streamed_candidates(service: Service, received: ReceivedChat) -> AsyncGenerator[bytes, None]:
    """An event for each candidate as it arrives, then one for the distribution (only this one if it is pooled)."""
    call, queue = received.call, asyncio.Queue[Verbalized | None]()
    work = service.pools.distribution(
        received.key, received.pool_request, fresh=call.fresh, listener=queue.put_nowait
    )
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: queue.put_nowait(None))
    candidates: list[Verbalized] = []
    try:
        while True:
            try:
                async with asyncio.timeout(_SECONDS_OF_SILENCE):
                    candidate = await queue.get()
            except TimeoutError:
                yield _STILL_WAITING
                continue
            if candidate is None:
                break
            candidates.append(candidate)
            yield _candidate_event(candidates)
        yield event("distribution", _document(task.result(), call.requested_model))
    finally:
        task.cancel()  # ends this wait only: the fill of the pool continues
        await asyncio.wait({task})


def _candidate_event(candidates: Sequence[Verbalized]) -> bytes:
    """The event for the latest candidate, with the weights of all candidates so far."""
    weights = {each.text: each.probability for each in Distribution.from_verbalized(candidates)}
    last = candidates[-1]
    payload = {
        "index": len(candidates) - 1,
        "text": last.text,
        "stated": last.stated,
        "weights": [weights[each.text] for each in candidates],
    }
    return event("candidate", payload)
