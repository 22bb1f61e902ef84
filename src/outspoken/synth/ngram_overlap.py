"""Which question shares its words with a text: an index of the runs of words in many questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from outspoken.measure.tokenization import words

__all__ = ["Match", "NgramIndex"]

COMMON = 10
"""A run of words in more questions than this is a phrase of the benchmark, as in Brown et al. 2020, appendix C."""

_DIGITS = re.compile(r"\d+")
_ASIAN = r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
_UNSPACED = re.compile(rf"(?<={_ASIAN}) (?={_ASIAN})")


@dataclass(frozen=True, slots=True)
class Match:
    """The number of the question that shares most with a text, how much, and the longest passage in common."""

    question: int
    share: float
    passage: str


class NgramIndex:
    """Finds among many questions the one that shares most runs of `size` words with a text.

    Words are those of `outspoken.measure.tokenization` (folded, no punctuation, a character of Chinese is one);
    without `numbers` all numbers in digits are one word. The share is that of the different runs in common among
    those of the text or the question, whichever has fewer: so a question inside of a longer text counts wholly,
    and so does a part of it. Runs in more than `COMMON` different questions do not count. A text whose words are
    all those of a question, in the same order, shares all, however few they are.
    """

    def __init__(self, questions: Sequence[str], size: int, *, numbers: bool = True) -> None:
        self.size = size
        self._words = words if numbers else _without_numbers
        self._whole: dict[tuple[str, ...], int] = {}
        for number, question in enumerate(questions):
            self._whole.setdefault(tuple(self._words(question)), number)
        self._whole.pop((), None)
        runs = {number: self._runs(terms) for terms, number in self._whole.items()}
        self.short = sum(not own for own in runs.values())
        counts = Counter(run for own in runs.values() for run in own)
        self._common = {run for run, count in counts.items() if count > COMMON}
        self._at: dict[tuple[str, ...], list[int]] = {}
        self._sizes: dict[int, int] = {}
        for number, own in runs.items():
            own -= self._common
            self._sizes[number] = len(own)
            for run in own:
                self._at.setdefault(run, []).append(number)

    def find(self, text: str, least: float) -> Match | None:
        """The question that shares most with `text`, where that is a share of `least` and anything at all."""
        terms = self._words(text)
        if not terms:
            return None
        if (same := self._whole.get(tuple(terms))) is not None:
            return Match(same, 1.0, _written(terms))
        runs = self._runs(terms)
        found = self._at.keys() & runs
        if not found:
            return None
        total = len(runs) - len(runs & self._common)
        counts = Counter(number for run in found for number in self._at[run])
        share, number = max((count / min(total, self._sizes[n]), -n) for n, count in counts.items())
        if share < least:
            return None
        return Match(-number, share, self._passage(terms, -number))

    def _runs(self, terms: Sequence[str]) -> set[tuple[str, ...]]:
        return set(zip(*(terms[start:] for start in range(self.size)), strict=False))

    def _passage(self, terms: Sequence[str], number: int) -> str:
        """The longest passage of a text all of whose runs of words stand in that question."""
        best, start = (0, 0), 0
        for at in range(len(terms) - self.size + 1):
            if number not in self._at.get(tuple(terms[at : at + self.size]), ()):
                start = at + 1
            elif at + 1 - start > best[1] - best[0]:
                best = (start, at + 1)
        return _written(terms[best[0] : best[1] + self.size - 1])


def _without_numbers(text: str) -> list[str]:
    return [_DIGITS.sub("0", word) for word in words(text)]


def _written(terms: Sequence[str]) -> str:
    return _UNSPACED.sub("", " ".join(terms))
