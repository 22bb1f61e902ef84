"""The similarity of texts by their shingles, and MinHash signatures that estimate it without a comparison.

The shingles of a key are all sequences of three characters in it (a key of one or two is its own shingle). So
short texts have some too, and texts without blanks between words. The similarity of two keys is the Jaccard
similarity of their sets: |A and B| / |A or B|.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.same_text import text_key

rensa = need("rensa", "finding near-duplicates", "synth")

__all__ = [
    "BandKeys",
    "Bands",
    "band_keys_of",
    "bands_for",
    "check_similarity",
    "jaccards",
    "map_in_threads",
    "sign",
    "signatures",
]

_SHINGLE = 3
# This many texts fit in the processor's cache; texts as long as books are processed alone.
_SLICE = 512
_SLICE_CHARACTERS = 1 << 18
_PAIR_BITS = _SLICE.bit_length()
_SEED = 1

# More threads would wait for each other in the part that is pure Python.
_MAX_THREADS = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_in_threads(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """`map(work, items)` in a few threads, in order; only a few of the items are held at a time."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    running: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="outspoken-near") as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def signatures(keys: Sequence[str], permutations: int) -> NDArray[np.uint32]:
    """The MinHash signature of each key's shingles, of shape (permutations, keys), computed by rensa.

    The expected share of values in which two signatures agree is the similarity of the two keys.
    """
    result = np.empty((permutations, len(keys)), dtype=np.uint32)
    for start, end in _slices([len(key) for key in keys]):
        hashes, lengths = _hashed(keys[start:end])
        offsets = np.append(np.uint64(0), np.cumsum(lengths, dtype=np.uint64))
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, _SEED)
        values = chain.from_iterable(matrix.to_rows())
        signed = np.fromiter(values, dtype=np.uint32, count=(end - start) * permutations)
        result[:, start:end] = signed.reshape(end - start, permutations).T
    return result


