"""Requests a second against a server that answers at once: what our layers cost on top of bare aiohttp.

    python benchmarks/remote.py [--calls 2000] [--in-flight 256] [--rounds 5] [--json]

The server runs in a process of its own and sends one fixed reply with five candidates. The rounds of the arms are
interleaved, and the medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version

import aiohttp
import openai

import outspoken
from outspoken.chat import ChatReply, ChatRequest
from outspoken.models.base import Capabilities, Model
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.models.openai_wire import chat_body, optional

PROMPT = "Tell me a joke about coffee."
TEXT = "Why did the espresso keep checking its watch? It was pressed for time, and the foam had gone on ahead. ☕ "
CANDIDATES = {"responses": [{"text": TEXT + "咖啡" * n, "probability": 0.2 - n / 50} for n in range(5)]}
Call = Callable[[], Awaitable[object]]


class Answering(asyncio.Protocol):
    """As much HTTP as a benchmark needs: reads a request by its length, writes the fixed reply."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.received[:end]).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self.received) < end + 4 + length:
                return
            del self.received[: end + 4 + length]
            self.transport.write(self.reply)


async def serve() -> None:
    message = {"role": "assistant", "content": json.dumps(CANDIDATES, ensure_ascii=False)}
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 300, "total_tokens": 500},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    server = await asyncio.get_running_loop().create_server(
        lambda: Answering(head.encode() + body), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Catching(Model):
    """Keeps the request that `averbalize` makes, so that every arm sends the same body."""

    name = "m"
    capabilities = Capabilities(schema=True)
    caught: ChatRequest

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.caught = request
        return ChatReply(json.dumps(CANDIDATES))


@asynccontextmanager
async def arms(base_url: str) -> AsyncGenerator[dict[str, Call]]:
    catching = Catching()
    await outspoken.averbalize(PROMPT, model=catching, k=5)
    request = catching.caught
    body = chat_body(request, "m") | optional(request)
    url = f"{base_url}/chat/completions"
    model = OpenAICompatible(base_url, "m", api_key="sk-benchmark")
    client = openai.AsyncOpenAI(base_url=base_url, api_key="sk-benchmark", max_retries=0)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def bare() -> object:
            async with session.post(url, json=body, headers={"Authorization": "Bearer sk-benchmark"}) as response:
                return await response.json()

        yield {
            "bare aiohttp": bare,
            "OpenAICompatible": lambda: model.complete(request),
            "averbalize": lambda: outspoken.averbalize(PROMPT, model=model, k=5, method="vs-standard"),
            "openai SDK": lambda: client.chat.completions.create(**body),
        }
    await model.aclose()
    await client.close()


async def rate(call: Call, calls: int, in_flight: int) -> float:
    """Requests a second with `in_flight` workers."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return calls / (time.perf_counter() - begun)


async def measure(base_url: str, calls: int, in_flight: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    async with arms(base_url) as contestants:
        for call in contestants.values():
            await rate(call, in_flight, in_flight)
        for _ in range(rounds):
            for name, call in contestants.items():
                rates.setdefault(name, []).append(await rate(call, calls, in_flight))
    return rates


@contextmanager
def server():
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help="be the server (used by the benchmark itself)")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with server() as base_url:
        rates = asyncio.run(measure(base_url, options.calls, options.in_flight, options.rounds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "calls": options.calls,
        "in_flight": options.in_flight,
        "rounds": options.rounds,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("aiohttp", "openai", "jiter")},
        "requests_per_second": {name: round(value) for name, value in medians.items()},
        "averbalize_over_bare_aiohttp": round(medians["averbalize"] / medians["bare aiohttp"], 2),
        "averbalize_over_openai_sdk": round(medians["averbalize"] / medians["openai SDK"], 2),
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
