"""Fit the equivalence of responses by meaning on half of NoveltyBench's prompts, and report it on the other half.

    python tools/fit_same_meaning.py FOLDER

FOLDER holds gpt-4o_curated.jsonl and humans_curated.jsonl. The prompts with even numbers are fitted, by a logistic
regression whose penalty and threshold are chosen by cross-validation over prompts; those with odd numbers are
reported, beside the bare threshold on the cosine that is best on the fitted half. The intervals of the difference
resample prompts. Average linkage of the same pairs is tried on the fitted half alone. Prints figures and
coefficients. `--swap` exchanges the halves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from outspoken.measure import same_meaning as model
from outspoken.measure.embedding import embedder
from outspoken.measure.sets import partition_by_similarity, unit_rows
from outspoken.measure.short_answers import answer_of
from outspoken.same_text import text_key

SOURCES = {"gpt-4o": "gpt-4o_curated.jsonl", "people": "humans_curated.jsonl"}
FOLDS = 5
PENALTIES = (1, 3, 10, 30, 100)
THRESHOLDS = np.arange(0.3, 0.7, 0.02)
RESAMPLES = 4000
Classify = Callable[["Annotated"], Sequence[int]]


@dataclass(frozen=True)
class Annotated:
    """The responses to one prompt, their embeddings, and the published class of each."""

    number: int
    texts: list[str]
    classes: list[int]
    rows: np.ndarray

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The features of all pairs, and whether each is of one class."""
        i, j = np.triu_indices(len(self.texts), 1)
        classes = np.array(self.classes)
        features = model.pair_features(self.texts, self.rows, model.mean_cosine(self.rows))
        return features, (classes[i] == classes[j]).astype(float)


async def load(folder: Path) -> dict[str, list[Annotated]]:
    annotated: dict[str, list[Annotated]] = {}
    minilm = embedder("minilm")
    for source, name in SOURCES.items():
        entries = [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
        annotated[source] = [
            Annotated(
                int(entry["id"].rpartition("-")[2]),
                entry["generations"],
                entry["partition"],
                unit_rows(await minilm.embed(entry["generations"])),
            )
            for entry in entries
        ]
    await minilm.aclose()
    return annotated


def fit(prompts: Sequence[Annotated], penalty: float) -> tuple[np.ndarray, float]:
    """The coefficients and the intercept; each prompt counts alike, however many pairs it has."""
    parts = [one.pairs() for one in prompts]
    x, y = np.concatenate([features for features, _ in parts]), np.concatenate([same for _, same in parts])
    weights = np.concatenate([np.full(len(same), 40 / max(1, len(same))) for _, same in parts])
    mean, sd = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = np.column_stack([np.ones(len(x)), (x - mean) / sd])
    ridge = np.eye(design.shape[1]) * penalty
    ridge[0, 0] = 0
    beta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design.T * (weights * p * (1 - p))) @ design + ridge
        step = np.linalg.solve(hessian, design.T @ (weights * (y - p)) - ridge @ beta)
        beta += step
    slopes = beta[1:] / sd
    return slopes, float(beta[0] - slopes @ mean)


def with_model(slopes: np.ndarray, intercept: float, threshold: float) -> Classify:
    def classify(one: Annotated) -> Sequence[int]:
        model._COEFFICIENTS, model._INTERCEPT, model.THRESHOLD = slopes, intercept, threshold
        return model.same_meaning(one.texts, one.rows)

    return classify


def pairwise(classes: Sequence[int]) -> np.ndarray:
    values = np.array(classes)
    i, j = np.triu_indices(len(values), 1)
    return values[i] == values[j]


