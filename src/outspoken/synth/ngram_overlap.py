"""The overlap of a text with many questions, by an index of their word n-grams."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from outspoken.measure.tokenization import words

__all__ = ["NgramIndex", "OverlapMatch"]

COMMON = 10
"""N-grams in more questions than this are phrases of the benchmark (Brown et al. 2020, appendix C)."""

_DIGITS = re.compile(r"\d+")
_ASIAN = r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
_UNSPACED = re.compile(rf"(?<={_ASIAN}) (?={_ASIAN})")


@dataclass(frozen=True, slots=True)
class OverlapMatch:
    """The number of the question that shares most with a text, the share, and the longest common passage."""

    question: int
    share: float
    passage: str


class NgramIndex:
    """Finds among many questions the one that shares most n-grams of `size` words with a text.

    Words are those of `outspoken.measure.tokenization` (folded, no punctuation, a character of Chinese is one);
    without `numbers` all numbers in digits are the same word. The share is the number of different common n-grams
    divided by that of the text or of the question, whichever has fewer: so a question inside a longer text has a
    share of 1, and so has a part of a question. N-grams in more than `COMMON` different questions do not count. A
    text with the same words as a question in the same order has a share of 1, however few they are.
    """

    def __init__(self, questions: Sequence[str], size: int, *, numbers: bool = True) -> None:
        self.size = size
        self._words = words if numbers else _without_numbers
        self._by_words: dict[tuple[str, ...], int] = {}
        for number, question in enumerate(questions):
            self._by_words.setdefault(tuple(self._words(question)), number)
        self._by_words.pop((), None)
        ngrams_of = {number: self._ngrams(terms) for terms, number in self._by_words.items()}
        self.short = sum(not ngrams for ngrams in ngrams_of.values())
        counts = Counter(ngram for ngrams in ngrams_of.values() for ngram in ngrams)
        self._common = {ngram for ngram, count in counts.items() if count > COMMON}
        self._questions_with: dict[tuple[str, ...], list[int]] = {}
        self._sizes: dict[int, int] = {}
        for number, ngrams in ngrams_of.items():
            ngrams -= self._common
            self._sizes[number] = len(ngrams)
            for ngram in ngrams:
                self._questions_with.setdefault(ngram, []).append(number)

    def find(self, text: str, least: float) -> OverlapMatch | None:
        """The question that shares most with `text`; None if it shares nothing or less than `least`."""
        terms = self._words(text)
        if not terms:
            return None
        if (same := self._by_words.get(tuple(terms))) is not None:
            return OverlapMatch(same, 1.0, _joined(terms))
        ngrams = self._ngrams(terms)
        shared = self._questions_with.keys() & ngrams
        if not shared:
            return None
        total = len(ngrams) - len(ngrams & self._common)
        counts = Counter(number for ngram in shared for number in self._questions_with[ngram])
        share, number = max((count / min(total, self._sizes[n]), -n) for n, count in counts.items())
        if share < least:
            return None
        return OverlapMatch(-number, share, self._passage(terms, -number))

    def _ngrams(self, terms: Sequence[str]) -> set[tuple[str, ...]]:
        return set(zip(*(terms[start:] for start in range(self.size)), strict=False))

    def _passage(self, terms: Sequence[str], number: int) -> str:
        """The longest passage of a text all of whose n-grams are in that question."""
        best, start = (0, 0), 0
        for at in range(len(terms) - self.size + 1):
            if number not in self._questions_with.get(tuple(terms[at : at + self.size]), ()):
                start = at + 1
            elif at + 1 - start > best[1] - best[0]:
                best = (start, at + 1)
        return _joined(terms[best[0] : best[1] + self.size - 1])


def _without_numbers(text: str) -> list[str]:
    return [_DIGITS.sub("0", word) for word in words(text)]


def _joined(terms: Sequence[str]) -> str:
    """The words as text, without blanks between characters of scripts that have none."""
    return _UNSPACED.sub("", " ".join(terms))
