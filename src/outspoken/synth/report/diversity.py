"""How diverse the records of each step are, all measured on equally many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import lexical, sets
from outspoken.same_text import text_key
from outspoken.synth.steps.base import StepProgress

__all__ = ["CHOICES", "MEASURES", "DiversityMeasure", "TextPool", "diversity", "size_of"]

CHOICES = 19
"""How many random choices of n records a step is measured on that has more than n."""

FEW = 10
"""Steps with fewer records do not decide on how many all others are measured."""

Vectors = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class DiversityMeasure:
    """A measure of a set of texts, and of their vectors where it is one `of_vectors`."""

    name: str
    title: str
    better: str
    about: str
    make: Callable[[Sequence[str]], float] | Callable[[Vectors], float]
    of_vectors: bool = False
    scale: int = 1


@dataclass(frozen=True, slots=True)
class TextPool:
    """The texts of a step's records, or of a sample of them; `kept` is how many records there are."""

    step: str
    label: str
    kept: int
    texts: tuple[str, ...]


def _distinct(texts: Sequence[str]) -> float:
    return len(set(map(text_key, texts))) / len(texts)


MEASURES = (
    DiversityMeasure(
        "semantic_diversity",
        "Difference in meaning",
        "higher",
        "Semantic diversity: mean of 1 - clip(cosine, 0, 1) of the embeddings over all pairs, times 100 "
        "(arXiv 2510.01171, section 5). It hangs on the embedder, not on n.",
        sets.semantic_diversity,
        True,
        100,
    ),
    DiversityMeasure(
        "vendi",
        "Vendi score",
        "higher",
        "As many wholly different records would be as diverse: exp of the entropy of the eigenvalues of the "
        "cosines of all pairs over n (Friedman and Dieng 2023). From 1 to n.",
        sets.vendi,
        True,
    ),
    DiversityMeasure(
        "distinct",
        "Distinct texts",
        "higher",
        "Different texts over all, times 100; case, blanks and closing punctuation make no difference. Falls as n "
        "grows.",
        _distinct,
        scale=100,
    ),
    DiversityMeasure(
        "distinct_2",
        "Distinct pairs of words",
        "higher",
        "distinct-2: different pairs of neighbouring words over all of them, times 100 (Li et al. 2016). Falls as "
        "n and the texts grow.",
        lambda texts: lexical.distinct_n(texts, 2),
        scale=100,
    ),
    DiversityMeasure(
        "self_bleu",
        "Self-BLEU",
        "lower",
        "Mean BLEU of each text against all others, times 100 (Zhu et al. 2018). Grows with n.",
        lexical.self_bleu,
        scale=100,
    ),
    DiversityMeasure(
        "compression_ratio",
        "Compression ratio",
        "lower",
        "Size of the texts over their size in gzip: how repetitive they are (Shaib et al. 2024). Grows with n.",
        lexical.compression_ratio,
    ),
)


def size_of(pools: Sequence[TextPool], sample: int) -> int:
    """On how many records each step is measured: the smallest step's, at most `sample`; 0 where none has two.

    A step of fewer than ten would leave the others too few, and is left out unless all are so small.
    """
    sizes = [len(pool.texts) for pool in pools]
    counted = [size for size in sizes if size >= FEW] or [size for size in sizes if size > 1]
    return min([*counted, sample]) if counted else 0


async def diversity(
    pools: Sequence[TextPool],
    n: int,
    vectors: Callable[[Sequence[str]], Vectors] | None,
    seed: int,
    watch: StepProgress,
) -> list[dict[str, Any]]:
    """The measures of each step on n of its records: mean, least and greatest of `CHOICES` random choices where it
    has more than n, and one figure where it has n.

    The choices describe these records: `low` to `high` says how far a figure hangs on which of them were taken,
    not what the model would make another time.
    """
    made: dict[tuple[str, ...], dict[str, Any]] = {}
    told = []
    for at, pool in enumerate(pools):
        watch.tell("measuring diversity", at, len(pools))
        entry: dict[str, Any] = {"step": pool.step, "label": pool.label, "kept": pool.kept}
        if not 1 < n <= len(pool.texts):
            told.append({**entry, "n": None, "of": len(pool.texts), "choices": 0, "measures": {}, "undefined": {}})
            continue
        if pool.texts not in made:
            made[pool.texts] = await _measured(pool.texts, n, vectors, seed)
        told.append({**entry, "n": n, "of": len(pool.texts), **made[pool.texts]})
    return told


async def _measured(
    texts: tuple[str, ...], n: int, vectors: Callable[[Sequence[str]], Vectors] | None, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng([abs(seed), seed < 0])
    choices = 1 if n == len(texts) else CHOICES
    found: dict[str, list[float]] = {}
    undefined: dict[str, str] = {}
    for _ in range(choices):
        chosen = [texts[at] for at in np.sort(rng.choice(len(texts), n, replace=False))]
        figures = await asyncio.to_thread(_figures, chosen, vectors, undefined)
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return {
        "choices": choices,
        "measures": {name: _summed(values, choices) for name, values in found.items() if name not in undefined},
        "undefined": undefined,
    }


def _figures(
    texts: Sequence[str], vectors: Callable[[Sequence[str]], Vectors] | None, undefined: dict[str, str]
) -> dict[str, float]:
    embedded = None if vectors is None else vectors(texts)
    figures = {}
    for measure in MEASURES:
        given: Any = embedded if measure.of_vectors else texts
        if given is None or measure.name in undefined:
            continue
        try:
            figures[measure.name] = measure.make(given)
        except UndefinedError as error:
            undefined[measure.name] = str(error)
    return figures


def _summed(values: Sequence[float], choices: int) -> Mapping[str, float | None]:
    low, high = (min(values), max(values)) if choices > 1 else (None, None)
    return {"value": float(np.mean(values)), "low": low, "high": high}
