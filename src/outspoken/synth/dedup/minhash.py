"""Texts as sets of shingles: how similar two are, and MinHash signatures that say so without comparing them.

The shingles of a key are every three characters that follow each other (a key of one or two is its own shingle).
So short texts have some, and those without blanks between their words. Two keys are as similar as their sets are:
|A and B| / |A or B| (Jaccard).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from outspoken._extras import need

rensa = need("rensa", "finding near-duplicates", "synth")

__all__ = ["jaccards", "mix", "signatures"]

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
