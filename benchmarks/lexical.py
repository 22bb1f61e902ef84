"""All-pairs ROUGE-L against rouge-score, self-BLEU against nltk: 1,000 texts of 60 words, and that they are equal.

`python benchmarks/lexical.py [--full] [--json]` (group `bench`). The peers need minutes for all texts, so they
process a sample, and their seconds are scaled up; with `--full` they process everything. Ours is the median of
several runs, in the same process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from outspoken.measure.lexical import _bleu_of_each, rouge_l_pairs, self_bleu
from outspoken.measure.tokenization import words

TEXTS, LENGTH, VOCABULARY, REPEATS = 1_000, 60, 20_000, 7


def zipf_texts(generator: random.Random) -> list[str]:
    """Lower-case words of Latin letters, on which all tokenisers agree, drawn with weights 1 / (rank + 2)."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = list({"".join(generator.choices(letters, k=generator.randint(2, 9))): None for _ in range(VOCABULARY)})
    weights = [1 / (rank + 2) for rank in range(len(known))]
    return [" ".join(generator.choices(known, weights, k=LENGTH)) for _ in range(TEXTS)]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def figures(ours: float, theirs: float, done: int, total: int, off: float, wanted: int) -> dict[str, object]:
    scaled = theirs * total / done
    return {
        "ours_s": round(ours, 4),
        "peer_s": round(scaled, 1),
        "peer_measured": "all" if done == total else f"{done:,} of {total:,} in {theirs:.2f} s, scaled",
        "largest_difference": off,
        "ratio": round(scaled / ours),
        "wanted": wanted,
    }


def rouge(texts: list[str], generator: random.Random, full: bool) -> dict[str, object]:
    pairs = list(itertools.combinations(range(len(texts)), 2))
    sample = range(len(pairs)) if full else sorted(generator.sample(range(len(pairs)), 3_000))
    scorer = RougeScorer(["rougeL"])
    scores: list[float] = []

    def theirs() -> None:
        for at in sample:
            first, second = pairs[at]
            scores.append(scorer.score(texts[first], texts[second])["rougeL"].fmeasure)

    ours = statistics.median(seconds(lambda: rouge_l_pairs(texts)) for _ in range(REPEATS))
    peer = seconds(theirs)
    own = rouge_l_pairs(texts)
    off = max(abs(float(own[at]) - score) for at, score in zip(sample, scores, strict=True))
    return figures(ours, peer, len(sample), len(pairs), off, 2_000)


def bleu(texts: list[str], generator: random.Random, full: bool) -> dict[str, object]:
    split = [words(text) for text in texts]
    smooth = SmoothingFunction().method1
    sample = range(len(texts)) if full else sorted(generator.sample(range(len(texts)), 20))
    scores: list[float] = []

    def score(at: int) -> float:
        return float(sentence_bleu(split[:at] + split[at + 1 :], split[at], smoothing_function=smooth))

    ours = statistics.median(seconds(lambda: self_bleu(texts)) for _ in range(REPEATS))
    peer = seconds(lambda: scores.extend(map(score, sample)))
    own = _bleu_of_each(split, 4)
    off = max(abs(float(own[at]) - score) for at, score in zip(sample, scores, strict=True))
    return figures(ours, peer, len(sample), len(texts), off, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="let the peers do everything, no samples")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator = random.Random(0)
    texts = zipf_texts(generator)
    results = {
        "rouge_l against rouge-score": rouge(texts, generator, options.full),
        "self_bleu against nltk": bleu(texts, generator, options.full),
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, entry in results.items():
        print(name, *(f"  {key}: {value}" for key, value in entry.items()), sep="\n")


if __name__ == "__main__":
    main()
