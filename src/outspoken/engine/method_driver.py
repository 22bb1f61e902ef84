"""Runs the generator of a method with a model: to its end, or yielding candidates as they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Protocol

from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.distribution import Distribution
from outspoken.engine.concurrency import in_thread
from outspoken.errors import OutspokenError, ProviderError, ReplyError
from outspoken.methods.steps import Steps
from outspoken.parsing import ReplyParser
from outspoken.reply_shape import ReplyShape
from outspoken.same_text import text_key

__all__ = ["RequestHandler", "drive", "drive_stream"]

_Reply = ChatReply | OutspokenError
_Requests = ChatRequest | tuple[ChatRequest, ...]
_LONG_REPLY = 20_000
_BROKEN_OFF = "connection lost"


class RequestHandler(Protocol):
    """Answers requests: a `SingleCall`, or a `Call` of a run. `parallel` requests may be sent at once."""

    @property
    def parallel(self) -> int: ...

    def check(self, request: ChatRequest) -> None: ...

    async def complete(self, request: ChatRequest) -> ChatReply: ...


class StreamHandler(RequestHandler, Protocol):
    def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply | None]:
        """Pieces of text, then the reply. None: the reply begins again, as an attempt failed."""
        ...


async def drive(steps: Steps, handler: RequestHandler) -> Distribution:
    """Answer every request of a method; returns the method's distribution."""
    try:
        request = next(steps)
        while True:
            if isinstance(request, tuple):
                replies = await _all_replies(request, handler)
                if any(len(reply.text) > _LONG_REPLY for reply in replies if isinstance(reply, ChatReply)):
                    request = await _read_in_thread(steps, replies)
                else:
                    request = steps.send(replies)
                continue
            try:
                handler.check(request)
                reply = await handler.complete(request)
            except OutspokenError as error:
                request = steps.throw(error)
            else:
                if len(reply.text) > _LONG_REPLY:
                    request = await _read_in_thread(steps, reply)
                else:
                    request = steps.send(reply)
    except StopIteration as stop:
        done: Distribution = stop.value
        return done
    except _EndedError as end:
        return end.distribution
    finally:
        with suppress(ValueError):  # it may still be reading in a thread after a cancellation
            steps.close()


async def drive_stream(steps: Steps, handler: StreamHandler) -> AsyncGenerator[Verbalized | Distribution, None]:
    """Like `drive`, but yields each different candidate as soon as it is complete, and the distribution last.

    If the connection is lost after candidates of a reply were yielded, what came of the reply counts as cut off.
    """
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
            if isinstance(request, tuple):
                async with _sent(request, handler) as tasks:
                    for coming in asyncio.as_completed(tasks):
                        for candidate in new(_whole(await coming, request[0].shape)):
                            yield candidate
                request = steps.send([task.result() for task in tasks])
                continue
            reader, texts, reply, yielded = ReplyParser(request.shape), list[str](), None, len(seen)
            try:
                handler.check(request)
                async with aclosing(handler.stream(request)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, ChatReply):
                            reply = piece
                        elif piece is not None:
                            texts.append(piece)
                            for candidate in new(reader.feed(piece)):
                                yield candidate
                        elif len(seen) > yielded:
                            break
                        else:
                            reader, texts = ReplyParser(request.shape), []
            except OutspokenError as error:
                if not isinstance(error, ProviderError) or len(seen) == yielded:
                    request = steps.throw(error)
                    continue
            # Some candidates are complete only at the end: the last entry of a list.
            reply = reply or ChatReply("".join(texts), finish=_BROKEN_OFF)
            if len(reply.text) > _LONG_REPLY:
                for candidate in new(await in_thread(partial(_rest, reader), wait=False)):
                    yield candidate
                request = await _read_in_thread(steps, reply)
            else:
                for candidate in new(_rest(reader)):
                    yield candidate
                request = steps.send(reply)
    except StopIteration as stop:
        yield stop.value
    except _EndedError as end:
        yield end.distribution
    finally:
        with suppress(ValueError):  # it may still be reading in a thread after a cancellation
            steps.close()


class _EndedError(Exception):
    """A method ended, in a thread: neither a future nor a coroutine can carry its StopIteration."""

    def __init__(self, distribution: Distribution) -> None:
        self.distribution = distribution


async def _read_in_thread(steps: Steps, sent: ChatReply | list[_Reply]) -> _Requests:
    """Send long replies to a method in a thread: reading damaged ones takes up to a second a megabyte."""

    def send(_: object) -> _Requests:
        try:
            return steps.send(sent)
        except StopIteration as stop:
            raise _EndedError(stop.value) from None

    return await in_thread(send, wait=False)


async def _all_replies(requests: tuple[ChatRequest, ...], handler: RequestHandler) -> list[_Reply]:
    """The replies to independent requests, or their errors. After an error no further request is sent."""
    if len(requests) == 1:
        return [await _reply(requests[0], handler)]
    async with _sent(requests, handler) as tasks:
        return list(await asyncio.gather(*tasks))


@asynccontextmanager
async def _sent(
    requests: tuple[ChatRequest, ...], handler: RequestHandler
) -> AsyncGenerator[list[asyncio.Task[_Reply]]]:
    """Tasks for the replies to independent requests, which are sent in their order, as many at once as allowed."""
    slots, failed = asyncio.Semaphore(handler.parallel), list[OutspokenError]()

    async def reply(request: ChatRequest) -> _Reply:
        async with slots:
            if failed:
                return failed[0]
            answer = await _reply(request, handler)
            if isinstance(answer, OutspokenError):
                failed.append(answer)
            return answer

    tasks = [asyncio.create_task(reply(request)) for request in requests]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reply(request: ChatRequest, handler: RequestHandler) -> _Reply:
    try:
        handler.check(request)
        return await handler.complete(request)
    except OutspokenError as error:
        return error


def _whole(reply: _Reply, shape: ReplyShape) -> tuple[Verbalized, ...]:
    """The candidates of a whole reply; none of an error."""
    if isinstance(reply, OutspokenError):
        return ()
    reader = ReplyParser(shape)
    return (*reader.feed(reply.text), *_rest(reader))


def _rest(reader: ReplyParser, _: object = None) -> list[Verbalized]:
    """The candidates of a reply that has ended, without one that was cut off, which the method sets aside."""
    try:
        return [candidate for candidate in reader.close().candidates if "truncated" not in candidate.repairs]
    except ReplyError:
        return []  # the method reads the whole reply too, and handles the error
