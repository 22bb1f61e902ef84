"""The questions of benchmarks, and the overlap of a text with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from outspoken.batch.source_formats import ColumnSource, CutOffError, Unreadable, listed, open_source
from outspoken.errors import UsageError
from outspoken.measure.tokenization import words

__all__ = ["COLUMNS", "BenchmarkQuestion", "NgramIndex", "OverlapMatch", "read"]

COLUMNS = ("question", "problem", "prompt", "text")
"""The default columns of questions: GSM8K's, MATH's, and two common ones."""


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """A question of a benchmark, the short name of its `file`, and its place, such as "test.jsonl:12"."""

    text: str
    file: str
    where: str


def read(paths: Sequence[str], column: str = "") -> tuple[BenchmarkQuestion, ...]:
    """The questions of these files, from `column` or the first of `COLUMNS` that a file has.

    The suffix tells the format: .jsonl, .ndjson, .json (an array), .csv, .tsv, .parquet, else one question per
    line; all but Parquet may be followed by .gz. A question is text, or the user's messages of a chat.

    Raises `UsageError` for a file that is missing, lacks such a column, or holds an unreadable or empty row.
    """
    paths = list(dict.fromkeys(paths))
    questions: list[BenchmarkQuestion] = []
    for path, name in zip(paths, _short_names(paths), strict=True):
        before = len(questions)
        questions += _questions(path, name, column)
        if len(questions) == before:
            raise UsageError(f"the benchmark {path} holds no rows: leave it out, or name the right file")
    return tuple(questions)


def _questions(path: str, name: str, column: str) -> Iterator[BenchmarkQuestion]:
    if Path(path).is_dir():
        raise UsageError(f"the benchmark {path} is a folder: name the files in it")
    source = ColumnSource(path)
    chosen = ""
    with ExitStack() as stack:
        try:
            for position, value in open_source(path, source, stack):
                where = source.where(position)
                if type(value) is Unreadable:
                    raise UsageError(f"{where}: {value}; correct that row, or remove it")
                if type(value) is dict:
                    chosen = chosen or _column(path, source.columns or list(value), column)
                    value = value.get(chosen)
                text = _text(value)
                if not text.strip():
                    problem = f"no text in the column {chosen!r}" if chosen else "no text"
                    raise UsageError(f"{where}: {problem}; correct that row, or remove it")
                yield BenchmarkQuestion(text, name, f"{name}{source.between}{position}")
        except CutOffError as error:
            raise UsageError(f"the benchmark {path} cannot be read to its end: {error}") from error


def _column(path: str, columns: Sequence[str], wanted: str) -> str:
    for name in (wanted,) if wanted else COLUMNS:
        if name in columns:
            return name
    missing = repr(wanted) if wanted else f"{', '.join(map(repr, COLUMNS[:-1]))} or {COLUMNS[-1]!r}"
    raise UsageError(
        f"the benchmark {path} has no column {missing}: the columns are {listed(columns)}; say which one holds "
        'the questions with column = "NAME"'
    )


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        contents = [message.get("content") for message in value if message.get("role") == "user"]
        return "\n".join(content for content in contents if isinstance(content, str))
    return ""


def _short_names(paths: Sequence[str]) -> list[str]:
    """For each file its name, preceded by as many folders as distinguish it from the others."""
    all_parts = [Path(path).parts for path in paths]
    names = []
    for parts in all_parts:
        length = 1
        while length < len(parts) and sum(other[-length:] == parts[-length:] for other in all_parts) > 1:
            length += 1
        names.append("/".join(parts[-length:]))
    return names


COMMON = 10
"""N-grams in more questions than this are phrases of the benchmark (Brown et al. 2020, appendix C)."""

_DIGITS = re.compile(r"\d+")
_ASIAN = r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
_UNSPACED = re.compile(rf"(?<={_ASIAN}) (?={_ASIAN})")


@dataclass(frozen=True, slots=True)
class OverlapMatch:
    """The number of the question that shares most with a text, the share, and the longest common passage.

    Without a passage (None) the text means the same, and the share is the cosine.
    """

    question: int
    share: float
    passage: str | None = None


class NgramIndex:
    """Finds among many questions the one that shares most n-grams of `size` words with a text.

    Words are those of `outspoken.measure.tokenization` (folded, without punctuation; a Chinese character is one);
    without `numbers` all numbers in digits are the same word. The share is the number of different common n-grams
    divided by that of the text or of the question, whichever has fewer. So it is 1 for a question inside a longer
    text and for a part of a question, and for a text with the same few words. N-grams in more than `COMMON`
    different questions do not count.
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
        """The longest passage of the text whose n-grams are all in that question."""
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
    """The words as text, without blanks in scripts that have none."""
    return _UNSPACED.sub("", " ".join(terms))
