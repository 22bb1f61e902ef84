"""The step `decontaminate`: removes records that share words or meaning with the questions of a benchmark."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.settings import option
from outspoken.synth.benchmarks import NgramIndex, OverlapMatch, read
from outspoken.synth.kmeans import unit_vectors
from outspoken.synth.records import batches, pa
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records

__all__ = ["DecontaminateOptions", "run"]

BY_WORDS = "shares words with a benchmark"
BY_MEANING = "means the same as a benchmark question"

_TEXTS_A_SLICE = 1024


@dataclass(frozen=True, kw_only=True)
class DecontaminateOptions(StepOptions):
    """Remove records that repeat a benchmark's question: it can then evaluate a model trained on the rest.

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
    )
    overlap: float = option(
        0.3,
        "Remove a record that has at least this share of such runs in common with a question, relative to the "
        "shorter of the two; 0: any.",
    )
    numbers: bool = option(
        True,
        "Whether numbers in digits count as words: then a question with other numbers is a different one, unless "
        "enough words stand between them. With false it is the same.",
    )
    meaning: float | None = option(
        None,
        "Remove a record whose cosine with a question is at least this. Default: do not compare meanings. With "
        "minilm 0.85 finds nearly all questions with other numbers, and most with other names.",
    )
    embedder: str = option(DEFAULT, "Embedding model for `meaning`.")

    def __post_init__(self) -> None:
        if not self.against:
            raise UsageError('against is missing: name benchmark files, against = ["gsm8k-test.jsonl"]')
        if isinstance(self.against, str):
            raise UsageError(f'against must be a list of files: against = ["{self.against}"]')
        if not 1 <= self.ngram <= 100:
            raise UsageError(f"ngram must be from 1 to 100 words, not {self.ngram}")
        if not 0 <= self.overlap <= 1:
            raise UsageError(f"overlap must be a share from 0 to 1, not {self.overlap:g}")
        if self.meaning is not None:
            if not 0 < self.meaning <= 1:
                raise UsageError(f"meaning must be a cosine above 0 and up to 1, not {self.meaning:g}")
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
    meanings = None
    if options.meaning is not None:
        model = embedder(options.embedder)
        vectors = await model.embed(texts, partial(step.progress.update, "embedding benchmarks"))
        meanings = _MeaningIndex(model, unit_vectors(vectors), options.meaning)
    removed_by_file, matched = Counter[str](), set[int]()

    async def decide(table: Any) -> BatchDecision:
        hits = await _hits(table.column("text").to_pylist(), index, options.overlap, meanings)
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
    warnings = list(meanings.embedder.warnings) if meanings else []
    if index.short:
        warnings.append(
            f"{index.short:,} of {len(questions):,} questions have fewer than {options.ngram} words: of these "
            "only exact copies are recognised by their words"
        )
    return replace(outcome, figures=figures, warnings=tuple(warnings))


@dataclass(frozen=True, slots=True)
class _MeaningIndex:
    """The unit vectors of the questions, searched for the one nearest to a text."""

    embedder: Embedder
    questions: Any
    least: float

    async def find(self, texts: Sequence[str]) -> list[OverlapMatch | None]:
        vectors = unit_vectors(await self.embedder.embed(texts))
        return await asyncio.to_thread(self._nearest, vectors)

    def _nearest(self, vectors: Any) -> list[OverlapMatch | None]:
        cosines = vectors @ self.questions.T
        return [
            OverlapMatch(int(at), min(1.0, float(row[at]))) if row[at] >= self.least else None
            for at, row in zip(cosines.argmax(1), cosines, strict=True)
        ]


async def _hits(
    texts: Sequence[str | None], index: NgramIndex, least: float, meanings: _MeaningIndex | None
) -> list[OverlapMatch | None]:
    """For each text the question that it repeats. Meanings are compared only if the words do not match."""
    hits: list[OverlapMatch | None] = []
    for start in range(0, len(texts), _TEXTS_A_SLICE):
        part = texts[start : start + _TEXTS_A_SLICE]
        found = await asyncio.to_thread(list, (index.find(text or "", least) for text in part))
        if meanings is not None:
            undecided = {at: text for at, text in enumerate(part) if found[at] is None and text and text.strip()}
            near = await meanings.find([*undecided.values()]) if undecided else []
            for at, hit in zip(undecided, near, strict=True):
                found[at] = hit
        hits += found
    return hits
