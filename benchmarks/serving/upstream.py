"""The fault server of the tests, which also streams, and fails within its streams.

    python upstream.py --seed 1 --share 0.3

Prints its port and ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import faults

_VALID, _CUT, _ERROR, _GARBAGE, _SILENT_END = "valid", "cut", "error", "garbage", "silent end"


class Streaming(faults.Faulty):
    """Streams if a request asks for it. Half of the failures then happen in the middle of the stream."""

    def __init__(self, plan: faults.Plan, manner: faults.Manner) -> None:
        super().__init__(plan, manner, record=lambda _: None)
        self._random = random.Random(plan.seed)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        if not asked.get("stream") or self._random.random() < self.plan.share / 2:
            return await super().chat(request)
        wrong = self._random.random() < self.plan.share / 2
        return await self._stream(
            request, asked, self._random.choice((_CUT, _ERROR, _GARBAGE, _SILENT_END)) if wrong else _VALID
        )

    async def _stream(self, request: web.Request, asked: dict[str, Any], how: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = self._text(asked)
        pieces = [text[at : at + 20] for at in range(0, len(text), 20)]
        for number, piece in enumerate(pieces):
            if how != _VALID and number == len(pieces) // 2:
                if how == _ERROR:
                    await response.write(
                        _event({"error": {"message": "broke", "type": "server_error", "code": None}})
                    )
                elif how == _GARBAGE:
                    await response.write(b"data: {\xff\x00\n\n")
                elif how == _CUT and request.transport is not None:
                    request.transport.close()
                return response
            await response.write(_event({"model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]}))
            await asyncio.sleep(0.001)
        await response.write(
            _event({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        )
        await response.write(b"data: [DONE]\n\n")
        return response

    def _text(self, asked: dict[str, Any]) -> str:
        new = f"{self._random.getrandbits(48):x}"
        if "response_format" not in asked and "robabilit" not in str(asked["messages"]):
            return f"一杯咖啡 ☕ {new}"
        return json.dumps({"responses": [{"text": f"咖啡 {new} {n}", "probability": 0.1} for n in range(5)]})


def _event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


async def serve(seed: int, share: float) -> None:
    server = Streaming(faults.Plan(seed, share), faults.Manner(delay=0.01, pace=0.0002, huge=50_000))
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(runner.addresses[0][1], flush=True)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--share", type=float, required=True, help="share of the responses that fail, 0 to 1")
    options = parser.parse_args()
    asyncio.run(serve(options.seed, options.share))


if __name__ == "__main__":
    main()