def rand_index(found: Sequence[int], true: Sequence[int]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985)."""
    a, b = np.unique(found, return_inverse=True)[1], np.unique(true, return_inverse=True)[1]
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    both, rows, columns = ((part * (part - 1) / 2).sum() for part in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / (len(a) * (len(a) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))


def figures(prompts: Sequence[Annotated], classify: Classify) -> tuple[float, float, float, float]:
    """Pairwise F1, mean adjusted Rand index, mean error of the number of classes, and its rank correlation."""
    found = [classify(one) for one in prompts]
    hits = wrong = missed = 0
    for classes, one in zip(found, prompts, strict=True):
        said, true = pairwise(classes), pairwise(one.classes)
        hits, wrong, missed = (
            hits + (said & true).sum(),
            wrong + (said & ~true).sum(),
            missed + (~said & true).sum(),
        )
    numbers = [(len(set(classes)), len(set(one.classes))) for classes, one in zip(found, prompts, strict=True)]
    return (
        float(2 * hits / (2 * hits + wrong + missed)),
        float(np.mean([rand_index(classes, one.classes) for classes, one in zip(found, prompts, strict=True)])),
        float(np.mean([abs(a - b) for a, b in numbers])),
        float(spearmanr(*zip(*numbers, strict=True)).statistic),
    )


def goodness(groups: dict[str, list[Annotated]], classify: Classify) -> float:
    """The mean of F1 and Rand index over the two sources."""
    return float(np.mean([sum(figures(prompts, classify)[:2]) for prompts in groups.values()]))


def linked(groups: dict[str, list[Annotated]]) -> float:
    """The best goodness of average linkage by cross-validation, over all penalties and thresholds."""
    best = -1.0
    for penalty in PENALTIES:
        fits = cross_fits(groups, penalty)
        trees = {
            id(one): linkage(squareform(1 - likelihoods(one, *fits[at % FOLDS]), checks=False), "average")
            for prompts in groups.values()
            for at, one in enumerate(prompts)
        }
        for threshold in THRESHOLDS:

            def classify(one: Annotated, trees=trees, threshold=threshold) -> Sequence[int]:  # type: ignore[no-untyped-def]
                return [int(number) for number in fcluster(trees[id(one)], 1 - threshold, "distance")]

            best = max(best, goodness(groups, classify))
    return best


def likelihoods(one: Annotated, slopes: np.ndarray, intercept: float) -> np.ndarray:
    """The probability that two responses are the same, of shape (n, n); 1 where their answers are equal."""
    keys = np.array([text_key(answer_of(text)) for text in one.texts])
    table = (keys[:, None] == keys[None, :]).astype(float)
    i, j = np.triu_indices(len(keys), 1)
    p = 1 / (1 + np.exp(-(one.pairs()[0] @ slopes + intercept)))
    table[i, j] = table[j, i] = np.maximum(table[i, j], p)
    return table


def cross_fits(groups: dict[str, list[Annotated]], penalty: float) -> list[tuple[np.ndarray, float]]:
    """A fit for each fold of the prompts, without that fold."""
    return [
        fit([one for prompts in groups.values() for at, one in enumerate(prompts) if at % FOLDS != fold], penalty)
        for fold in range(FOLDS)
    ]


def choose(groups: dict[str, list[Annotated]]) -> tuple[float, float, float]:
    """The penalty and the threshold that are best by cross-validation over prompts, and their goodness."""
    best = (-1.0, 0.0, 0.0)
    folds = {id(one): at % FOLDS for prompts in groups.values() for at, one in enumerate(prompts)}
    for penalty in PENALTIES:
        fits = cross_fits(groups, penalty)
        for threshold in THRESHOLDS:

            def classify(one: Annotated, fits=fits, threshold=threshold) -> Sequence[int]:  # type: ignore[no-untyped-def]
                return with_model(*fits[folds[id(one)]], threshold)(one)

            best = max(best, (goodness(groups, classify), penalty, float(threshold)))
    return best[1], best[2], best[0]


def difference(prompts: Sequence[Annotated], ours: Classify, theirs: Classify) -> list[str]:
    """What `ours` adds to F1, Rand index and error of the number, each with a 95 % interval over prompts."""
    counts = [[_counts(one, classify(one)) for one in prompts] for classify in (ours, theirs)]
    a, b = (np.array(one, dtype=float) for one in counts)
    random = np.random.default_rng(0)
    draws = random.integers(len(prompts), size=(RESAMPLES, len(prompts)))
    added = _summary(a) - _summary(b)
    low, high = np.percentile([_summary(a[at]) - _summary(b[at]) for at in draws], [2.5, 97.5], axis=0)
    return [f"{d:+.3f} [{lo:+.3f}, {hi:+.3f}]" for d, lo, hi in zip(added, low, high, strict=True)]


def _counts(one: Annotated, found: Sequence[int]) -> tuple[float, ...]:
    said, true = pairwise(found), pairwise(one.classes)
    error = abs(len(set(found)) - len(set(one.classes)))
    return (said & true).sum(), (said & ~true).sum(), (~said & true).sum(), rand_index(found, one.classes), error


def _summary(counts: np.ndarray) -> np.ndarray:
    hits, wrong, missed = counts[:, :3].sum(axis=0)
    return np.array([2 * hits / (2 * hits + wrong + missed), *counts[:, 3:].mean(axis=0)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--swap", action="store_true", help="fit the odd prompts and report the even ones")
    options = parser.parse_args()
    annotated = asyncio.run(load(options.folder))
    fitted, held_out = (
        {
            source: [one for one in prompts if one.number % 2 == (part ^ options.swap)]
            for source, prompts in annotated.items()
        }
        for part in (0, 1)
    )
    bare = max(
        np.arange(0.4, 0.95, 0.01),
        key=lambda t: goodness(fitted, lambda one: partition_by_similarity(one.rows, t)),
    )
    penalty, threshold, greedy = choose(fitted)
    print(
        f"cross-validated F1 + Rand index: first of each class {greedy:.3f}, average linkage {linked(fitted):.3f}"
    )
    slopes, intercept = fit([one for prompts in fitted.values() for one in prompts], penalty)
    print(f"penalty {penalty:g}, threshold {threshold:.2f}, bare threshold {bare:.2f}")
    print("coefficients", ", ".join(f"{value:.4f}" for value in slopes), f"intercept {intercept:.4f}")
    print("held out: F1, adjusted Rand index, error of the number of classes, its rank correlation")
    ours, theirs = with_model(slopes, intercept, threshold), lambda one: partition_by_similarity(one.rows, bare)
    for source, prompts in held_out.items():
        for name, classify in (("bare", theirs), ("model", ours)):
            print(f"{source:8}{name:8}", *(f"{value:.3f}" for value in figures(prompts, classify)))
        print(f"{source:8}{'added':8}", *difference(prompts, ours, theirs))


if __name__ == "__main__":
    main()
