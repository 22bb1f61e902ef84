"""The step `decontaminate`: removes records that share words or meaning with the questions of a benchmark."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from outspoken.batch.source_formats import ColumnSource, Unreadable, listed, open_source
from outspoken.batch.source_text import CutOffError
from outspoken.errors import UsageError
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.measure.tokenization import words
from outspoken.settings import check_values, option
from outspoken.synth.kmeans import unit_vectors
from outspoken.synth.records import batches, pa
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records

__all__ = ["DecontaminateOptions", "NgramIndex", "read_questions", "run"]

BY_WORDS = "shares words with a benchmark"
BY_MEANING = "means the same as a benchmark question"

_TEXTS_A_SLICE = 1024


@dataclass(frozen=True, kw_only=True)
class DecontaminateOptions(StepOptions):
    """Remove records that repeat a benchmark's question, so that it can evaluate a model trained on the others.

    docs/synth.md says what the defaults find. Paraphrases need `meaning`.
    """

    against: tuple[str, ...] = option(
        (),
        "Benchmark files (.jsonl, .json, .csv, .parquet) with the column question (GSM8K), problem (MATH), "
        "prompt or text.",
        path=True,
    )
    column: str = option("", "The column of these files with the questions. Default: the first of those.")
    ngram: int = option(
        8,
        "Consecutive words that count as shared (a character of Chinese or Japanese is a word). A text with fewer "
        "words counts only if it is the whole question.",
        low=1,
        high=100,
    )
    overlap: float = option(
        0.3,
        "Remove a record if it and a question share at least this part of such runs, relative to the shorter of "
        "the two; 0: any run.",
        low=0,
        high=1,
    )
    numbers: bool = option(
        True,
        "Whether numbers in digits count as words: then a question with other numbers is a different one, unless "
        "enough words stand between them. With false it is the same question.",
    )
    meaning: float | None = option(
        None,
        "Remove a record whose cosine with a question is at least this. Default: do not compare meanings. With "
        "minilm 0.85 finds nearly all questions with other numbers, and most with other names.",
        above=0,
        high=1,
    )
    embedder: str = option(DEFAULT, "Embedding model for `meaning`.")

    def __post_init__(self) -> None:
        if not self.against:
            raise UsageError('against is missing: name benchmark files, against = ["gsm8k-test.jsonl"]')
        if isinstance(self.against, str):
            raise UsageError(f'against must be a list of files: against = ["{self.against}"]')
        check_values(self)
        if self.meaning is not None:
            embedder(self.embedder, cache=None)

    def check(self, model: str | None = None) -> None:
        read_questions(self.against, self.column)


async def run(options: DecontaminateOptions, step: Step) -> StepOutcome:
    """Compare each record with all questions; the order of the kept ones does not change."""
    next(batches(step.needed_source(), ("text",), rows=1))  # raises if there is no such column
    step.progress.update("reading benchmarks", 0)
    questions = await asyncio.to_thread(read_questions, options.against, options.column)
    texts = [question.text for question in questions]
    index = await asyncio.to_thread(NgramIndex, texts, options.ngram, numbers=options.numbers)
    model = nearest = None
    if options.meaning is not None:
        model = embedder(options.embedder)
        vectors = await model.embed(texts, partial(step.progress.update, "embedding benchmarks"))
        nearest = partial(_nearest, model, unit_vectors(vectors), options.meaning)
    removed_by_file, matched = Counter[str](), set[int]()

    async def decide(table: Any, _: int) -> BatchDecision:
        hits = await _hits(table.column("text").to_pylist(), index, options.overlap, nearest)
        removing = [hit for hit in hits if hit is not None]
        removed_by_file.update(questions[hit.question].file for hit in removing)
        matched.update(hit.question for hit in removing)
        details = {
            "because_of": pa.array([questions[hit.question].where for hit in removing], pa.string()),
            "similarity": pa.array([hit.share for hit in removing], pa.float64()),
            "shared": pa.array([hit.passage for hit in removing], pa.string()),
        }
        reasons = [None if hit is None else BY_MEANING if hit.passage is None else BY_WORDS for hit in hits]
        return BatchDecision(table, reasons, details)

    outcome = await filter_records(step, "comparing with benchmarks", decide)
    per_file = Counter(question.file for question in questions)
    figures = {
        "questions": len(questions),
        "questions_met": len(matched),
        "benchmarks": [
            {"file": name, "questions": asked, "removed": removed_by_file[name]}
            for name, asked in per_file.items()
        ],
    }
    warnings = list(model.warnings) if model else []
    if index.short:
        warnings.append(
            f"{index.short:,} of {len(questions):,} questions have fewer than {options.ngram} words: of these "
            "only exact copies are recognised by their words"
        )
    return replace(outcome, figures=figures, warnings=tuple(warnings))


COLUMNS = ("question", "problem", "prompt", "text")
"""The default columns of questions: GSM8K's, MATH's, and two common ones."""


@dataclass(frozen=True, slots=True)
class BenchmarkQuestion:
    """A question of a benchmark, the short name of its `file`, and its place, such as "test.jsonl:12"."""

    text: str
    file: str
    where: str


def read_questions(paths: Sequence[str], column: str = "") -> tuple[BenchmarkQuestion, ...]:
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


_Matches = list[OverlapMatch | None]


async def _nearest(model: Embedder, questions: Any, least: float, texts: Sequence[str]) -> _Matches:
    """For each text the question nearest in meaning, if their cosine is at least `least`."""

    def compare(vectors: Any) -> _Matches:
        cosines = vectors @ questions.T
        return [
            OverlapMatch(int(at), min(1.0, float(row[at]))) if row[at] >= least else None
            for at, row in zip(cosines.argmax(1), cosines, strict=True)
        ]

    return await asyncio.to_thread(compare, unit_vectors(await model.embed(texts)))


async def _hits(
    texts: Sequence[str | None],
    index: NgramIndex,
    least: float,
    nearest: Callable[[Sequence[str]], Awaitable[_Matches]] | None,
) -> _Matches:
    """For each text the question that it repeats. Meanings are compared only if the words do not match."""
    hits: _Matches = []
    for start in range(0, len(texts), _TEXTS_A_SLICE):
        part = texts[start : start + _TEXTS_A_SLICE]
        matches = await asyncio.to_thread(list, (index.find(text or "", least) for text in part))
        undecided = {at: text for at, text in enumerate(part) if matches[at] is None and text and text.strip()}
        if nearest is not None and undecided:
            for at, match in zip(undecided, await nearest([*undecided.values()]), strict=True):
                matches[at] = match
        hits += matches
    return hits
