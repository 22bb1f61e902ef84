"""The whole distribution of a request, at once or while it is verbalized."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import PurePath
from typing import Annotated, Literal, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from outspoken.distribution import Distribution, Verbalized
from outspoken.errors import OutspokenError
from outspoken.serve.http.responses import EventStream, event, json_response, read_body, while_connected
from outspoken.serve.openai.errors import RequestError, error_body, without_addresses
from outspoken.serve.pool.values import distribution_id
from outspoken.serve.service import ReceivedChat, Service

__all__ = ["DistributionDocument", "distribution", "known_distribution"]

_SECONDS_OF_SILENCE = 10.0
_STILL_WAITING = b": the model is being asked\n\n"


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
        return await EventStream.start(request, _streamed(service, received))
    work = service.pools.distribution(received.key, received.pool_request, fresh=call.fresh)
    return json_response(_document(await while_connected(request, work), call.requested_model))


async def known_distribution(service: Service, request: Request) -> Response:
    """The distribution of an id that a choice contained.

    Raises `RequestError` (404) if it is not kept any more.
    """
    known = service.pools.find(request.path_params["name"])
    if known is None:
        raise RequestError(
            "there is no distribution with this id: its pool was dropped, it had none, or the server restarted",
            status=404,
            code="distribution_not_found",
        )
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


async def _streamed(service: Service, received: ReceivedChat) -> AsyncGenerator[bytes, None]:
    """An event for each candidate as it arrives, then one for the distribution; only the latter if it is pooled.

    An error before the first event is raised.
    """
    call, queue = received.call, asyncio.Queue[Verbalized | None]()
    work = service.pools.distribution(
        received.key, received.pool_request, fresh=call.fresh, listener=queue.put_nowait
    )
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: queue.put_nowait(None))
    candidates, started = _StreamedCandidates(), False
    try:
        while True:
            try:
                async with asyncio.timeout(_SECONDS_OF_SILENCE):
                    candidate = await queue.get()
            except TimeoutError:
                yield _STILL_WAITING
                started = True
                continue
            if candidate is None:
                break
            yield candidates.event(candidate)
            started = True
        yield event("distribution", _document(task.result(), call.requested_model))
    except OutspokenError as error:
        if not started:
            raise
        yield event("error", error_body(error)[1])
    finally:
        task.cancel()  # ends this wait only: the fill of the pool continues
        await asyncio.wait({task})


class _StreamedCandidates:
    """The candidates that have arrived, in their order."""

    def __init__(self) -> None:
        self._candidates: list[Verbalized] = []

    def event(self, candidate: Verbalized) -> bytes:
        """The event for one more candidate, with the weights of all so far."""
        self._candidates.append(candidate)
        weights = {each.text: each.probability for each in Distribution.from_verbalized(self._candidates)}
        return event(
            "candidate",
            {
                "index": len(self._candidates) - 1,
                "text": candidate.text,
                "stated": candidate.stated,
                "weights": [weights[each.text] for each in self._candidates],
            },
        )
