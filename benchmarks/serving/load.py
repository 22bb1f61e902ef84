"""A load generator that costs less than the server: raw keep-alive connections, one request after another."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Load", "get", "loaded", "post"]


def post(port: int, body: Any, path: str = "/v1/chat/completions") -> bytes:
    """The bytes of a request."""
    content = json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def get(port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


@dataclass
class Load:
    """The result of a load: the seconds of each request and in all, and with `keep` the responses' bodies."""

    requests: Iterator[bytes]
    keep: bool = False
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def median(self) -> float:
        """The median latency in milliseconds."""
        return 1000 * statistics.median(self.latencies)


async def loaded(port: int, requests: Sequence[bytes], clients: int, *, keep: bool = False) -> Load:
    """Send all of `requests`, `clients` at once. Raises `RuntimeError` if a status is not 200."""
    load = Load(iter(requests), keep)
    loop = asyncio.get_running_loop()
    workers = [_Worker(load) for _ in range(clients)]
    for worker in workers:
        await loop.create_connection(lambda worker=worker: worker, "127.0.0.1", port)
    started = time.perf_counter()
    for worker in workers:
        worker.next()
    await asyncio.gather(*(worker.done for worker in workers))
    load.seconds = time.perf_counter() - started
    if load.failures:
        raise RuntimeError(f"{len(load.failures)} requests failed, the first with {load.failures[0]}")
    return load


class _Worker(asyncio.Protocol):
    """Reads a response by its length, then sends the next request."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self.load = load
        self.done = asyncio.get_running_loop().create_future()
        self.received, self.head, self.size = bytearray(), 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def next(self) -> None:
        if (request := next(self.load.requests, None)) is None:
            self.transport.close()
            return
        self.started = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.size:
            self.head = self.received.find(b"\r\n\r\n") + 4
            if self.head < 4:
                return
            length = bytes(self.received[: self.head]).lower().partition(b"content-length:")[2]
            self.size = self.head + int(length.partition(b"\r\n")[0])
        if len(self.received) < self.size:
            return
        self.load.latencies.append(time.perf_counter() - self.started)
        if not self.received.startswith(b"HTTP/1.1 200"):
            self.load.failures.append(self.received[:600].decode("utf-8", "replace"))
        if self.load.keep:
            self.load.bodies.append(bytes(self.received[self.head :]))
        del self.received[:]
        self.size = 0
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if self.size or self.received:
            self.load.failures.append(f"a connection that broke off ({error})")
        self.done.set_result(None)
