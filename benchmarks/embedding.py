"""Texts of 60 words embedded per second, by `minilm` in this process and by `wordllama` if it is installed.

    python benchmarks/embedding.py [TEXTS]

TEXTS is 200 by default. `minilm` computes with its default number of threads, and no vectors are read from the
cache.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from outspoken.errors import MissingExtraError
from outspoken.measure.embedding import embedder

WORDS = ["river", "stone", "winter", "letter", "garden", "quiet", "yellow", "market", "doctor", "copper", "window"]
WORDS += ["distant", "harvest", "island", "borrow", "carry", "forget", "measure", "silver", "thunder", "whisper"]


def texts(count: int) -> list[str]:
    draw = random.Random(7)
    return [" ".join(draw.choices(WORDS, k=60)) for _ in range(count)]


async def seconds(name: str, given: list[str]) -> float:
    model = embedder(name, cache=None)
    await model.embed(["the first text loads the model"])
    begun = time.perf_counter()
    await model.embed(given)
    took = time.perf_counter() - begun
    await model.aclose()
    return took


def main() -> None:
    given = texts(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    for name in ("minilm", "wordllama"):
        try:
            took = asyncio.run(seconds(name, given))
        except MissingExtraError as error:
            print(f"{name:<10} {error}")
            continue
        print(f"{name:<10} {len(given)} texts of 60 words in {took:.2f} s: {len(given) / took:,.0f} per second")


if __name__ == "__main__":
    main()
