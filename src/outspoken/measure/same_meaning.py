"""Responses to one prompt that give the same answer, by their meaning.

Two responses are the same answer if a logistic regression on their cosine, the words that they share and their
lengths says so. It was fitted by `tools/fit_same_meaning.py` on half of the prompts of NoveltyBench (arXiv
2504.05228), whose published classes say which responses are equivalent. Decision 0017 has its figures beside those
of a bare threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from outspoken.errors import UsageError
from outspoken.measure.sets import unit_rows
from outspoken.measure.short_answers import answer_of
from outspoken.measure.tokenization import words
from outspoken.same_text import text_key

__all__ = ["ACCURACY", "THRESHOLD", "pair_features", "same_meaning"]

Floats = NDArray[np.float64]

ACCURACY = (
    "approximate: against the published classes of NoveltyBench, on the half of its prompts that was not fitted, "
    "pairwise F1 0.80 and adjusted Rand index 0.46 for a model's answers, 0.68 and 0.67 for people's"
)
"""How good the classes are, in a sentence for reports."""

THRESHOLD = 0.48
_COEFFICIENTS = np.array([0.5742, 0.1924, 4.5127, 0.8309, 0.3038, 0.6042, 0.0, 2.0557, -0.9039, -0.8486, 0.0758])
_INTERCEPT = -3.5724
_SHORT = 6  # words
_BLOCK = 1_000_000  # pairs computed at once: 8 MB an array
# Words that say little about an answer; a response of nothing else keeps them.
_COMMON = frozenset(("a", "an", "the", "my", "of", "in", "to", "and", "is", "i", "it", "would", "be"))


def same_meaning(texts: Sequence[str], embeddings: ArrayLike) -> tuple[int, ...]:
    """The class of each response to one prompt, numbered from 0 by first appearance.

    `embeddings` is (n, d), one row for each text. Responses with the same answer (`answer_of`, then
    `same_text.text_key`) are one class. Each other response is compared with the first of every class in
    order, and joins the first class that is likely enough the same, as in NoveltyBench; so the classes depend on
    the order of the responses. They are approximate: see `ACCURACY`.

    Raises `UsageError` for different numbers of texts and rows, and for a row that is zero or holds NaN or
    infinity.
    """
    rows = unit_rows(embeddings) if len(texts) else np.empty((0, 0))
    if len(rows) != len(texts):
        raise UsageError(f"{len(texts)} texts and {len(rows)} embeddings: give one row for each text")
    firsts: dict[str, int] = {}
    own = [firsts.setdefault(text_key(answer_of(text)), at) for at, text in enumerate(texts)]
    distinct = list(firsts.values())
    classes: dict[int, int] = {}
    leaders: list[int] = []
    features = _Pairs([texts[at] for at in distinct], rows[distinct], mean_cosine(rows))
    for start, likely in features.likelihoods():
        for at, row in enumerate(likely, start):
            same = np.flatnonzero(row[leaders] >= THRESHOLD)
            classes[distinct[at]] = int(same[0]) if len(same) else len(leaders)
            leaders += [] if len(same) else [at]
    return tuple(classes[first] for first in own)


def mean_cosine(rows: Floats) -> float:
    """The mean cosine of all pairs of unit rows; 1 for a single row."""
    count = len(rows)
    if count < 2:
        return 1.0
    total = rows.sum(axis=0)
    return float((total @ total - count) / (count * (count - 1)))


def pair_features(texts: Sequence[str], rows: Floats, mean: float) -> Floats:
    """The features of all pairs i < j of texts, of shape (n(n-1)/2, 11).

    `rows` are their embeddings of unit length, `mean` is the mean cosine of all responses to the prompt. The
    features are the cosine and the share of common words (of all words; of those of the shorter text; the same
    with words of few responses weighing more), some of them times the log of the shorter length or for short pairs
    only, the mean cosine, and the log of the shorter length.
    """
    pairs = _Pairs(texts, rows, mean)
    return pairs.features(0, len(texts))[np.triu_indices(len(texts), 1)]


class _Pairs:
    """The features of pairs of texts, computed for some rows of the table of pairs at once."""

    def __init__(self, texts: Sequence[str], rows: Floats, mean: float) -> None:
        self._rows, self._mean = rows, mean
        own = [[word for word in split if word not in _COMMON] or split for split in map(words, texts)]
        places: dict[str, int] = {}
        members = [[places.setdefault(word, len(places)) for word in dict.fromkeys(text)] for text in own]
        sizes = np.array([len(member) for member in members], dtype=np.int64)
        indices = np.array([place for member in members for place in member], dtype=np.int32)
        pointers = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        shape = (len(texts), max(1, len(places)))
        self._words = sparse.csr_matrix((np.ones(len(indices)), indices, pointers), shape=shape)
        # Words of few responses tell answers apart, those of all are the topic's.
        rarity = np.log((len(texts) + 1) / np.maximum(1, np.bincount(indices, minlength=shape[1])))
        self._rare = sparse.csr_matrix((np.sqrt(rarity)[indices], indices, pointers), shape=shape)
        owners = np.repeat(np.arange(len(texts)), sizes)
        self._rarities = np.bincount(owners, weights=rarity[indices], minlength=len(texts))
        self._sizes = sizes.astype(np.float64)
        self._lengths = np.array([len(text) for text in own], dtype=np.float64)

    def features(self, start: int, stop: int) -> Floats:
        """The features of the pairs of texts start to stop with all texts, of shape (stop - start, n, 11)."""
        return np.stack(list(self._columns(start, stop)), axis=-1)

    def _columns(self, start: int, stop: int) -> Iterator[Floats]:
        """Each feature as a table of (stop - start, n), in the order of the coefficients."""
        cosine = self._rows[start:stop] @ self._rows.T
        shorter = np.minimum(self._lengths[start:stop, None], self._lengths[None, :])
        short = np.maximum(self._lengths[start:stop, None], self._lengths[None, :]) <= _SHORT
        log = np.log1p(shorter)
        yield cosine
        yield cosine * log
        common = (self._words[start:stop] @ self._words.T).toarray()
        sizes, others = self._sizes[start:stop, None], self._sizes[None, :]
        contained = common / np.maximum(1, np.minimum(sizes, others))
        yield common / np.maximum(1, sizes + others - common)
        yield contained
        yield contained * log
        yield np.full_like(cosine, self._mean)
        yield log
        yield contained * short
        yield cosine * short
        shared = (self._rare[start:stop] @ self._rare.T).toarray()
        rare = shared / np.maximum(1e-9, np.minimum(self._rarities[start:stop, None], self._rarities[None, :]))
        yield rare
        yield rare * log

    def likelihoods(self) -> Iterator[tuple[int, Floats]]:
        """The probability of being the same for each pair, in blocks of rows, with the number of the first row."""
        texts = len(self._sizes)
        at_once = max(1, _BLOCK // max(1, texts))
        for start in range(0, texts, at_once):
            stop = min(texts, start + at_once)
            # Summed feature by feature: all of them at once would take eleven times the memory.
            logits = np.full((stop - start, texts), _INTERCEPT)
            for coefficient, column in zip(_COEFFICIENTS, self._columns(start, stop), strict=True):
                logits += coefficient * column
            yield start, 1 / (1 + np.exp(-logits))
