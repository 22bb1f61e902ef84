"""K-means on unit vectors, how many of each cluster to keep, and which."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clustering", "Representatives", "nearest", "shares", "spread"]

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

_LEARNT_FROM_EACH = 256
_ROUNDS = 50
_ROWS_AT_ONCE = 8192
_ENOUGH = 1e-4


class Clustering:
    """k-means of unit vectors (n, d): Lloyd's rounds from greedy k-means++ (Arthur and Vassilvitskii 2007).

    After `work` is exhausted, `centres` is (k, d), `labels` (n,) their numbers, the largest cluster being 0. There
    are fewer centres than asked for where there are fewer different vectors. Of more than 256 vectors a centre a
    random sample teaches the centres, and all are then placed.
    """

    def __init__(self, vectors: Vectors, clusters: int, seed: int) -> None:
        self._vectors = vectors
        self._clusters = clusters
        self._random = np.random.default_rng([abs(seed), seed < 0])
        self.centres: Vectors = vectors[:0]
        self.labels: Ints = np.empty(0, np.int64)

    def work(self) -> Iterator[bool]:
        """Do it piece by piece; yields False after each."""
        sample = self._vectors
        if len(sample) > (most := _LEARNT_FROM_EACH * self._clusters):
            sample = sample[np.sort(self._random.choice(len(sample), most, replace=False))]
        centres = sample[:0]
        for found in self._seeded(sample):
            centres = found
            yield False
        before = np.inf
        for _ in range(_ROUNDS):
            labels, distances = nearest(sample, centres)
            yield False
            centres = _means(sample, labels, distances, len(centres))
            after = float(distances.sum())
            if before - after <= _ENOUGH * after:
                break
            before = after
        labels, _ = nearest(self._vectors, centres)
        sizes = np.bincount(labels, minlength=len(centres))
        order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        number = np.empty(len(centres), np.int64)
        number[order] = np.arange(len(order))
        self.centres, self.labels = centres[order], number[labels]

    def _seeded(self, sample: Vectors) -> Iterator[Vectors]:
        """Centres among the vectors, each the best of a few that are drawn by their squared distance from those
        before it."""
        trials = 2 + int(math.log(self._clusters))
        chosen = [int(self._random.integers(len(sample)))]
        distances = _distances(sample, sample[chosen])[:, 0]
        while len(chosen) < self._clusters:
            sums = np.cumsum(distances)
            if sums[-1] <= 0:
                break
            drawn = np.searchsorted(sums, self._random.random(trials) * sums[-1], side="right")
            drawn = np.minimum(drawn, len(sample) - 1)
            left = np.minimum(_distances(sample, sample[drawn]), distances[:, None])
            best = int(left.sum(0).argmin())
            chosen.append(int(drawn[best]))
            distances = left[:, best]
            if len(chosen) % 16 == 0:
                yield sample[chosen]
        yield sample[chosen]


def nearest(vectors: Vectors, centres: Vectors) -> tuple[Ints, NDArray[np.float64]]:
    """The nearest centre of each unit vector, and the squared distance to it."""
    labels = np.empty(len(vectors), np.int64)
    distances = np.empty(len(vectors))
    squares = np.einsum("ij,ij->i", centres, centres)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        apart = squares - 2 * (vectors[part] @ centres.T)
        labels[part] = apart.argmin(1)
        distances[part] = np.maximum(apart.min(1) + 1, 0)
    return labels, distances


def shares(sizes: Ints, total: int) -> Ints:
    """How many of each cluster to keep so that they are `total` in all, and as equal as their `sizes` allow.

    What cannot be divided goes to the first clusters that have more.
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
    """The numbers of the vectors `taken`, in their order; for each vector the nearest of them, which `stands_for`
    it (a taken one: itself), and the `cosines` of both."""

    taken: list[int]
    stands_for: Ints
    cosines: NDArray[np.float64]


def spread(vectors: Vectors, centre: Any, wanted: int) -> Representatives:
    """`wanted` of these unit vectors, far from each other: the one nearest to the `centre`, then ever the one that
    is farthest from all that were taken (Gonzalez 1985)."""
    taken = [int((vectors @ centre).argmax())]
    stands_for = np.full(len(vectors), taken[0])
    cosines = vectors @ vectors[taken[0]]
    is_open = np.ones(len(vectors), bool)
    is_open[taken] = False
    for _ in range(1, min(wanted, len(vectors))):
        at = int(np.where(is_open, cosines, np.inf).argmin())
        taken.append(at)
        is_open[at] = False
        found = vectors @ vectors[at]
        closer = found > cosines
        stands_for[closer], cosines[closer] = at, found[closer]
    # Of equal vectors each that is taken stands for itself.
    stands_for[taken], cosines[taken] = taken, 1.0
    return Representatives(taken, stands_for, np.clip(cosines.astype(np.float64), -1, 1))


def _distances(vectors: Vectors, points: Vectors) -> NDArray[np.float64]:
    """Squared distances of unit vectors (n, points), 0 where rounding alone keeps them apart."""
    found: NDArray[np.float64] = 2 - 2 * (vectors @ points.T).astype(np.float64)
    found[found < 1e-5] = 0
    return found


def _means(vectors: Vectors, labels: Any, distances: Any, clusters: int) -> Vectors:
    """The centre of each cluster; an empty one begins anew at the vector that is farthest from its own."""
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
