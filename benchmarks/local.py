"""Local models: tokens per second with `Local`, `averbalize` and xllamacpp alone, for the same requests.

Every arm asks for the same k candidates under the same schema, `--parallel` requests at once. The arms take turns
in each round; the medians are reported, and the medians of the ratios to the first arm within a round. The second
table sends `--requests` requests to models with different numbers of slots.

    python benchmarks/local.py [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from outspoken import averbalize
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import ReplyError
from outspoken.models._llama_formats import chat_body
from outspoken.models.base import Model
from outspoken.models.local import Local, LocalSettings

K = 5
SETTINGS: dict[str, Any] = {"temperature": 0.7, "max_tokens": 200}
TOPICS = ("coffee", "tea", "cats", "dogs", "rain", "books", "trains", "bread")


class Recorder(Model):
    """Passes requests on and keeps them: the other arms repeat the requests of `averbalize`."""

    def __init__(self, inner: Local) -> None:
        self.inner, self.name, self.capabilities = inner, inner.name, inner.capabilities
        self.requests: list[ChatRequest] = []
        self.tokens = 0

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        reply = await self.inner.complete(request)
        self.tokens += reply.usage.completion_tokens
        return reply


async def through_averbalize(model: Local, count: int) -> Recorder:
    """`count` calls; a reply that the tiny model cut short counts by its tokens as well."""
    recorder = Recorder(model)
    calls = [
        averbalize(f"Tell me a joke about {topic}", model=recorder, k=K, top_up=0, seed=seed, **SETTINGS)
        for seed, topic in enumerate(itertools.islice(itertools.cycle(TOPICS), count))
    ]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, ReplyError):
            raise outcome
    return recorder


async def through_local(model: Local, requests: list[ChatRequest]) -> int:
    replies = await asyncio.gather(*map(model.complete, requests))
    return sum(reply.usage.completion_tokens for reply in replies)


def through_xllamacpp(model: Local, bodies: list[dict[str, Any]]) -> int:
    """The server of `Local`, called from one thread for each request."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = pool.map(model._server.handle_chat_completions, bodies)
        return sum(answer["usage"]["completion_tokens"] for answer in answers)


def plain_body(model: Local, request: ChatRequest) -> dict[str, Any]:
    """The same request written by hand, without streaming."""
    assert request.schema is not None
    body = {**chat_body(request), "grammar": model._grammars.of(request.schema)}
    for name in ("stream", "stream_options", "return_progress"):
        del body[name]
    return body


async def compare_arms(parallel: int, rounds: int) -> dict[str, list[float]]:
    model = Local("smollm2")
    warm = await through_averbalize(model, parallel)
    bodies = [plain_body(model, request) for request in warm.requests]

    async def verbalized() -> int:
        return (await through_averbalize(model, parallel)).tokens

    arms: dict[str, Callable[[], Awaitable[int]]] = {
        "xllamacpp": lambda: asyncio.to_thread(through_xllamacpp, model, bodies),
        "Local.complete": lambda: through_local(model, warm.requests),
        "averbalize": verbalized,
    }
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds):
        for name in sorted(arms, reverse=turn % 2 == 1):
            speeds[name].append(await speed(arms[name]))
    await model.aclose()
    return speeds


async def compare_slots(slots: list[int], requests: int, rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {f"{count} slots": [] for count in slots}
    for _ in range(rounds):
        for count in slots:
            model = Local("smollm2", LocalSettings(slots=count, context=2048))
            (request,) = (await through_averbalize(model, 1)).requests
            many = [replace(request, sampling=replace(request.sampling, seed=n)) for n in range(requests)]
            speeds[f"{count} slots"].append(await speed(partial(through_local, model, many)))
            await model.aclose()
    return speeds


async def speed(arm: Callable[[], Awaitable[int]]) -> float:
    started = time.perf_counter()
    tokens = await arm()
    return tokens / (time.perf_counter() - started)


def summary(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    base = next(iter(speeds.values()))
    return {
        name: {
            "tokens_per_second": round(statistics.median(values), 1),
            "ratio": round(statistics.median(v / b for v, b in zip(values, base, strict=True)), 3),
        }
        for name, values in speeds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--requests", type=int, default=16, help="of the comparison of slots")
    parser.add_argument("--slots", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "xllamacpp": version("xllamacpp"),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "settings": {"k": K, "method": "vs-standard", **SETTINGS, **vars(options)},
        "arms": summary(asyncio.run(compare_arms(options.parallel, options.rounds))),
        "slots": summary(asyncio.run(compare_slots(options.slots, options.requests, options.rounds))),
    }
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        if name not in ("arms", "slots"):
            print(f"{name}: {value}")
    for row, values in (report["arms"] | report["slots"]).items():
        print(f"{row:16} {values['tokens_per_second']:8.1f} tokens/s   {values['ratio']:.3f}")


if __name__ == "__main__":
    main()
