"""Walk one method's generator through a model: whole, or with candidates as they are verbalized."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from outspoken.chat import ChatReply
from outspoken.distribution import Distribution, Verbalized
from outspoken.errors import ProviderError
from outspoken.methods import Steps
from outspoken.models.base import Model
from outspoken.parsing import Reader
from outspoken.text import text_key

__all__ = ["drive", "drive_stream"]


async def drive(steps: Steps, model: Model) -> Distribution:
    """Answer every request of a method with the model; returns what the method returns."""
    try:
        request = next(steps)
        while True:
            model.check(request)
            request = steps.send(await model.complete(request))
    except StopIteration as stop:
        done: Distribution = stop.value
        return done
    finally:
        steps.close()


async def drive_stream(steps: Steps, model: Model) -> AsyncGenerator[Verbalized | Distribution, None]:
    """Like `drive`, and yields each different candidate as soon as it is whole; the distribution comes last."""
    seen: set[str] = set()
    try:
        request = next(steps)
        while True:
            model.check(request)
            reader, reply = Reader(request.shape), None
            async with aclosing(model.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ChatReply):
                        reply = piece
                        continue
                    for candidate in reader.feed(piece):
                        key = text_key(candidate.text)
                        if key not in seen:
                            seen.add(key)
                            yield candidate
            if reply is None:
                raise ProviderError(f"{model.name} ended its stream without a reply", retryable=True)
            request = steps.send(reply)
    except StopIteration as stop:
        yield stop.value
    finally:
        steps.close()
