"""A teacher whose distribution is known, behind a small OpenAI-compatible server: `python teacher.py`.

Its models are named WAY-SEED, "aligned-1": the seed says which questions are common (`tasks.world`), the way how
it answers. What it knows it answers rightly. Asked for one question, an aligned model draws it from p^gamma / Z,
where p is its base distribution and gamma what alignment raised it to (arXiv 2510.01171, equation 3). Asked for k
with their probabilities, it names k different ones and states p for each:

- `aligned`: named by p itself. This is the paper's claim about the distribution level, taken as true;
- `strict`: named by p^gamma / Z, as `outspoken levels` has it: a collapsed model thinks of likely ones first;
- `base`: gamma is 1 throughout.

The same request gets the same reply: another draw needs another `seed`, which a run with a seed sends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
from functools import lru_cache
from typing import Any

import numpy as np
import tasks
from aiohttp import web
from numpy.typing import NDArray

from outspoken.theory.sharpening import sharpen

__all__ = ["GAMMA", "WAYS", "reply", "serve"]

GAMMA = 3.85
"""1 + alpha / beta with the published alpha = 0.57 and beta = 0.2."""
WAYS = ("aligned", "strict", "base")
_ASKS_FOR_MANY = re.compile(
    r"Generate (\d+) (?:MORE )?(?:alternative )?responses to the (?:original )?input prompt"
)
_MODEL = re.compile(rf"({'|'.join(WAYS)})-(\d+)")


def reply(body: dict[str, Any]) -> str:
    """What the teacher says to a request. Raises `LookupError` for a model that it has not."""
    way, world = _read_model(body["model"])
    said = body["messages"][-1]["content"]
    if (known := tasks.answers().get(said)) is not None:
        return known
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest))
    asked = _ASKS_FOR_MANY.match(said)
    one = asked is None
    weights = _weights(world, GAMMA if way == "strict" or (one and way == "aligned") else 1.0)
    told = tasks.world(world)
    if one:
        # A draw by its cumulative share; the last share is 1 but for rounding.
        at = int(np.searchsorted(np.cumsum(weights), random.random() * (1 - 1e-12)))
        return told.records[at].question
    assert asked is not None
    named = _named(weights, int(asked[1]), random)
    responses = [{"text": told.records[at].question, "probability": float(f"{told.base[at]:.2g}")} for at in named]
    return json.dumps({"responses": responses})


def _named(weights: NDArray[np.float64], k: int, random: np.random.Generator) -> NDArray[np.intp]:
    """k different ones, drawn one after the other: the largest of log-weight plus Gumbel noise (Vieira 2014)."""
    with np.errstate(divide="ignore"):
        return np.argsort(-(np.log(weights) + random.gumbel(size=len(weights))))[:k]


def _read_model(name: str) -> tuple[str, int]:
    found = _MODEL.fullmatch(name)
    if found is None:
        raise LookupError(f"there is no model {name!r}: name {', '.join(f'{way}-SEED' for way in WAYS)}")
    return found[1], int(found[2])


@lru_cache
def _weights(world: int, gamma: float) -> NDArray[np.float64]:
    return sharpen(tasks.world(world).base, gamma)


async def _completions(request: web.Request) -> web.Response:
    body = await request.json()
    try:
        text = reply(body)
    except LookupError as error:
        return web.json_response({"error": {"message": str(error), "code": "model_not_found"}}, status=404)
    asked = sum(_tokens(message["content"]) for message in body["messages"])
    usage = {"prompt_tokens": asked, "completion_tokens": _tokens(text)}
    usage["total_tokens"] = sum(usage.values())
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response(
        {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
    )


def _tokens(text: str) -> int:
    """About how many: four letters each."""
    return -(-len(text) // 4)


async def _models(request: web.Request) -> web.Response:
    names = [f"{way}-1" for way in WAYS]
    return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def serve(port: int) -> None:
    """Answer on the loopback until cancelled; the address goes to standard output. Port 0 is a free one."""
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", _completions), web.get("/v1/models", _models)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}/v1\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A teacher with a known distribution, as a server.")
    parser.add_argument("--port", type=int, default=18765)
    asyncio.run(serve(parser.parse_args().port))
