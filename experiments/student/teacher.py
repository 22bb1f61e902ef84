"""A teacher with a known distribution, behind a small OpenAI-compatible server: `python teacher.py`.

Its models are named BEHAVIOUR-SEED, such as "aligned-1"; the seed decides which questions are common
(`tasks.world`). It answers its own questions rightly. Asked for one question, an aligned model draws it from
p^gamma / Z, where p is its base distribution and gamma the power of alignment (arXiv 2510.01171, equation 3).
Asked for k questions with their probabilities, it gives k different ones and states p for each:

- `aligned`: drawn from p itself. This assumes the paper's claim about the distribution level;
- `strict`: drawn from p^gamma / Z, as `outspoken levels` simulates it: a collapsed model gives likely ones first;
- `base`: gamma is always 1.

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

__all__ = ["BEHAVIOURS", "GAMMA", "reply", "serve"]

GAMMA = 3.85
"""1 + alpha / beta with the published alpha = 0.57 and beta = 0.2."""
BEHAVIOURS = ("aligned", "strict", "base")
_ASKS_FOR_MANY = re.compile(
    r"Generate (\d+) (?:MORE )?(?:alternative )?responses to the (?:original )?input prompt"
)
_MODEL = re.compile(rf"({'|'.join(BEHAVIOURS)})-(\d+)")


def reply(body: dict[str, Any]) -> str:
    """The teacher's reply to a request. Raises `LookupError` for an unknown model."""
    behaviour, seed = _read_model(body["model"])
    prompt = body["messages"][-1]["content"]
    if (known := tasks.answers().get(prompt)) is not None:
        return known
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest))
    several = _ASKS_FOR_MANY.match(prompt)
    sharpened = behaviour == "strict" or (several is None and behaviour == "aligned")
    weights, world = _weights(seed, GAMMA if sharpened else 1.0), tasks.world(seed)
    if several is None:
        # The last cumulative share may be slightly below 1.
        at = int(np.searchsorted(np.cumsum(weights), random.random() * (1 - 1e-12)))
        return world.records[at].question
    drawn = _draw_distinct(weights, int(several[1]), random)
    responses = [
        {"text": world.records[at].question, "probability": float(f"{world.base[at]:.2g}")} for at in drawn
    ]
    return json.dumps({"responses": responses})


def _draw_distinct(weights: NDArray[np.float64], k: int, random: np.random.Generator) -> NDArray[np.intp]:
    """k different indices, drawn without replacement: the largest of log-weight plus Gumbel noise (Vieira
    2014)."""
    with np.errstate(divide="ignore"):
        return np.argsort(-(np.log(weights) + random.gumbel(size=len(weights))))[:k]


def _read_model(name: str) -> tuple[str, int]:
    match = _MODEL.fullmatch(name)
    if match is None:
        names = ", ".join(f"{behaviour}-SEED" for behaviour in BEHAVIOURS)
        raise LookupError(f"there is no model {name!r}: choose one of {names}")
    return match[1], int(match[2])


@lru_cache
def _weights(seed: int, gamma: float) -> NDArray[np.float64]:
    return sharpen(tasks.world(seed).base, gamma)


async def _completions(request: web.Request) -> web.Response:
    body = await request.json()
    try:
        text = reply(body)
    except LookupError as error:
        return web.json_response({"error": {"message": str(error), "code": "model_not_found"}}, status=404)
    prompt_tokens = sum(_tokens(message["content"]) for message in body["messages"])
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": _tokens(text)}
    usage["total_tokens"] = sum(usage.values())
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response(
        {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
    )


def _tokens(text: str) -> int:
    """An estimate: four letters each."""
    return -(-len(text) // 4)


async def _models(request: web.Request) -> web.Response:
    names = [f"{behaviour}-1" for behaviour in BEHAVIOURS]
    return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def serve(port: int) -> None:
    """Serve on the loopback address until cancelled, and print the URL. Port 0 chooses a free port."""
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
