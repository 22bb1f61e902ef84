"""Keeping some texts that stand for the others: each text is compared with earlier ones that were kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.synth.dedup.minhash import (
    BandKeys,
    Bands,
    band_keys_of,
    bands_for,
    jaccards,
    map_in_threads,
    signatures,
)

__all__ = ["MAX_COMPARED", "Decisions", "decide"]

Progress = Callable[[int], None]
"""Called with the number of texts that are done; it may end the work by raising."""

MAX_COMPARED = 32
"""A text is compared with at most this many kept texts: those whose signatures agree best."""

_BUCKET_SIZE = 64
_ROWS_A_LEVEL = 2
# Four standard deviations of an estimate from 64 values at a similarity of 0.9.
_MARGIN = 0.15
_SLICE, _REPORT_EVERY = 4096, 256


@dataclass(frozen=True, slots=True)
class Decisions:
    """For each text the position of the text that stands for it (its own if it is kept), and their similarity.

    `crowded` is the number of texts with more similar candidates than they were compared with.
    """

    stands_for: NDArray[np.int64]
    similarity: NDArray[np.float64]
    crowded: int


def decide(keys: Sequence[str], similarity: float, progress: Progress) -> Decisions:
    """In order, keep each key unless an earlier *kept* one is at least that similar.

    The earliest such one stands for it, so that the two really are that similar. Candidates are found by the bands
    of their signatures and compared exactly (Jaccard). If many kept keys share a band, further rows of the
    signature select among them, and no key is compared with more than `MAX_COMPARED`: the work grows with the
    number of keys, not its square.
    """
    index = _KeptIndex(keys, bands_for(similarity), similarity, progress)
    stands_for = np.arange(len(keys), dtype=np.int64)
    similarities = np.ones(len(keys))
    for start in range(0, len(keys), _REPORT_EVERY):
        progress(start)
        for at, buckets in enumerate(index.buckets[start : start + _REPORT_EVERY].tolist(), start):
            match = index.find(at, buckets)
            if match is None:
                index.add(at, buckets)
            else:
                stands_for[at], similarities[at] = match
    return Decisions(stands_for, similarities, index.crowded)


class _KeptIndex:
    """The kept texts by the bands of their signatures.

    A bucket holds the texts that share one band. Its first 64 are candidates for every text of the bucket. Later
    ones are stored at deeper levels, each of which requires that two further rows of the signatures agree.
    """

    def __init__(self, keys: Sequence[str], bands: Bands, similarity: float, progress: Progress) -> None:
        self._keys = keys
        self._bands = bands
        self._similarity = similarity
        # The low 8 bits of each value of the signatures.
        self._bytes = np.empty((len(keys), bands.permutations), dtype=np.uint8)
        band_keys = np.empty((bands.count, len(keys)), dtype=np.uint32)
        start = 0
        slices = (keys[start : start + _SLICE] for start in range(0, len(keys), _SLICE))
        for signed in map_in_threads(partial(signatures, permutations=bands.permutations), slices):
            progress(0)
            end = start + signed.shape[1]
            band_keys[:, start:end] = band_keys_of(signed, bands)
            self._bytes[start:end] = signed.T
            start = end
        self.buckets, sizes, earliest = _number_buckets(band_keys)
        # The kept texts of all buckets are in one array: lists would take ten times the memory.
        self._starts = _view(np.cumsum(sizes) - sizes)
        self._kept = _view(np.empty(int(sizes.sum()), dtype=np.int32))
        self._fill = _view(np.zeros(len(sizes), dtype=np.int32))
        self._deeper: dict[tuple[int, bytes], list[int]] = {}
        self._earliest = _view(earliest)
        self._to_earliest = _view(self._compare_with(earliest, progress))
        self.crowded = 0

    def find(self, at: int, buckets: list[int]) -> tuple[int, float] | None:
        """The earliest kept text that is similar enough, and its similarity."""
        candidates: set[int] = set()
        for band, bucket in enumerate(buckets):
            fill = self._fill[bucket] if bucket >= 0 else 0
            if fill:
                start = self._starts[bucket]
                candidates.update(self._kept[start : start + fill])
                if fill == _BUCKET_SIZE:
                    for key in self._levels(at, band, bucket):
                        candidates.update(self._deeper.get(key, ()))
        earliest = self._earliest[at]
        if earliest in candidates:
            if self._to_earliest[at] >= self._similarity:
                return earliest, self._to_earliest[at]
            candidates.remove(earliest)
        if not candidates:
            return None
        chosen = self._most_similar(at, sorted(candidates))
        similarities = jaccards([self._keys[at]] * len(chosen), [self._keys[other] for other in chosen])
        enough = np.flatnonzero(similarities >= self._similarity)
        return (chosen[enough[0]], float(similarities[enough[0]])) if len(enough) else None

    def add(self, at: int, buckets: list[int]) -> None:
        """Add a kept text, with which later texts that share a band are compared."""
        for band, bucket in enumerate(buckets):
            if bucket < 0:
                continue
            fill = self._fill[bucket]
            if fill < _BUCKET_SIZE:
                self._kept[self._starts[bucket] + fill] = at
                self._fill[bucket] = fill + 1
                continue
            for key in self._levels(at, band, bucket):
                level = self._deeper.setdefault(key, [])
                if len(level) < _BUCKET_SIZE:
                    level.append(at)
                    break

    def _compare_with(self, earliest: NDArray[np.int32], progress: Progress) -> NDArray[np.float64]:
        """The similarity of each text to the earliest one of its buckets, which often stands for it."""
        result = np.ones(len(earliest))
        places = np.flatnonzero(earliest != np.arange(len(earliest)))

        def compare(start: int) -> NDArray[np.float64]:
            some = places[start : start + _SLICE]
            others = [self._keys[other] for other in earliest[some].tolist()]
            return jaccards([self._keys[at] for at in some.tolist()], others)

        starts = range(0, len(places), _SLICE)
        for start, similarities in zip(starts, map_in_threads(compare, starts), strict=True):
            progress(0)
            result[places[start : start + _SLICE]] = similarities
        return result

    def _levels(self, at: int, band: int, bucket: int) -> list[tuple[int, bytes]]:
        """The keys of the deeper levels for texts like this one, down to the first that is not full."""
        rows, all_rows = self._bands.rows, self._bands.permutations
        signature = self._bytes[at].tobytes()
        further = (signature + signature)[(band + 1) * rows : band * rows + all_rows]
        levels = []
        for depth in range(_ROWS_A_LEVEL, len(further) + 1, _ROWS_A_LEVEL):
            levels.append((bucket, further[:depth]))
            if len(self._deeper.get(levels[-1], ())) < _BUCKET_SIZE:
                break
        return levels

    def _most_similar(self, at: int, candidates: list[int]) -> list[int]:
        """Of many candidates those whose signatures agree best, in their order."""
        if len(candidates) <= MAX_COMPARED:
            return candidates
        places = np.array(candidates)
        estimates = (self._bytes[places] == self._bytes[at]).mean(axis=1)
        possible = estimates >= self._similarity - _MARGIN
        places, estimates = places[possible], estimates[possible]
        if len(places) > MAX_COMPARED:
            self.crowded += 1
            places = np.sort(places[np.argsort(-estimates, kind="stable")[:MAX_COMPARED]])
        chosen: list[int] = places.tolist()
        return chosen


def _number_buckets(band_keys: BandKeys) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """The bucket of each text in each band, of shape (texts, bands), -1 if no other text is in it; the size that
    each bucket needs; and for each text the earliest one that shares a bucket with it."""
    count, texts = band_keys.shape
    buckets = np.full((texts, count), -1, dtype=np.int32)
    sizes: list[NDArray[np.int64]] = []
    earliest = np.arange(texts, dtype=np.int32)
    used = 0
    for band in range(count):
        _, firsts, inverse, members = np.unique(
            band_keys[band], return_index=True, return_inverse=True, return_counts=True
        )
        shared = members > 1
        buckets[:, band] = np.where(shared, np.cumsum(shared) - 1 + used, -1)[inverse]
        np.minimum(earliest, firsts[inverse].astype(np.int32), out=earliest)
        sizes.append(np.minimum(members[shared], _BUCKET_SIZE))
        used += int(shared.sum())
    return buckets, np.concatenate(sizes), earliest


def _view(values: NDArray[Any]) -> memoryview[Any]:
    """The array as a memory view, in which single numbers are read and written three times as fast."""
    return memoryview(values)  # type: ignore[arg-type]
