"""The step `decontaminate`: removes records that share words or meaning with the questions of a benchmark."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.settings import check_values, option
from outspoken.synth.benchmarks import NgramIndex, OverlapMatch, read
from outspoken.synth.kmeans import unit_vectors
from outspoken.synth.records import batches, pa
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records

__all__ = ["DecontaminateOptions", "run"]

BY_WORDS = "shares words with a benchmark"
BY_MEANING = "means the same as a benchmark question"

_TEXTS_A_SLICE = 1024

_Matches = list[OverlapMatch | None]


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
        read(self.against, self.column)


async def run(options: DecontaminateOptions, step: Step) -> StepOutcome:
    """Compare each record with all questions; the order of the kept ones does not change."""
    next(batches(step.needed_source(), ("text",), rows=1))  # raises if there is no such column
    step.progress.update("reading benchmarks", 0)
    questions = await asyncio.to_thread(read, options.against, options.column)
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
