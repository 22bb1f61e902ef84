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
from pathlib import Path

import aiohttp
import openai

import outspoken
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.models.base import Capabilities, Model
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.models.openai_wire import chat_body, optional_fields

PEERS = Path(__file__).parent / "peers"
PROMPT = "Tell me a joke about coffee."
Call = Callable[[], Awaitable[object]]


class Catching(Model):
    """Keeps the request that `averbalize` makes, so that every arm sends the same body."""

    name = "m"
    capabilities = Capabilities(schema=True)
    caught: ChatRequest

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.caught = request
        return ChatReply('{"responses": [{"text": "x", "probability": 1}]}')


@asynccontextmanager
async def arms(base_url: str) -> AsyncGenerator[dict[str, Call]]:
    catching = Catching()
    await outspoken.averbalize(PROMPT, model=catching, k=5, top_up=0)
    request = catching.caught
    body = chat_body(request, "m") | optional_fields(request)
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
    command = [sys.executable, str(PEERS / "server.py")]
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
    options = parser.parse_args()
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
