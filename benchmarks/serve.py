"""Speed and savings of `outspoken serve`, against a bare Starlette route, a plain proxy and the model itself.

    python benchmarks/serve.py [--only economy,pool,pass,first,damaged,soak] [--rounds 9] [--soak 2000] [--json]

Each server is a process of its own; this process is the load. The rounds of the arms are interleaved, and medians
over the rounds are compared with the bars. The full soak test is `--soak 20000`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent / "peers"))
sys.path.insert(0, str(Path(__file__).parent / "serving"))
from load import Load, loaded, post
from parts import FAULTS, REPLY, part, process
from server import CANDIDATES
from soak import soak

PROMPT = "Tell me a joke about coffee ☕."
Row = dict[str, Any]


def row(what: str, value: float, bar: float, *, most: bool = False, **more: Any) -> Row:
    met = value <= bar if most else value >= bar
    return {"what": what, "value": round(value, 3), "bar": f"{'<=' if most else '>='} {bar:g}", "met": met, **more}


def asking(model: str, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def ratio(loads: dict[str, list[Load]], ours: str, theirs: str) -> float:
    """The median of the rounds' ratios: consecutive rounds run under the same conditions."""
    return statistics.median(a.rate / b.rate for a, b in zip(loads[ours], loads[theirs], strict=True))


def median_rates(loads: dict[str, list[Load]]) -> dict[str, float]:
    """Requests a second of each arm: the median of its rounds."""
    return {name: round(statistics.median(load.rate for load in arm)) for name, arm in loads.items()}


# 1. Economy.


async def economy(_: argparse.Namespace) -> list[Row]:
    """1,000 identical requests with k = 20, to an upstream that never repeats itself."""
    rows = []
    for clients in (1, 200):
        with (
            tempfile.TemporaryDirectory() as folder,
            process(FAULTS, "--seed", "1", "--share", "0", "--delay", "0.02", "--log", f"{folder}/log") as (up,),
            part("outspoken", "--upstream", f"http://127.0.0.1:{up}/v1") as (port, _side),
        ):
            request = post(port, asking("m:vs", outspoken={"k": 20}))
            load = await loaded(port, [request] * 1000, clients, keep=True)
            calls = len(Path(folder, "log").read_text().splitlines())
        texts = {json.loads(body)["choices"][0]["message"]["content"] for body in load.bodies}
        at_once = f"of 1,000 requests, {clients} at once"
        rows += [
            row(f"upstream calls {at_once}", calls, 60, most=True),
            row(f"distinct texts {at_once}", len(texts), 900),
        ]
    return rows


# 2. Pool hits.

_K, _HITS, _POOLS = 1000, 480, 20  # a pool is refilled when it has less than half of k


async def pool(options: argparse.Namespace) -> list[Row]:
    """Draws of pooled candidates, against a route that returns the same bytes."""
    loads: dict[str, list[Load]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        process(FAULTS, "--seed", "1", "--share", "0", "--log", f"{folder}/log") as (up,),
        part("outspoken", "--upstream", f"http://127.0.0.1:{up}/v1") as (port, _side),
    ):
        first = await loaded(port, [post(port, asking("m:vs", "a response to copy"))] * 2, 1, keep=True)
        with part("bare", given=first.bodies[1]) as (bare,):
            plain = [post(bare, asking("m:vs", f"{PROMPT} 0.0", outspoken={"k": _K}))]
            await loaded(bare, plain * 500, 32)
            for number in range(options.rounds):
                prompts = [f"{PROMPT} {number}.{n}" for n in range(_POOLS)]
                filled = [post(port, asking("m:vs", prompt, outspoken={"k": _K})) for prompt in prompts]
                await loaded(port, filled, 1)
                mixed = [post(port, asking("m:vs", f"{PROMPT} {number}", outspoken={"k": 20}))] * 1000
                loads.setdefault("hits", []).append(await loaded(port, filled * _HITS, 32))
                loads.setdefault("bare", []).append(await loaded(bare, plain * (_HITS * _POOLS), 32))
                loads.setdefault("with refills", []).append(await loaded(port, mixed, 32))
    return [
        row("pool hits over a bare Starlette route", ratio(loads, "hits", "bare"), 0.5, rates=median_rates(loads)),
    ]


# 3. Forwarding.


async def forwarding(options: argparse.Namespace) -> list[Row]:
    """Forwarded requests, against a plain aiohttp reverse proxy of the same upstream."""
    loads: dict[str, list[Load]] = {}
    alone: dict[str, list[Load]] = {}
    with (
        process(REPLY) as (up,),
        part("outspoken", "--upstream", f"http://127.0.0.1:{up}/v1") as (port, _side),
        part("proxy", "--upstream", f"http://127.0.0.1:{up}/v1") as (proxy,),
    ):
        ports = {"outspoken": port, "proxy": proxy, "upstream": up}
        for at in ports.values():
            await loaded(at, [post(at, asking("m"))] * 200, 32)
        for _ in range(options.rounds):
            for name, at in ports.items():
                loads.setdefault(name, []).append(await loaded(at, [post(at, asking("m"))] * 2000, 32))
                alone.setdefault(name, []).append(await loaded(at, [post(at, asking("m"))] * 300, 1))
    waits = {name: round(statistics.median(load.median for load in arm), 3) for name, arm in alone.items()}
    return [
        row("pass-through: added milliseconds", waits["outspoken"] - waits["upstream"], 5, most=True, ms=waits),
        row(
            "pass-through over an aiohttp proxy",
            ratio(loads, "outspoken", "proxy"),
            0.7,
            rates=median_rates(loads),
        ),
    ]


