"""Runs the generator of a method with a model: to its end, or yielding candidates as they are written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Protocol

from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.distribution import Distribution
from outspoken.errors import OutspokenError, ProviderError, ReplyError
from outspoken.methods.steps import Steps
from outspoken.models.base import Model
from outspoken.parsing import ReplyParser
from outspoken.same_text import text_key

__all__ = ["RequestHandler", "drive", "drive_stream"]


class RequestHandler(Protocol):
    """Answers requests: a `Model`, or a `Call` of a run."""

    def check(self, request: ChatRequest) -> None: ...

    async def complete(self, request: ChatRequest) -> ChatReply: ...


async def drive(steps: Steps, model: RequestHandler) -> Distribution:
    """Answer every request of a method with the model; returns the method's distribution."""
    try:
        request = next(steps)
        while True:
            try:
                model.check(request)
                reply = await model.complete(request)
            except OutspokenError as error:
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        done: Distribution = stop.value
        return done
    finally:
        steps.close()


async def drive_stream(steps: Steps, model: Model) -> AsyncGenerator[Verbalized | Distribution, None]:
    """Like `drive`, but yields each different candidate as soon as it is complete, and the distribution last."""
    seen: set[str] = set()

    def new(candidates: Iterable[Verbalized]) -> Iterator[Verbalized]:
        for candidate in candidates:
            key = text_key(candidate.text)
            if key not in seen:
                seen.add(key)
                yield candidate

    try:
        request = next(steps)
        while True:
            reader, reply = ReplyParser(request.shape), None
            try:
                model.check(request)
                async with aclosing(model.stream(request)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, ChatReply):
                            reply = piece
                            continue
                        for candidate in new(reader.feed(piece)):
                            yield candidate
                if reply is None:
                    raise ProviderError(f"{model.name} ended its stream without a reply", retryable=True)
            except OutspokenError as error:
                request = steps.throw(error)
                continue
            # Some candidates are complete only at the end: the text of a direct answer, the last entry of a list.
            for candidate in new(_rest(reader)):
                yield candidate
            request = steps.send(reply)
    except StopIteration as stop:
        yield stop.value
    finally:
        steps.close()


def _rest(reader: ReplyParser) -> tuple[Verbalized, ...]:
    try:
        return reader.close().candidates
    except ReplyError:
        return ()  # the method reads the whole reply too, and handles the error
