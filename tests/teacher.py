"""A server that makes sums and answers them, inside a test or as a process of its own:

    python tests/teacher.py LOG [SECONDS]

Its first line of output is its port. Each request leaves one line in the file LOG, and is answered after SECONDS.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

__all__ = ["completion", "handler"]

_ASKED = re.compile(r"Generate (\d+) ")
_SUM = re.compile(r"(\d+) and (\d+)")


def completion(text: str) -> dict[str, Any]:
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "model": "teacher",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }


def reply(said: str, number: int, numbers: int, certain: int = 100) -> str:
    """Candidates where several are asked for, wrong answers where those are, else one answer."""
    if "wrong answers" in said:
        wrong = [f"I think the answer is {at}." for at in (1000, 1001, 1000)]
        return json.dumps({"responses": [{"text": text, "probability": 0.3} for text in wrong]})
    if found := _ASKED.search(said):
        made = []
        for at in range(int(found[1])):
            digest = hashlib.sha256(f"{number}/{at}".encode()).digest()
            one, other = digest[0] % numbers, digest[1] % numbers
            made.append({"text": f"分數 {one} and {other}, together 🍎?", "probability": 0.1})
        return json.dumps({"responses": made}, ensure_ascii=False)
    terms = _SUM.search(said)
    if terms is None:
        return "What sum?"
    total = int(terms[1]) + int(terms[2])
    # Of larger sums it gets another answer each time.
    return f"They make {total}. The answer is {total + (number if total > certain else 0)}."


def handler(
    log: Callable[[str], None],
    *,
    numbers: int = 90,
    certain: int = 100,
    seconds: float = 0.0,
    fails: Callable[[str], bool] = lambda said: False,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """`log` receives the messages of each request; sums are of two `numbers` from 0; what `fails` gets a 500."""
    asked = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        number = asked
        said = json.dumps((await request.json())["messages"], ensure_ascii=False)
        await asyncio.sleep(seconds)
        log(said)
        if fails(said):
            return web.json_response({"error": {"message": "not today"}}, status=500)
        return web.json_response(completion(reply(said, number, numbers, certain)))

    return handle


async def _serve(path: Path, seconds: float) -> None:
    def log(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler(log, seconds=seconds))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