def jaccards(ones: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """|A and B| / |A or B| of the shingles of each pair of keys, from 0 to 1.

    Shingles are compared by 50 bits: of 10^9 pairs of a thousand shingles about one is counted wrong.
    """
    lengths = [len(one) + len(other) for one, other in zip(ones, others, strict=True)]
    parts = [_jaccards(ones[start:end], others[start:end]) for start, end in _slices(lengths)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _jaccards(ones: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    numbers = np.arange(len(ones), dtype=np.uint64) << np.uint64(64 - _PAIR_BITS)
    sides = []
    for side, keys in enumerate((ones, others)):
        hashes, lengths = _hashed(keys)
        hashes >>= np.uint64(_PAIR_BITS)
        hashes &= ~np.uint64(1)
        sides.append(hashes | np.repeat(numbers, lengths) | np.uint64(side))
    both = np.sort(np.concatenate(sides))
    both = both[np.append(True, both[1:] != both[:-1])]
    pairs = (both >> np.uint64(64 - _PAIR_BITS)).view(np.int64)
    # A shingle on both sides occurs twice, and the two differ only in the last bit.
    shared = np.bincount(pairs[1:][both[1:] ^ both[:-1] == 1], minlength=len(ones))
    return shared / (np.bincount(pairs, minlength=len(ones)) - shared)


def _slices(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Start and end of slices with at most `_SLICE` texts and about `_SLICE_CHARACTERS` characters."""
    start = 0
    while start < len(lengths):
        end, characters = start, 0
        while end < len(lengths) and end - start < _SLICE and (end == start or characters < _SLICE_CHARACTERS):
            characters += lengths[end]
            end += 1
        yield start, end
        start = end


def _hashed(keys: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each shingle of each key, and the number of shingles of each key."""
    padded = [key if len(key) >= _SHINGLE else key.ljust(_SHINGLE, "\0") for key in keys]
    joined = "".join(padded).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    # 21 bits hold any character, so different shingles are different numbers.
    packed = characters[:-2] | characters[1:-1] << np.uint64(21) | characters[2:] << np.uint64(42)
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    ends = np.cumsum(lengths)[:-1]
    within_key = np.ones(len(packed), dtype=bool)
    for reach in range(1, _SHINGLE):
        within_key[ends - reach] = False
    hashes = packed[within_key]
    _mix(hashes)
    return hashes, lengths - _SHINGLE + 1


def _mix(values: NDArray[np.uint64]) -> None:
    """Make every bit depend on all others, in place: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)


MIN_SIMILARITY = 0.5
"""The lowest similarity for which bands are useful: below it nearly all texts share one."""

BandKeys = NDArray[np.uint32]
"""32 bits for each text in each band, of shape (bands, texts). Keys that are equal by chance cost a comparison."""

_RECALL = 0.995
# Few permutations are fast; more of them exclude more pairs just below a low threshold.
_PERMUTATIONS, _MANY_PERMUTATIONS, _HIGH_SIMILARITY = 64, 128, 0.9
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Bands:
    """The division of a signature of `permutations` values into `count` bands of `rows` values each.

    Texts that agree in all values of a band are compared.
    """

    count: int
    rows: int
    permutations: int

    def recall(self, similarity: float) -> float:
        """The probability that two texts of that similarity share a band: 1 - (1 - s^rows)^count.

        Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2.
        """
        return 1.0 - (1.0 - similarity**self.rows) ** self.count


def check_similarity(similarity: float) -> None:
    """Raise `UsageError` for a similarity outside 0.5 to 1."""
    if not MIN_SIMILARITY <= similarity <= 1:
        raise UsageError(
            f"the similarity of near-duplicates must be from {MIN_SIMILARITY} to 1 (the same set of shingles), "
            f"not {similarity:g}: 0.9 finds texts that differ in a few characters"
        )


def bands_for(similarity: float) -> Bands:
    """The bands with the most rows that find at least 0.995 of the pairs of that similarity.

    The more rows, the fewer dissimilar pairs are compared. Raises `UsageError` for a similarity below 0.5.
    """
    check_similarity(similarity)
    most = _PERMUTATIONS if similarity >= _HIGH_SIMILARITY else _MANY_PERMUTATIONS
    best = Bands(most, 1, most)
    for rows in range(2, most + 1):
        chance = similarity**rows
        count = 1 if chance >= _RECALL else math.ceil(math.log(1 - _RECALL) / math.log1p(-chance))
        if count * rows <= most:
            best = Bands(count, rows, most)
    return best


SignedTexts = tuple[NDArray[np.uint64], BandKeys, NDArray[np.int32]]
"""Digests and band keys of texts (empty if not wanted), and the lengths of their keys."""


def sign(texts: Sequence[str], exact: bool, bands: Bands | None) -> SignedTexts:
    """The values that find equal and similar texts: digests if `exact`, band keys if `bands` are given."""
    keys = [text_key(text) for text in texts]
    lengths = np.array([len(key) for key in keys], dtype=np.int32)
    band_keys = np.zeros((0, len(keys)), dtype=np.uint32)
    if bands is not None:
        band_keys = band_keys_of(signatures(keys, bands.permutations), bands)
    return digests_of(keys if exact else []), band_keys, lengths


def digests_of(keys: Sequence[str]) -> NDArray[np.uint64]:
    """128 bits of BLAKE2 of each key, as two numbers. Two of 10^8 keys agree by chance with probability 10^-23."""
    digests = [hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def band_keys_of(signed: NDArray[np.uint32], bands: Bands) -> BandKeys:
    """A key for each band of each signature; bands with equal values have equal keys."""
    shaped = signed[: bands.count * bands.rows].reshape(bands.count, bands.rows, -1)
    keys = np.zeros((bands.count, signed.shape[1]), dtype=np.uint64)
    for row in range(bands.rows):
        keys *= _FACTOR
        keys += shaped[:, row]
    _mix(keys)
    return (keys >> np.uint64(32)).astype(np.uint32)
