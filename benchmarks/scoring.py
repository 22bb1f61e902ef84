"""Tokens of responses scored a second, beside a bare loop over `transformers`, on pairs that share their prompt.

    python benchmarks/scoring.py [PAIRS] [MODEL]

PAIRS is 24 and MODEL `smollm2` where they are left out (`gemma3-270m`, a folder or a GGUF file are others). Both
compute in bfloat16 with the same weights. The bare loop is what one writes by hand: each text alone through the
whole model, log-softmax over all its positions, and the tokens of the response picked out. The two take turns,
three times each, and the fastest turn of each counts.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch

from outspoken.models._causal_lm import CausalLM, TokenLogprobs, load

SHORTEST, LONGEST = 0.5, 2.0
TURNS = 3


def pairs(count: int) -> list[tuple[str, str]]:
    """(prompt, response), two of each prompt, cut from the project's own pages: about 100 words and 50 words."""
    root = Path(__file__).parents[1]
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("docs/*.md"))).split()
    draw = random.Random(7)

    def text(average: int) -> str:
        start = draw.randrange(len(words) - 4 * average)
        return " ".join(words[start : start + round(average * draw.uniform(SHORTEST, LONGEST))])

    found = []
    for _ in range(count):
        prompt = text(80)
        found += [(prompt, " " + text(40)), (prompt, " " + text(40))]
    return found


def bare(model: CausalLM, read: list[TokenLogprobs]) -> list[float]:
    found = []
    with torch.inference_mode():
        for each in read:
            ids = torch.tensor([each.piece.ids])
            table = model.passes._model(ids).logits[0].float().log_softmax(-1)
            of = table[:-1].gather(1, ids[0, 1:, None])[each.piece.start - 1 :, 0]
            found.append(float(of.mean()))
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    source = sys.argv[2] if len(sys.argv) > 2 else "smollm2"
    model = load(source, "bfloat16", offline=False)
    read = [found for pair in pairs(count) if isinstance(found := model.read(*pair, None), TokenLogprobs)]
    tokens = sum(len(each.tokens) for each in read)
    shared = sum(each.piece.start for each in read[::2])
    threads = torch.get_num_threads()
    print(f"{source}: {count} pairs, {shared} tokens of prompts, {tokens} of responses, {threads} threads")
    ours = theirs = float("inf")
    for _ in range(TURNS):
        begun = time.perf_counter()
        by_hand = bare(model, read)
        middle = time.perf_counter()
        found = model.passes.logprobs([each.piece for each in read])
        theirs, ours = min(theirs, middle - begun), min(ours, time.perf_counter() - middle)
    off = max(abs(a - sum(b) / len(b)) for a, b in zip(by_hand, found, strict=True))
    print(f"bare loop     {tokens / theirs:7.0f} tokens/s")
    print(f"outspoken     {tokens / ours:7.0f} tokens/s, {theirs / ours:.2f} times as fast (wanted: 1.5)")
    print(f"largest difference of a mean log-probability: {off:.3f} nats a token")


if __name__ == "__main__":
    main()
