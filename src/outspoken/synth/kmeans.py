"""K-means on unit vectors, and the choice of representatives of each cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clustering", "Representatives", "nearest", "shares", "spread", "unit_vectors"]

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

_SAMPLE_PER_CLUSTER = 256
_ROUNDS = 50
_ROWS_AT_ONCE = 8192
_TOLERANCE = 1e-4


class Clustering:
    """k-means of unit vectors (n, d): Lloyd's algorithm from greedy k-means++ (Arthur and Vassilvitskii 2007).

    After `work` is exhausted, `centres` has shape (k, d) and `labels` (n,) the number of each vector's centre; the
    largest cluster is 0. If there are fewer different vectors than `clusters`, there are fewer centres. If there
    are more than 256 vectors for each cluster, the centres are computed from a random sample.
    """

    def __init__(self, vectors: Vectors, clusters: int, seed: int) -> None:
        self._vectors = vectors
        self._clusters = clusters
        self._random = np.random.default_rng([abs(seed), seed < 0])
        self.centres: Vectors = vectors[:0]
        self.labels: Ints = np.empty(0, np.int64)

    def work(self) -> Iterator[bool]:
        """Do the work piece by piece; yields False after each piece."""
        sample = self._vectors
        if len(sample) > (most := _SAMPLE_PER_CLUSTER * self._clusters):
            sample = sample[np.sort(self._random.choice(len(sample), most, replace=False))]
        chosen: list[int] = []
        for chosen in self._choose_initial(sample):  # noqa: B007  (the last one)
            yield False
        centres = sample[chosen]
        before = np.inf
        for _ in range(_ROUNDS):
            labels, distances = nearest(sample, centres)
            yield False
            centres = _means(sample, labels, distances, len(centres))
            after = float(distances.sum())
            if before - after <= _TOLERANCE * after:
                break
            before = after
        labels, _ = nearest(self._vectors, centres)
        sizes = np.bincount(labels, minlength=len(centres))
        order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        number = np.empty(len(centres), np.int64)
        number[order] = np.arange(len(order))
        self.centres, self.labels = centres[order], number[labels]

    def _choose_initial(self, sample: Vectors) -> Iterator[list[int]]:
        """The numbers of vectors that are initial centres, more and more of them. Each is the best of a few
        candidates, drawn by their squared distance from the earlier centres."""
        trials = 2 + int(math.log(self._clusters))
        chosen = [int(self._random.integers(len(sample)))]
        distances = _distances(sample, sample[chosen])[:, 0]
        while len(chosen) < self._clusters:
            sums = np.cumsum(distances)
            if sums[-1] <= 0:
                break
            drawn = np.searchsorted(sums, self._random.random(trials) * sums[-1], side="right")
            drawn = np.minimum(drawn, len(sample) - 1)
            remaining = np.minimum(_distances(sample, sample[drawn]), distances[:, None])
            best = int(remaining.sum(0).argmin())
            chosen.append(int(drawn[best]))
            distances = remaining[:, best]
            if len(chosen) % 16 == 0:
                yield chosen
        yield chosen


def unit_vectors(vectors: NDArray[Any]) -> Any:
    """The vectors (n, d) scaled to length 1; zero vectors stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def nearest(vectors: Vectors, centres: Vectors) -> tuple[Ints, NDArray[np.float64]]:
    """The nearest centre of each unit vector, and the squared distance to it."""
    labels = np.empty(len(vectors), np.int64)
    distances = np.empty(len(vectors))
    squares = np.einsum("ij,ij->i", centres, centres)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        relative = squares - 2 * (vectors[part] @ centres.T)
        labels[part] = relative.argmin(1)
        distances[part] = np.maximum(relative.min(1) + 1, 0)
    return labels, distances


def shares(sizes: Ints, total: int) -> Ints:
    """How many of each cluster to keep so that they sum to `total`, and are as equal as their `sizes` allow.

    A remainder goes to the first clusters that have more.
    """
    if total >= sizes.sum():
        return sizes
    low, high = 0, int(sizes.max())
    while high - low > 1:
        level = (low + high) // 2
        low, high = (level, high) if np.minimum(sizes, level).sum() <= total else (low, level)
    quota: Ints = np.minimum(sizes, low)
    more = np.flatnonzero(sizes > low)[: total - int(quota.sum())]
    quota[more] += 1
    return quota


@dataclass(frozen=True, slots=True)
class Representatives:
    """The numbers of the vectors `taken`, in the order in which they were taken; for each vector the nearest of
    them, which `stands_for` it (itself if it was taken), and the cosine of the two."""

    taken: list[int]
    stands_for: Ints
    cosines: NDArray[np.float64]


def spread(vectors: Vectors, centre: Any, wanted: int) -> Representatives:
    """`wanted` of these unit vectors, far from each other: the one nearest to the `centre`, then repeatedly the
    one that is farthest from all that were taken (Gonzalez 1985)."""
    taken = [int((vectors @ centre).argmax())]
    stands_for = np.full(len(vectors), taken[0])
    cosines = vectors @ vectors[taken[0]]
    is_open = np.ones(len(vectors), bool)
    is_open[taken] = False
    for _ in range(1, min(wanted, len(vectors))):
        at = int(np.where(is_open, cosines, np.inf).argmin())
        taken.append(at)
        is_open[at] = False
        with_new = vectors @ vectors[at]
        closer = with_new > cosines
        stands_for[closer], cosines[closer] = at, with_new[closer]
    # Each taken vector stands for itself, even if another one equals it.
    stands_for[taken], cosines[taken] = taken, 1.0
    return Representatives(taken, stands_for, np.clip(cosines.astype(np.float64), -1, 1))


def _distances(vectors: Vectors, points: Vectors) -> NDArray[np.float64]:
    """Squared distances of unit vectors, of shape (vectors, points); 0 for those that are rounding errors."""
    distances: NDArray[np.float64] = 2 - 2 * (vectors @ points.T).astype(np.float64)
    distances[distances < 1e-5] = 0
    return distances


def _means(vectors: Vectors, labels: Any, distances: Any, clusters: int) -> Vectors:
    """The centre of each cluster; an empty cluster restarts at the vector that is farthest from its centre."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=clusters)
    full = np.flatnonzero(sizes)
    starts = (np.cumsum(sizes) - sizes)[full]
    sums = np.add.reduceat(vectors[order], starts, axis=0, dtype=np.float64)
    centres = np.empty((clusters, vectors.shape[1]))
    centres[full] = sums / sizes[full, None]
    empty = np.flatnonzero(sizes == 0)
    centres[empty] = vectors[np.argsort(-distances, kind="stable")[: len(empty)]]
    return centres.astype(np.float32)
