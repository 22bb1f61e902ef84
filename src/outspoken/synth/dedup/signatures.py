"""What records are compared by: a digest of the whole text, and bands of its MinHash signature.

A text is looked at as its `outspoken.same_text.text_key`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.same_text import text_key
from outspoken.synth.dedup.minhash import mix, signatures

__all__ = ["LEAST", "Bands", "Keys", "Signed", "band_keys", "bands_for", "check_similarity", "digests", "sign"]

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
