"""`/v1/distributions`: the whole distribution of a request, at once or as it is verbalized."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outspoken.distribution import Distribution, Verbalized
from outspoken.errors import OutspokenError
from outspoken.serve.http.responses import Events, body_of, event, json_answer, while_there
from outspoken.serve.openai.chat_response import error_body, without_addresses
from outspoken.serve.openai.fields import RequestError
from outspoken.serve.pool.values import distribution_id
from outspoken.serve.service import ReceivedChat, Service

__all__ = ["distribution", "known_distribution"]

_SECONDS_OF_SILENCE = 10.0
_STILL_WAITING = b": the model is being asked\n\n"


async def distribution(service: Service, request: Request) -> Response:
    """The distribution that the same request to chat completions would be drawn from. Raises `OutspokenError`."""
    call = service.read(await body_of(request, service.bounds), always=True)
    asked = await service.pool_of(call)
    if call.stream:
        return await Events.begun(request, _streamed(service, asked))
    asking = service.pools.distribution(asked.key, asked.want, fresh=call.fresh)
    found = await while_there(request, asking)
    return json_answer(_told(found, call.asked))


def known_distribution(service: Service, name: str) -> Response:
    """The distribution of an id that a draw carried. Raises `RequestError` (404) where it is not held any more."""
    found = service.pools.named(name)
    if found is None:
        raise RequestError(
            "no distribution of this id is held: it was forgotten, was never pooled, or is of an earlier start",
            status=404,
            code="distribution_not_found",
        )
    return json_answer(_told(found, service.backend.told(found.provenance.model)))


def _told(found: Distribution, asked: str) -> dict[str, Any]:
    about = {"id": distribution_id(found), "object": "distribution", "created": int(time.time())}
    told = {
        "model": asked,
        "template": PurePath(found.provenance.template).stem,  # the operator's own may be a file
        "stopped": without_addresses(found.stopped),
    }
    return {**about, **found.to_dict(), **told}


async def _streamed(service: Service, asked: ReceivedChat) -> AsyncGenerator[bytes, None]:
    """An event for each candidate as it comes, then one for the whole; for that alone where it is there already.
    What fails before the first event is raised."""
    queue = asyncio.Queue[Verbalized | None]()
    asking = asyncio.create_task(
        service.pools.distribution(asked.key, asked.want, fresh=asked.call.fresh, hear=queue.put_nowait)
    )
    asking.add_done_callback(lambda _: queue.put_nowait(None))
    so_far, begun = _SoFar(), False
    try:
        while True:
            try:
                async with asyncio.timeout(_SECONDS_OF_SILENCE):
                    heard = await queue.get()
            except TimeoutError:
                yield _STILL_WAITING
                begun = True
                continue
            if heard is None:
                break
            yield so_far.event(heard)
            begun = True
        found = asking.result()
        yield event("distribution", _told(found, asked.call.asked))
    except OutspokenError as error:
        if not begun:
            raise
        yield event("error", error_body(error)[1])
    finally:
        asking.cancel()  # this asking alone: what the pool asks for goes on
        await asyncio.wait({asking})


class _SoFar:
    """The candidates that have come, in their order."""

    def __init__(self) -> None:
        self._read: list[Verbalized] = []

    def event(self, candidate: Verbalized) -> bytes:
        """One more, with the weights of all that have come."""
        self._read.append(candidate)
        weights = {each.text: each.probability for each in Distribution.from_verbalized(self._read).candidates}
        return event(
            "candidate",
            {
                "index": len(self._read) - 1,
                "text": candidate.text,
                "stated": candidate.stated,
                "weights": [weights[each.text] for each in self._read],
            },
        )
