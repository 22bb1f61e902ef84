"""The servers of `serve.py`, each a process that prints its ports and ends with SIGTERM:

python parts.py outspoken --upstream URL | --model NAME [--pools N --texts N]
python parts.py bare < BYTES        the bare Starlette route that returns these bytes
python parts.py proxy --upstream URL        the plain aiohttp reverse proxy
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FAULTS", "REPLY", "part", "process"]

HERE = Path(__file__).resolve()
FAULTS = HERE.parents[2] / "tests" / "faults.py"
REPLY = HERE.parents[1] / "peers" / "server.py"


@contextmanager
def process(script: Path, *arguments: str, given: bytes = b"") -> Iterator[list[int]]:
    """A server in its own process; yields the ports that it prints."""
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            child.stdin.write(given)
            child.stdin.close()
            yield [int(word) for word in child.stdout.readline().split()]
        finally:
            child.terminate()


def part(*arguments: str, given: bytes = b""):
    """One of the servers of this file."""
    return process(HERE, *arguments, given=given)


async def outspoken(options: argparse.Namespace) -> None:
    """`outspoken serve` without its command line, and a second port that reports tasks, files and memory."""
    from outspoken.models import get_model
    from outspoken.serve.app import create_app
    from outspoken.serve.backend import OneModel, Upstream
    from outspoken.serve.limits import ServerLimits

    # As on the command line: uvicorn logs responses to clients that left as its own faults.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    logging.getLogger("outspoken").setLevel(logging.ERROR)  # the faults of the upstream are intended
    limits = ServerLimits(max_k=1000, max_pools=options.pools, max_texts=options.texts, timeout=60.0)
    if options.upstream:
        backend = Upstream.at(options.upstream, idle_seconds=limits.timeout)
    else:
        backend = OneModel(get_model(options.model))
    await backend.prepare()
    gc.collect()
    gc.freeze()
    side = await asyncio.start_server(_report, "127.0.0.1", 0)
    await _serve(create_app(backend, limits=limits), side.sockets[0].getsockname()[1])


async def bare(_: argparse.Namespace) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    body = sys.stdin.buffer.read()

    async def answer(_: Request) -> Response:
        return Response(body, media_type="application/json")

    await _serve(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])]))


async def _serve(app, *ports: int) -> None:
    """On the same socket, protocol and settings as `outspoken serve`."""
    from outspoken.serve.http.server import Server, listen
    from outspoken.serve.limits import ServerLimits

    listening = listen("127.0.0.1", 0)
    own = listening.getsockname()[1]
    server = Server(app, ServerLimits(), ready=lambda: print(own, *ports, flush=True))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve([listening])


async def _report(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    gc.collect()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    with open("/proc/self/statm", "rb") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    state = {
        "tasks": len(tasks),
        "files": len(os.listdir("/proc/self/fd")),
        "mb": round(resident / 1e6, 1),
        "names": sorted(getattr(task.get_coro(), "__qualname__", "?") for task in tasks),
    }
    writer.write(json.dumps(state).encode() + b"\n")
    writer.close()


async def proxy(options: argparse.Namespace) -> None:
    import aiohttp
    from aiohttp import web

    hop = {"connection", "host", "keep-alive", "transfer-encoding", "date", "server"}
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in hop}
        url = options.upstream.removesuffix("/v1") + request.path_qs
        async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in hop}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(runner.addresses[0][1], flush=True)
    await stopped.wait()
    await session.close()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("outspoken", "bare", "proxy"))
    parser.add_argument("--upstream")
    parser.add_argument("--model")
    parser.add_argument("--pools", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=200_000)
    options = parser.parse_args()
    asyncio.run({"outspoken": outspoken, "bare": bare, "proxy": proxy}[options.part](options))


if __name__ == "__main__":
    main()
