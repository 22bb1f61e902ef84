"""The diversity of the records of each step, measured on equally many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import lexical, sets
from outspoken.same_text import text_key
from outspoken.synth.report.document import DiversityRow, DiversityTable, MeasureInfo, MeasureSpread
from outspoken.synth.steps.base import StepProgress

__all__ = ["CHOICES", "TextPool", "measure_diversity", "size_of"]

CHOICES = 19
"""The number of random choices of n records on which a step with more than n records is measured."""

FEW = 10
"""Steps with fewer records do not limit the number of records on which the others are measured."""

Vectors = NDArray[np.floating]
Embed = Callable[[Sequence[str]], Vectors]
_Measures = Mapping[MeasureInfo, Callable[[Any], float]]


@dataclass(frozen=True, slots=True)
class TextPool:
    """The texts of a step's records, or of a sample of them; `kept` is the number of all its records."""

    step: str
    label: str
    kept: int
    texts: tuple[str, ...]


_OF_VECTORS: _Measures = {
    MeasureInfo(
        "semantic_diversity",
        "Difference in meaning",
        "higher",
        "Semantic diversity: mean of 1 - clip(cosine, 0, 1) of the embeddings over all pairs, times 100 "
        "(arXiv 2510.01171, section 5). It depends on the embedder, not on n.",
        100,
    ): sets.semantic_diversity,
    MeasureInfo(
        "vendi",
        "Vendi score",
        "higher",
        "As diverse as this many completely different records, from 1 to n: exp of the entropy of the eigenvalues "
        "of the cosines of all pairs over n (Friedman and Dieng 2023).",
    ): sets.vendi,
}
"""Measures of the embeddings of texts."""

_OF_TEXTS: _Measures = {
    MeasureInfo(
        "distinct",
        "Distinct texts",
        "higher",
        "Different texts over all, times 100, compared without case, blanks and closing marks. Falls as n grows.",
        100,
    ): lambda texts: len(set(map(text_key, texts))) / len(texts),
    MeasureInfo(
        "distinct_2",
        "Distinct pairs of words",
        "higher",
        "distinct-2: different pairs of neighbouring words over all pairs, times 100 (Li et al. 2016). Falls as n "
        "and the texts grow.",
        100,
    ): lambda texts: lexical.distinct_n(texts, 2),
    MeasureInfo(
        "self_bleu",
        "Self-BLEU",
        "lower",
        "Mean BLEU of each text against all others, times 100 (Zhu et al. 2018). Grows with n.",
        100,
    ): lexical.self_bleu,
    MeasureInfo(
        "compression_ratio",
        "Compression ratio",
        "lower",
        "Size of the texts over their size in gzip: how repetitive they are (Shaib et al. 2024). Grows with n.",
    ): lexical.compression_ratio,
}
"""Measures of the texts themselves."""


def size_of(pools: Sequence[TextPool], sample: int) -> int:
    """The number of records on which each step is measured: that of the smallest step, at most `sample`.

    It is 0 if no step has two. Steps with fewer than ten are ignored unless all are so small.
    """
    sizes = [len(pool.texts) for pool in pools]
    counted = [size for size in sizes if size >= FEW] or [size for size in sizes if size > 1]
    return min([*counted, sample]) if counted else 0


async def measure_diversity(
    pools: Sequence[TextPool],
    n: int,
    embed: Embed | None,
    seed: int,
    progress: StepProgress,
    *,
    sample: int = 0,
    no_embeddings: str = "",
) -> DiversityTable:
    """The measures of each step on n of its records: the mean over `CHOICES` random choices if it has more than n.

    `low` to `high` is the range over these choices; it does not say what the model would generate another time.
    `sample` and `no_embeddings` are noted in the table.
    """
    measured: dict[tuple[str, ...], DiversityRow] = {}
    rows = []
    for at, pool in enumerate(pools):
        progress.update("measuring diversity", at, len(pools))
        row = DiversityRow(step=pool.step, label=pool.label, kept=pool.kept, of=len(pool.texts))
        if 1 < n <= len(pool.texts):
            same = measured.get(pool.texts) or await _measure(row, pool.texts, n, embed, seed)
            measured[pool.texts] = same
            row = replace(row, n=n, choices=same.choices, measures=same.measures, undefined=same.undefined)
        rows.append(row)
    infos = [info for info in (*_OF_VECTORS, *_OF_TEXTS) if any(info.name in row.measures for row in rows)]
    return DiversityTable(n, sample, CHOICES, tuple(infos), tuple(rows), no_embeddings)


async def _measure(
    row: DiversityRow, texts: tuple[str, ...], n: int, embed: Embed | None, seed: int
) -> DiversityRow:
    rng = np.random.default_rng([abs(seed), seed < 0])
    choices = 1 if n == len(texts) else CHOICES
    figures: dict[str, list[float]] = {}
    undefined: dict[str, str] = {}
    for _ in range(choices):
        chosen = [texts[at] for at in np.sort(rng.choice(len(texts), n, replace=False))]
        for name, value in (await asyncio.to_thread(_figures, chosen, embed, undefined)).items():
            figures.setdefault(name, []).append(value)
    measures = {}
    for name, values in figures.items():
        if name not in undefined:
            low, high = (min(values), max(values)) if choices > 1 else (None, None)
            measures[name] = MeasureSpread(float(np.mean(values)), low, high)
    return replace(row, n=n, choices=choices, measures=measures, undefined=undefined)


def _figures(texts: Sequence[str], embed: Embed | None, undefined: dict[str, str]) -> dict[str, float]:
    of_vectors: list[tuple[Any, _Measures]] = [] if embed is None else [(embed(texts), _OF_VECTORS)]
    figures = {}
    for subject, measures in (*of_vectors, (texts, _OF_TEXTS)):
        for info, compute in measures.items():
            if info.name not in undefined:
                try:
                    figures[info.name] = compute(subject)
                except UndefinedError as error:
                    undefined[info.name] = str(error)
    return figures