# 4. The first candidate.

_CANDIDATE = b"event: candidate\n"


async def from_server(port: int, body: bytes) -> float:
    """Seconds until the first candidate arrives; the stream is read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started, seconds = time.perf_counter(), 0.0
    writer.write(body)
    received = b""
    while data := await reader.read(65536):
        received += data
        if not seconds and _CANDIDATE in received:
            seconds = time.perf_counter() - started
        if b"event: distribution\n" in received and received.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    if not seconds:
        raise RuntimeError(f"no candidate arrived: {received[:600]!r}")
    return seconds


async def from_model(stream: AsyncGenerator[Any, None]) -> float:
    started, seconds = time.perf_counter(), 0.0
    async for _ in stream:
        seconds = seconds or time.perf_counter() - started
    return seconds


async def first(options: argparse.Namespace) -> list[Row]:
    """The first streamed candidate from the server, against the same model in this process."""
    import outspoken

    model = outspoken.get_model("local/smollm2")
    pairs = []
    with part("outspoken", "--model", "local/smollm2") as (port, _side):
        own = {"k": 3, "method": "vs-standard", "fresh": True}
        for number in range(options.pairs + 1):
            prompt = f"Name a US state. ({number})"
            body = asking("smollm2", prompt, stream=True, temperature=0, outspoken=own)
            request = post(port, body, "/v1/distributions")
            options_here = {"k": 3, "method": "vs-standard", "temperature": 0.0}
            arms = [
                lambda request=request: from_server(port, request),
                lambda prompt=prompt, options_here=options_here: from_model(
                    outspoken.astream(prompt, model=model, **options_here)
                ),
            ]
            order = (0, 1) if number % 2 else (1, 0)
            times = {arm: await arms[arm]() for arm in order}
            pairs.append((times[0], times[1]))
    del pairs[0]  # includes loading and compiling
    seconds = {"server": statistics.median(a for a, _ in pairs), "here": statistics.median(b for _, b in pairs)}
    overhead = statistics.median(server / here for server, here in pairs)
    what = f"first candidate: through the server over directly, {len(pairs)} pairs"
    return [row(what, overhead, 1.1, most=True, seconds=seconds)]


# 5. Long damaged replies.

_DAMAGED = {
    "an open list of objects": '{"text": "a "b" c", ',
    "quotes in a list": '["a "b",',
    "brackets": "[",
    "tags": "<text>",
    "numbered lines": "1. a (0.5)\n",
    "prose with figures": "The probability of rain is about 60 % in Rome. ",
    "one line of figures": "(0.5) ",
    "escapes": '"\\',
}


async def damaged(_: argparse.Namespace) -> list[Row]:
    """The longest wait of a client for a short reply while a damaged reply of 1 MB to another one is read."""

    async def answer(request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][-1]["content"]
        unit = next((unit for name, unit in _DAMAGED.items() if name in prompt), None)
        content = json.dumps(CANDIDATES) if unit is None else unit * (1_000_000 // len(unit))
        return web.json_response({"model": "m", "choices": [{"message": {"content": content}}]})

    upstream = web.Application()
    upstream.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(upstream)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    waits = {}
    with part("outspoken", "--upstream", f"http://127.0.0.1:{runner.addresses[0][1]}/v1") as (port, _side):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:

            async def ask(prompt: str) -> int:
                async with session.post(url, json=asking("m:vs", prompt)) as response:
                    await response.read()
                    return response.status

            for name in _DAMAGED:
                long = asyncio.create_task(ask(name))
                seconds = []
                while not long.done():
                    started = time.perf_counter()
                    if await ask(f"{PROMPT} {len(waits)}.{len(seconds)}") != 200:
                        raise RuntimeError("a short reply was not answered")
                    seconds.append(time.perf_counter() - started)
                waits[name] = round(max(seconds), 3)
    await runner.cleanup()
    what = "damaged replies of 1 MB: the longest wait of another client, in seconds"
    return [row(what, max(waits.values()), 0.2, most=True, seconds=waits)]


# 6. The soak test.


async def soaking(options: argparse.Namespace) -> list[Row]:
    result = await soak(options.soak, options.seed)
    for kind, counts in sorted(result.table.items()) if not options.json else ():
        print(f"  {kind}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    return [
        row(
            "soak: clients that stayed and got neither a response nor an error",
            len(result.wrong),
            0,
            most=True,
            examples=result.wrong[:5],
        ),
        row("soak: files left open", result.files, 4, most=True),
        row("soak: tasks still running", result.tasks, 0, most=True, names=result.names),
        row("soak: memory at the end over that after a quarter", result.growth, 1.1, most=True, mb=result.mb),
    ]


def line_for(entry: Row) -> str:
    more = "".join(f"; {name} {value}" for name, value in list(entry.items())[4:])
    return f"{'met   ' if entry['met'] else 'MISSED'} {entry['what']}: {entry['value']} (bar {entry['bar']}){more}"


PARTS = {"economy": economy, "pool": pool, "pass": forwarding, "first": first, "damaged": damaged, "soak": soaking}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between: %(default)s")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.only.split(","):
        for entry in asyncio.run(PARTS[name](options)):
            rows.append(entry)
            if not options.json:
                print(line_for(entry), flush=True)
    if options.json:
        versions = {name: version(name) for name in ("aiohttp", "starlette", "uvicorn")}
        print(json.dumps({"python": platform.python_version(), "versions": versions, "rows": rows}))


if __name__ == "__main__":
    main()
