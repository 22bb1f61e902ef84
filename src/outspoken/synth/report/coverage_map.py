"""The coverage map of the report: where the first step's records lie, what became of each, and their clusters."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.tokenization import words
from outspoken.same_text import text_key
from outspoken.synth.kmeans import Clustering, unit_vectors
from outspoken.synth.records import Record
from outspoken.synth.report.document import CoverageMap, MapPoint, RecordCluster
from outspoken.synth.report.samples import KEPT, LOST, cut, text_of

__all__ = ["MIN_RECORDS", "map_records"]

Floats = NDArray[np.float64]

MIN_RECORDS = 3
"""There is no map of fewer records."""

_MAX_CLUSTERS = 12
_MIN_CLUSTERED = 20
_MAX_TERM = 40
_POINT_CHARACTERS, _EXAMPLE_CHARACTERS = 240, 1_000
_EXAMPLES = 3


def map_records(
    rows: Sequence[Record],
    vectors: NDArray[np.floating],
    fates: Mapping[str, str],
    order: Sequence[str],
    seed: int,
) -> tuple[CoverageMap, tuple[RecordCluster, ...]]:
    """The map of these records and its clusters.

    `fates` says for each id what became of it, and `order` is the order of the fates: `LOST`, `KEPT`, and the
    labels of the steps.
    """
    projection = project(vectors)
    count = cluster_count(len(rows))
    labels = cluster_labels(vectors, count, seed) if count else [0] * len(rows)
    record_fates = [fates.get(str(row["id"]), LOST) for row in rows]
    points = tuple(
        MapPoint(round(float(x), 4), round(float(y), 4), text_of(row, _POINT_CHARACTERS), fate, label + 1)
        for row, (x, y), label, fate in zip(rows, projection.points, labels, record_fates, strict=True)
    )
    occurring = {*record_fates, KEPT}
    shown = tuple(fate for fate in order if fate in occurring)
    clusters = _clusters(rows, vectors, points) if count else ()
    return CoverageMap(points, shown, projection.explained), clusters


def _clusters(
    rows: Sequence[Record], vectors: NDArray[np.floating], points: Sequence[MapPoint]
) -> tuple[RecordCluster, ...]:
    texts = [str(row["text"]) for row in rows]
    clusters = []
    for number in range(1, max(point.cluster for point in points) + 1):
        members = [at for at, point in enumerate(points) if point.cluster == number]
        kept = [at for at in members if points[at].fate == KEPT]
        outside = (text for text, point in zip(texts, points, strict=True) if point.cluster != number)
        x, y = (float(np.median([getattr(points[at], axis) for at in members])) for axis in "xy")
        words = tuple(distinctive_terms((texts[at] for at in members), outside))
        examples = _typical(texts[at] for at in nearest_first(vectors, kept or members))
        clusters.append(RecordCluster(number, len(members), len(kept), x, y, words, examples))
    return tuple(clusters)


def _typical(texts: Iterable[str]) -> tuple[str, ...]:
    """The first few texts that differ."""
    examples: dict[str, str] = {}
    for text in texts:
        if len(examples) == _EXAMPLES:
            break
        examples.setdefault(text_key(text), cut(text, _EXAMPLE_CHARACTERS))
    return tuple(examples.values())


@dataclass(frozen=True, slots=True)
class Projection:
    """`points` of shape (n, 2), and the share of the variance along each of the two axes."""

    points: Floats
    explained: tuple[float, float]


def project(vectors: NDArray[np.floating]) -> Projection:
    """The vectors (n, d) on the plane of their first two principal components; n is at least 1.

    The largest entry of each component is positive, so equal vectors always give the same picture.
    """
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    points = np.zeros((len(centred), 2))
    points[:, : axes.shape[1]] = centred @ axes
    total = float(values.clip(0).sum())
    first, second = (float(value) / total if total > 0 else 0.0 for value in (*values[::-1].clip(0), 0.0)[:2])
    return Projection(points, (first, second))


def cluster_count(records: int) -> int:
    """About the square root of half the number of records, at most twelve; 0 for fewer than twenty records."""
    return 0 if records < _MIN_CLUSTERED else max(2, min(_MAX_CLUSTERS, round(math.sqrt(records / 2))))


def cluster_labels(vectors: NDArray[np.floating], count: int, seed: int) -> list[int]:
    """The cluster of each vector by k-means on their directions: numbers from 0, the largest cluster first."""
    clustering = Clustering(unit_vectors(vectors).astype(np.float32), count, seed)
    for _ in clustering.work():
        pass
    return [int(label) for label in clustering.labels]


def nearest_first(vectors: NDArray[np.floating], members: Sequence[int]) -> list[int]:
    """The members of a cluster, ordered by their distance from its centre."""
    rows = unit_vectors(vectors[list(members)])
    order = np.argsort(-(rows @ rows.sum(axis=0)), kind="stable")
    return [members[at] for at in order]


def terms(text: str) -> set[str]:
    """The terms by which clusters are compared: words of two letters and more, and pairs of adjacent characters in
    scripts without blanks."""
    tokens = words(text)
    # One character of a script without blanks.
    is_character = [len(word) == 1 and unicodedata.category(word) == "Lo" for word in tokens]
    pairs = {
        a + b for (a, b), both in zip(pairwise(tokens), map(all, pairwise(is_character)), strict=True) if both
    }
    return pairs | {word for word in tokens if 1 < len(word) <= _MAX_TERM and any(map(str.isalpha, word))}


def distinctive_terms(inside: Iterable[str], outside: Iterable[str], most: int = 5) -> list[str]:
    """The terms by which the texts inside differ most from those outside.

    Ordered by p ln(p / q), where p and q are the shares of the texts inside and outside that have the term. Only
    terms of at least two texts inside count, and only if p is greater than q.
    """
    inner, outer = list(map(terms, inside)), list(map(terms, outside))
    inner_counts, outer_counts = (Counter(term for text in texts for term in text) for texts in (inner, outer))

    def weight(term: str) -> float:
        p = inner_counts[term] / len(inner)
        q = (outer_counts[term] + 0.5) / (len(outer) + 1)
        return p * math.log(p / q)

    ranked = sorted((-weight(term), term) for term, count in inner_counts.items() if count > 1)
    return [term for score, term in ranked[:most] if score < 0]
