"""Texts as sets of shingles: how similar two are, and MinHash signatures that say so without comparing them.

The shingles of a key are every three characters that follow each other (a key of one or two is its own shingle).
So short texts have some, and those without blanks between their words. Two keys are as similar as their sets are:
|A and B| / |A or B| (Jaccard).
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

__all__ = [
    "LEAST",
    "Bands",
    "Keys",
    "Signed",
    "band_keys",
    "bands_for",
    "check_similarity",
    "digests",
    "jaccards",
    "mix",
    "sign",
    "signatures",
    "spread",
]

# More would wait for each other in what is pure Python.
_MOST = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def spread(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """`map(work, items)`, a few at a time, in order; of the items only those few are held."""
    threads = min(_MOST, os.cpu_count() or 1)
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


rensa = need("rensa", "finding near-duplicates", "synth")


_SHINGLE = 3
# So many at a time stay in the processor's cache; records as long as books are taken alone.
_SLICE = 512
_SLICE_CHARACTERS = 1 << 18
_PAIR_BITS = _SLICE.bit_length()
_SEED = 1


def signatures(keys: Sequence[str], permutations: int) -> NDArray[np.uint32]:
    """The MinHash signature of each key's shingles, of shape (permutations, keys), by rensa.

    Two of them agree in about that share of their values in which the sets do.
    """
    made = np.empty((permutations, len(keys)), dtype=np.uint32)
    for start, end in _slices([len(key) for key in keys]):
        hashes, lengths = _hashed(keys[start:end])
        offsets = np.append(np.uint64(0), np.cumsum(lengths, dtype=np.uint64))
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, _SEED)
        values = chain.from_iterable(matrix.to_rows())
        signed = np.fromiter(values, dtype=np.uint32, count=(end - start) * permutations)
        made[:, start:end] = signed.reshape(end - start, permutations).T
    return made


def jaccards(ones: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """|A and B| / |A or B| of the shingles of each pair of keys, from 0 to 1.

    Shingles are told apart by 50 bits, so that of 10^9 pairs of a thousand shingles none or one is counted wrong.
    """
    lengths = [len(one) + len(other) for one, other in zip(ones, others, strict=True)]
    found = [_jaccards(ones[start:end], others[start:end]) for start, end in _slices(lengths)]
    return np.concatenate(found) if found else np.zeros(0)


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
    # Of two equal shingles on both sides the one differs from the other in the last bit.
    shared = np.bincount(pairs[1:][both[1:] ^ both[:-1] == 1], minlength=len(ones))
    return shared / (np.bincount(pairs, minlength=len(ones)) - shared)


def _slices(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(lengths):
        end, characters = start, 0
        while end < len(lengths) and end - start < _SLICE and (end == start or characters < _SLICE_CHARACTERS):
            characters += lengths[end]
            end += 1
        yield start, end
        start = end


def _hashed(keys: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each shingle of each key, and how many each key has."""
    padded = [key if len(key) >= _SHINGLE else key.ljust(_SHINGLE, "\0") for key in keys]
    joined = "".join(padded).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    # 21 bits hold any character: no two shingles are the same number.
    packed = characters[:-2] | characters[1:-1] << np.uint64(21) | characters[2:] << np.uint64(42)
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    ends = np.cumsum(lengths)[:-1]
    whole = np.ones(len(packed), dtype=bool)
    for reach in range(1, _SHINGLE):
        whole[ends - reach] = False
    hashes = packed[whole]
    mix(hashes)
    return hashes, lengths - _SHINGLE + 1


def mix(values: NDArray[np.uint64]) -> None:
    """Spread all bits over all others, in place: the last part of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)


LEAST = 0.5
"""The lowest similarity for which bands are of any use: below it nearly everything shares one."""

Keys = NDArray[np.uint32]
"""Of each text in each band 32 bits, of shape (bands, texts). That two are equal by chance costs a comparison."""

_RECALL = 0.995
# Few are quick, many tell apart better what lies closely below a low threshold.
_PERMUTATIONS, _MANY, _ENOUGH_FROM = 64, 128, 0.9
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature of `permutations` values is cut: into `count` bands of `rows` values each.

    Texts that share a band are compared.
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
    """Raise `UsageError` for a threshold that cannot be one."""
    if not LEAST <= similarity <= 1:
        raise UsageError(
            f"the similarity of near-duplicates must be from {LEAST} to 1 (the same set of shingles), "
            f"not {similarity:g}: 0.9 finds texts that differ in a few characters"
        )


def bands_for(similarity: float) -> Bands:
    """The bands with the most rows that find at least 0.995 of the pairs of that similarity.

    The more rows, the fewer pairs are compared for nothing. Raises `UsageError` for a similarity below 0.5.
    """
    check_similarity(similarity)
    most = _PERMUTATIONS if similarity >= _ENOUGH_FROM else _MANY
    best = Bands(most, 1, most)
    for rows in range(2, most + 1):
        chance = similarity**rows
        count = 1 if chance >= _RECALL else math.ceil(math.log(1 - _RECALL) / math.log1p(-chance))
        if count * rows <= most:
            best = Bands(count, rows, most)
    return best


@dataclass(frozen=True, slots=True)
class Signed:
    """What is kept of some texts: digests and band keys (empty where not wanted), and the lengths of the keys."""

    marks: NDArray[np.uint64]
    banded: Keys
    lengths: NDArray[np.int32]


def sign(texts: Sequence[str], *, exact: bool, bands: Bands | None) -> Signed:
    """What the texts are compared by: with all others of the same digest, of the same band."""
    keys = [text_key(text) for text in texts]
    lengths = np.array([len(key) for key in keys], dtype=np.int32)
    banded = np.zeros((0, len(keys)), dtype=np.uint32)
    if bands is not None:
        banded = band_keys(signatures(keys, bands.permutations), bands)
    return Signed(digests(keys if exact else []), banded, lengths)


def digests(keys: Sequence[str]) -> NDArray[np.uint64]:
    """128 bits of BLAKE2 of each key, as two numbers: that any two of 10^8 agree by chance has odds of 10^-23."""
    made = [hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys]
    return np.frombuffer(b"".join(made), dtype=np.uint64).reshape(-1, 2)


def band_keys(signed: NDArray[np.uint32], bands: Bands) -> Keys:
    """Equal where the values of a band are."""
    shaped = signed[: bands.count * bands.rows].reshape(bands.count, bands.rows, -1)
    keys = np.zeros((bands.count, signed.shape[1]), dtype=np.uint64)
    for row in range(bands.rows):
        keys *= _FACTOR
        keys += shaped[:, row]
    mix(keys)
    return (keys >> np.uint64(32)).astype(np.uint32)
