"""The lexical similarity of texts: ROUGE-L, distinct-n, self-BLEU and compression ratio."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.tokenization import blanks, words

__all__ = ["compression_ratio", "distinct_n", "rouge_l", "rouge_l_pairs", "self_bleu"]

Words = Callable[[str], list[str]]
_Integers = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def rouge_l_pairs(texts: Sequence[str], words: Words = blanks) -> _Floats:
    """ROUGE-L of every pair of texts, 0 to 1, shape (n(n-1)/2,): i < j in the order of `np.triu_indices(n, 1)`.

    The F1 of the longest common subsequence of words, 2 LCS / (len a + len b), which is the harmonic mean of
    LCS / len a and LCS / len b (Lin 2004, "ROUGE", section 3.1, with beta = 1). Higher is more similar. Splitting
    at white space (the default) is the paper's: case counts, and nothing is stemmed.

    Raises `UndefinedError` for a text without words.
    """
    split = _split(texts, words, "ROUGE-L")
    texts_with = Counter(word for text in split for word in set(text))
    # A word that only one text has cannot match, so it only counts in the lengths. The library compares numbers
    # below 256 twice as fast as others: the most common words get them.
    ids = {word: number for number, (word, count) in enumerate(texts_with.most_common()) if count > 1}
    shared = [[ids[word] for word in text if word in ids] for text in split]
    lengths = np.array([len(text) for text in split], dtype=np.float64)
    scores = np.empty(len(split) * (len(split) - 1) // 2)
    filled = 0
    for first in range(0, len(split), _ROWS):
        common = cdist(shared[first : first + _ROWS], shared[first:], scorer=LCSseq.similarity, dtype=np.uint32)
        for row, lcs in enumerate(common):
            others = lengths[first + row + 1 :]
            scores[filled : filled + len(others)] = 2 * lcs[row + 1 :] / (lengths[first + row] + others)
            filled += len(others)
    return scores


def rouge_l(texts: Sequence[str], words: Words = blanks) -> float:
    """The mean ROUGE-L of all pairs of texts, 0 to 1, higher is more similar: see `rouge_l_pairs`.

    Raises `UndefinedError` for fewer than two texts or a text without words.
    """
    _at_least_two(texts, "ROUGE-L")
    return float(rouge_l_pairs(texts, words).mean())


def distinct_n(texts: Sequence[str], n: int, words: Words = words) -> float:
    """The number of distinct n-grams of words over the number of all, pooled over the texts: above 0, at most 1.

    Li et al. 2016 ("A Diversity-Promoting Objective Function for Neural Conversation Models"), over the whole
    set: distinct-n of each response alone does not notice that all responses are the same. It falls with the
    length and number of texts, so compare sets of the same size. Higher is more diverse.

    Raises `UndefinedError` if no text is `n` words long, `UsageError` for an `n` below 1.
    """
    if n < 1:
        raise UsageError(f"distinct-n counts n-grams of at least 1 word, not of {n}")
    grams: list[tuple[str, ...]] = []
    for text in texts:
        split = words(text)
        grams.extend(zip(*(split[start:] for start in range(n)), strict=False))
    if not grams:
        raise UndefinedError(f"distinct-{n} needs a text with at least {n} words: there is none")
    return len(set(grams)) / len(grams)


def self_bleu(texts: Sequence[str], words: Words = words, max_n: int = 4) -> float:
    """The mean BLEU of each text against all the others, 0 to 1: higher is less diverse.

    Zhu et al. 2018 (Texygen), BLEU as in Papineni et al. 2002 with uniform weights for n-grams of 1 to `max_n`
    words and the closest reference's length; an order without a match counts 0.1 matches (method 1 of Chen and
    Cherry 2014). The result equals that of `nltk.translate.bleu_score.sentence_bleu`: a text shorter than n words
    has 0.1 of one n-gram, and one that shares no word with any other scores 0.

    Raises `UndefinedError` for fewer than two texts or a text without words, `UsageError` for `max_n` below 1.
    """
    if max_n < 1:
        raise UsageError(f"self-BLEU counts n-grams of at least 1 word, not of {max_n}")
    _at_least_two(texts, "self-BLEU")
    return float(_bleu_of_each(_split(texts, words, "self-BLEU"), max_n).mean())


def compression_ratio(texts: Sequence[str]) -> float:
    """The size of the texts in UTF-8, joined by line breaks, over their size after gzip (level 9).

    Shaib et al. 2024 (arXiv 2403.00553). Higher is more repetitive. It grows with the amount of text, and for
    little text gzip's 20 bytes of header and trailer matter: compare sets of about the same size.

    Raises `UndefinedError` if there is no text.
    """
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    if not any(texts):
        raise UndefinedError("the compression ratio needs a text that is not empty: there is none")
    return len(raw) / len(gzip.compress(raw, 9, mtime=0))


# The rows of the table of pairs that are computed at once, to save memory.
_ROWS = 32


def _split(texts: Sequence[str], words: Words, measure: str) -> list[list[str]]:
    if isinstance(texts, str):
        raise UsageError(f"{measure} takes a list of texts, not one string")
    split = [words(text) for text in texts]
    for number, text in enumerate(split, 1):
        if not text:
            raise UndefinedError(
                f"{measure} is undefined for text {number} of {len(split)}, which has no words: leave it out"
            )
    return split


def _at_least_two(texts: Sequence[str], measure: str) -> None:
    if len(texts) < 2:
        raise UndefinedError(f"{measure} compares texts with each other: it needs at least two, not {len(texts)}")


def _bleu_of_each(split: list[list[str]], max_n: int) -> _Floats:
    lengths = np.array([len(text) for text in split], dtype=np.int64)
    numbers: dict[str, int] = {}
    numbered = [numbers.setdefault(word, len(numbers)) for text in split for word in text]
    tokens = np.array(numbered, dtype=np.int64)
    owners = np.repeat(np.arange(len(split)), lengths)
    remaining = np.concatenate([np.arange(length, 0, -1) for length in lengths])

    grams = tokens.copy()
    logs = np.zeros(len(split))
    for n in range(1, max_n + 1):
        starts = np.flatnonzero(remaining >= n)
        if n > 1:
            # An n-gram is the (n-1)-gram that starts at the same word, and the word after it.
            grams[starts] = np.unique(grams[starts] * len(numbers) + tokens[starts + n - 1], return_inverse=True)[
                1
            ]
        matches = _matches(grams[starts], owners[starts], len(split))
        if n == 1:
            overlapping = matches > 0
        precision = np.where(matches > 0, matches, 0.1) / np.maximum(lengths - n + 1, 1)
        logs += np.log(precision)
    scores = _brevity_penalty(lengths) * np.exp(logs / max_n)
    return np.where(overlapping, scores, 0.0)


def _matches(grams: _Integers, owners: _Integers, texts: int) -> _Integers:
    """The n-grams of each text that the others match, each at most as often as another text contains it.

    The largest count among the others is the largest of all texts, or the second largest for the text that has it.
    """
    pairs, counts = np.unique(grams * texts + owners, return_counts=True)
    kinds, holders = np.divmod(pairs, texts)
    order = np.lexsort((counts, kinds))
    kinds, holders, counts = kinds[order], holders[order], counts[order]
    first, last = np.diff(kinds, prepend=-1) != 0, np.diff(kinds, append=-1) != 0
    largest = counts[last][np.cumsum(last) - last]
    second = np.where(first, 0, np.roll(counts, 1))
    matched = np.minimum(counts, np.where(last, second, largest))
    return np.bincount(holders, matched, texts).astype(np.int64)


def _brevity_penalty(lengths: _Integers) -> _Floats:
    """min(1, exp(1 - r / c)): c is a text's length, r the closest length of another (of two, the shorter)."""
    present, where, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    far = 4 * present[-1]
    shorter, longer = np.append(-far, present[:-1]), np.append(present[1:], far)
    nearest = np.where(present - shorter <= longer - present, shorter, longer)
    closest = np.where(counts > 1, present, nearest)
    penalty: _Floats = np.exp(np.minimum(0.0, 1.0 - closest / present))
    return penalty[where]
