"""Which of some texts stand for the others: each in turn is compared with earlier ones that were kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.synth.dedup.minhash import Bands, Keys, band_keys, bands_for, jaccards, signatures, spread

__all__ = ["COMPARED", "Decisions", "Told", "decide"]

Told = Callable[[int], None]
"""Is told how many are done, and ends the work by raising."""

COMPARED = 32
"""With so many kept texts one text is compared at most: with those of which the signatures agree best."""

_CROWD = 64
_ROWS_A_LEVEL = 2
# Four standard deviations of an estimate from 64 values at a similarity of 0.9.
_DOUBT = 0.15
_SLICE, _TOLD_AFTER = 4096, 256


@dataclass(frozen=True, slots=True)
class Decisions:
    """For each text: the place of the one that stands for it (its own where it is kept), and their similarity.

    `crowded` is how many texts had more look-alikes than they were compared with.
    """

    stands_for: NDArray[np.int64]
    similarity: NDArray[np.float64]
    crowded: int


def decide(keys: Sequence[str], similarity: float, told: Told) -> Decisions:
    """Go through the keys in their order: one is kept unless an earlier *kept* one is at least as similar.

    Of several such the earliest stands for it. So both really are as similar as `similarity` says, whatever chain
    of look-alikes may lie between them. Look-alikes are found by the bands of their signatures and compared
    exactly (Jaccard). Where many kept ones share a band they are told apart by further rows of the signature, and
    none is compared with more than `COMPARED`: the work grows with the number of the texts, not its square.
    """
    greedy = _Greedy(keys, bands_for(similarity), similarity, told)
    stands_for = np.arange(len(keys), dtype=np.int64)
    similarities = np.ones(len(keys))
    for start in range(0, len(keys), _TOLD_AFTER):
        told(start)
        for at, buckets in enumerate(greedy.buckets[start : start + _TOLD_AFTER].tolist(), start):
            found = greedy.twin(at, buckets)
            if found is None:
                greedy.keep(at, buckets)
            else:
                stands_for[at], similarities[at] = found
    return Decisions(stands_for, similarities, greedy.crowded)


class _Greedy:
    """The kept texts by the bands of their signatures.

    A bucket holds those that share one band. Its first 64 are looked at by every text there; later ones stand at
    deeper levels, where only those look for which two further rows agree a level.
    """

    def __init__(self, keys: Sequence[str], bands: Bands, similarity: float, told: Told) -> None:
        self._keys = keys
        self._bands = bands
        self._similarity = similarity
        self._marks = np.empty((len(keys), bands.permutations), dtype=np.uint8)
        banded = np.empty((bands.count, len(keys)), dtype=np.uint32)
        start = 0
        slices = (keys[start : start + _SLICE] for start in range(0, len(keys), _SLICE))
        for signed in spread(partial(signatures, permutations=bands.permutations), slices):
            told(0)
            end = start + signed.shape[1]
            banded[:, start:end] = band_keys(signed, bands)
            self._marks[start:end] = signed.T
            start = end
        self.buckets, room, firsts = _numbered(banded)
        # The kept texts of all buckets stand in one array: lists would take ten times the memory.
        self._starts = _view(np.cumsum(room) - room)
        self._kept = _view(np.empty(int(room.sum()), dtype=np.int32))
        self._fill = _view(np.zeros(len(room), dtype=np.int32))
        self._deeper: dict[tuple[int, bytes], list[int]] = {}
        self._firsts = _view(firsts)
        self._to_first = _view(self._compared(firsts, told))
        self.crowded = 0

    def twin(self, at: int, buckets: list[int]) -> tuple[int, float] | None:
        """The earliest kept text that is similar enough, and how similar it is."""
        candidates: set[int] = set()
        for band, bucket in enumerate(buckets):
            fill = self._fill[bucket] if bucket >= 0 else 0
            if fill:
                start = self._starts[bucket]
                candidates.update(self._kept[start : start + fill])
                if fill == _CROWD:
                    for key in self._levels(at, band, bucket):
                        candidates.update(self._deeper.get(key, ()))
        first = self._firsts[at]
        if first in candidates:
            if self._to_first[at] >= self._similarity:
                return first, self._to_first[at]
            candidates.remove(first)
        if not candidates:
            return None
        chosen = self._likeliest(at, sorted(candidates))
        similarities = jaccards([self._keys[at]] * len(chosen), [self._keys[other] for other in chosen])
        enough = np.flatnonzero(similarities >= self._similarity)
        return (chosen[enough[0]], float(similarities[enough[0]])) if len(enough) else None

    def keep(self, at: int, buckets: list[int]) -> None:
        """The text is kept: later ones that share a band are compared with it."""
        for band, bucket in enumerate(buckets):
            if bucket < 0:
                continue
            fill = self._fill[bucket]
            if fill < _CROWD:
                self._kept[self._starts[bucket] + fill] = at
                self._fill[bucket] = fill + 1
                continue
            for key in self._levels(at, band, bucket):
                level = self._deeper.setdefault(key, [])
                if len(level) < _CROWD:
                    level.append(at)
                    break

    def _compared(self, firsts: NDArray[np.int32], told: Told) -> NDArray[np.float64]:
        """How similar each text is to the first one of its buckets, which mostly is the one that stands for it."""
        found = np.ones(len(firsts))
        places = np.flatnonzero(firsts != np.arange(len(firsts)))

        def compare(start: int) -> NDArray[np.float64]:
            some = places[start : start + _SLICE]
            others = [self._keys[first] for first in firsts[some].tolist()]
            return jaccards([self._keys[at] for at in some.tolist()], others)

        starts = range(0, len(places), _SLICE)
        for start, similarities in zip(starts, spread(compare, starts), strict=True):
            told(0)
            found[places[start : start + _SLICE]] = similarities
        return found

    def _levels(self, at: int, band: int, bucket: int) -> list[tuple[int, bytes]]:
        """The keys of the deeper levels that hold those like this text, down to one with room."""
        rows, all_rows = self._bands.rows, self._bands.permutations
        marks = self._marks[at].tobytes()
        further = (marks + marks)[(band + 1) * rows : band * rows + all_rows]
        found = []
        for depth in range(_ROWS_A_LEVEL, len(further) + 1, _ROWS_A_LEVEL):
            found.append((bucket, further[:depth]))
            if len(self._deeper.get(found[-1], ())) < _CROWD:
                break
        return found

    def _likeliest(self, at: int, candidates: list[int]) -> list[int]:
        """Of many candidates those whose signatures agree best, in their order."""
        if len(candidates) <= COMPARED:
            return candidates
        places = np.array(candidates)
        estimates = (self._marks[places] == self._marks[at]).mean(axis=1)
        hopeful = estimates >= self._similarity - _DOUBT
        places, estimates = places[hopeful], estimates[hopeful]
        if len(places) > COMPARED:
            self.crowded += 1
            places = np.sort(places[np.argsort(-estimates, kind="stable")[:COMPARED]])
        chosen: list[int] = places.tolist()
        return chosen


def _numbered(banded: Keys) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """The bucket of each text in each band, of shape (texts, bands), -1 where it is alone there; the room that
    each bucket needs; and for each text the earliest one that shares a bucket with it.
    """
    count, texts = banded.shape
    buckets = np.full((texts, count), -1, dtype=np.int32)
    rooms: list[NDArray[np.int64]] = []
    earliest = np.arange(texts, dtype=np.int32)
    used = 0
    for band in range(count):
        _, firsts, inverse, sizes = np.unique(
            banded[band], return_index=True, return_inverse=True, return_counts=True
        )
        shared = sizes > 1
        buckets[:, band] = np.where(shared, np.cumsum(shared) - 1 + used, -1)[inverse]
        np.minimum(earliest, firsts[inverse].astype(np.int32), out=earliest)
        rooms.append(np.minimum(sizes[shared], _CROWD))
        used += int(shared.sum())
    return buckets, np.concatenate(rooms), earliest


def _view(values: NDArray[Any]) -> memoryview[Any]:
    """The array for reading and writing single numbers, which is three times as fast so."""
    return memoryview(values)  # type: ignore[arg-type]
