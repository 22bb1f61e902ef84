"""Long replies are read in a thread: the event loop goes on, and a cancellation does not wait for the reading."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest

from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply
from outspoken.distribution import Distribution, Verbalized
from outspoken.engine import drive
from outspoken.models.base import Model

REQUEST = ChatRequest((Message("user", "?"),))


class Fixed(Model):
    """A model that always replies with this text."""

    name = "fixed"

    def __init__(self, text: str) -> None:
        self.text = text

    async def complete(self, request: ChatRequest) -> ChatReply:
        return ChatReply(self.text)


def reading(threads: list[str], gate: threading.Event) -> Generator[ChatRequest, ChatReply, Distribution]:
    """A method that notes in which thread it reads, and reads until the gate opens."""
    yield REQUEST
    threads.append(threading.current_thread().name)
    gate.wait(10)
    return Distribution.from_verbalized([Verbalized("read")])


async def test_a_long_reply_is_read_in_a_thread_while_the_loop_goes_on() -> None:
    threads: list[str] = []
    gate = threading.Event()
    task = asyncio.ensure_future(drive(reading(threads, gate), Fixed("x" * 1_000_000)))
    while not threads:
        await asyncio.sleep(0.001)
    assert threads != [threading.current_thread().name]
    assert not task.done()
    gate.set()
    assert (await task).argmax().text == "read"


async def test_a_short_reply_is_read_where_it_came() -> None:
    threads: list[str] = []
    gate = threading.Event()
    gate.set()
    await drive(reading(threads, gate), Fixed("x"))
    assert threads == [threading.current_thread().name]


async def test_a_cancellation_does_not_wait_for_the_reading() -> None:
    threads: list[str] = []
    gate = threading.Event()
    task = asyncio.ensure_future(drive(reading(threads, gate), Fixed("x" * 1_000_000)))
    while not threads:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    gate.set()
