"""The analysis of a creative-writing experiment, without embedding: 100 prompts, 30 responses, 7 methods."""

from __future__ import annotations

import argparse
import asyncio
import random
import time

import numpy as np

from outspoken.measure import Group, PromptGroup, Response, analyse

LIMIT_SECONDS = 60.0
METHODS = ("direct", "direct-cot", "sequence", "multi-turn", "vs-standard", "vs-cot", "vs-multi")
WORDS = 60


class Ready:
    """Prepared vectors instead of an embedder, whose speed embedding.py measures."""

    name = identity = "random"

    def __init__(self, texts: list[str], seed: int) -> None:
        vectors = np.random.default_rng(seed).normal(size=(len(texts), 384)).astype(np.float32)
        self._vectors = dict(zip(texts, vectors, strict=True))

    async def embed(self, texts, progress=None):  # type: ignore[no-untyped-def]
        return np.stack([self._vectors[text] for text in texts])


def groups(prompts: int, responses: int, seed: int) -> list[Group]:
    """Responses of words with the frequencies of language (a word's is one over its rank)."""
    random_ = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(3_000)]
    shares = [1 / rank for rank in range(1, len(vocabulary) + 1)]

    def prompt(number: int) -> PromptGroup:
        texts = (" ".join(random_.choices(vocabulary, shares, k=WORDS)) for _ in range(responses))
        answers = tuple(Response(text, 1 / 5, call=index // 5) for index, text in enumerate(texts))
        return PromptGroup(f"p{number}", f"prompt {number}", answers)

    return [Group(method, "m", tuple(prompt(number) for number in range(prompts))) for method in METHODS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--responses", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recorded = groups(given.prompts, given.responses, given.seed)
    texts = [response.text for group in recorded for prompt in group.prompts for response in prompt.responses]
    embedder = Ready(sorted(set(texts)), given.seed)
    began = time.perf_counter()
    analysis = asyncio.run(analyse(recorded, embedder=embedder))  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    print(
        f"{len(METHODS)} methods x {given.prompts} prompts x {given.responses} responses ({len(texts):,} texts of "
        f"{WORDS} words): {len(analysis.comparisons):,} comparisons, {seconds:.1f} s; "
        f"limit {LIMIT_SECONDS:.0f} s, ratio {seconds / LIMIT_SECONDS:.2f}"
    )


if __name__ == "__main__":
    main()
