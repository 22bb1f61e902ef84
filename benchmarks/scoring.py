"""Scored tokens per second, compared with a plain loop over `transformers`, on pairs that share their prompt.

    python benchmarks/scoring.py [PAIRS] [MODEL]

PAIRS is 24 and MODEL `smollm2` by default (also `gemma3-270m`, a folder or a GGUF file). Both compute in bfloat16
with the same weights. The plain loop runs each text through the model separately, computes the log-softmax at all
positions, and selects the tokens of the response. The two take turns, three times each; the fastest turn counts.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch

from outspoken.models._batched_scoring import TokenSequence
from outspoken.models._causal_lm import CausalLM, load

SHORTEST, LONGEST = 0.5, 2.0
TURNS = 3


def pairs(count: int) -> list[tuple[str, str]]:
    """(prompt, response), two for each prompt, cut from the project's pages: about 100 words and 50 words."""
    root = Path(__file__).parents[1]
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("docs/*.md"))).split()
    draw = random.Random(7)

    def text(average: int) -> str:
        start = draw.randrange(len(words) - 4 * average)
        return " ".join(words[start : start + round(average * draw.uniform(SHORTEST, LONGEST))])

    chosen = []
    for _ in range(count):
        prompt = text(80)
        chosen += [(prompt, " " + text(40)), (prompt, " " + text(40))]
    return chosen


def plain_loop(model: CausalLM, sequences: list[TokenSequence]) -> list[float]:
    means = []
    with torch.inference_mode():
        for sequence in sequences:
            ids = torch.tensor([sequence.ids])
            table = model.scorer._model(ids).logits[0].float().log_softmax(-1)
            logprobs = table[:-1].gather(1, ids[0, 1:, None])[sequence.start - 1 :, 0]
            means.append(float(logprobs.mean()))
    return means


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    source = sys.argv[2] if len(sys.argv) > 2 else "smollm2"
    model = load(source, "bfloat16", offline=False)
    results = [model.tokenize(*pair, None) for pair in pairs(count)]
    tokenized = [each for each in results if isinstance(each, tuple)]
    sequences = [sequence for sequence, _, _ in tokenized]
    tokens = sum(len(texts) for _, texts, _ in tokenized)
    shared = sum(sequence.start for sequence in sequences[::2])
    threads = torch.get_num_threads()
    print(f"{source}: {count} pairs, {shared} tokens of prompts, {tokens} of responses, {threads} threads")
    ours = theirs = float("inf")
    for _ in range(TURNS):
        started = time.perf_counter()
        means = plain_loop(model, sequences)
        middle = time.perf_counter()
        logprobs = model.scorer.logprobs(sequences)
        theirs, ours = min(theirs, middle - started), min(ours, time.perf_counter() - middle)
    difference = max(abs(a - sum(b) / len(b)) for a, b in zip(means, logprobs, strict=True))
    print(f"plain loop    {tokens / theirs:7.0f} tokens/s")
    print(f"outspoken     {tokens / ours:7.0f} tokens/s, {theirs / ours:.2f} times as fast (required: 1.5)")
    print(f"largest difference of a mean log-probability: {difference:.3f} nats per token")


if __name__ == "__main__":
    main()
