"""The step that removes what a benchmark asks: records that share its words, and those that mean the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outspoken.errors import UsageError
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.settings import option
from outspoken.synth.benchmark_files import BenchmarkQuestion, read
from outspoken.synth.ngram_overlap import NgramIndex
from outspoken.synth.records import RecordWriter, batches, count, pa, with_columns
from outspoken.synth.steps.base import Step, StepOutcome

__all__ = ["DecontaminateOptions", "check", "run"]

BY_WORDS = "shares words with a benchmark"
BY_MEANING = "means the same as a benchmark question"

_TEXTS_A_SLICE = 1024


@dataclass(frozen=True, kw_only=True)
class DecontaminateOptions:
    """Remove records that a benchmark asks, so that a model trained on the rest can be evaluated on it.

    Words: GPT-3 was cleaned by runs of 13 words, which a tenth of the questions of MATH do not have; later
    practice (PaLM, Tülu 3) takes 8. Of the 1,819 questions of GSM8K and MATH500, the defaults find all copies, 95%
    where one word in twenty is left out, 91% where people have other names, and 66% where all numbers are others
    (all of them without `numbers`). They take a question for another one only where it was made from it (4 of
    them; without `numbers` also 6 that are mostly formulas). Paraphrases need `meaning`.
    """

    against: tuple[str, ...] = option(
        (),
        "Benchmark files (.jsonl, .json, .csv, .parquet) with the column question (GSM8K), problem (MATH), "
        "prompt or text.",
        path=True,
    )
    column: str = option("", "The column of these files that holds the questions. Default: the first of those.")
    ngram: int = option(
        8,
        "Words in a row that count as shared (a character of Chinese or Japanese is a word). A text of fewer "
        "words counts only where it is the whole question.",
    )
    overlap: float = option(
        0.3,
        "Remove a record with at least this share of such runs in one question, counted on whichever of both is "
        "shorter; 0: with any.",
    )
    numbers: bool = option(
        True,
        "Whether numbers in digits count as words: then a question with other numbers is another one, unless "
        "enough words stand between them. With false it is the same.",
    )
    meaning: float | None = option(
        None,
        "Remove a record whose cosine with a question is at least this. Default: do not compare meanings. For "
        "minilm 0.85 finds nearly all questions with other numbers, and most with other names.",
    )
    embedder: str = option(DEFAULT, "What embeds for `meaning`.")

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


def check(options: DecontaminateOptions) -> tuple[BenchmarkQuestion, ...]:
    """The questions of the benchmarks. Raises `UsageError` for a file that is not one, before anything is done."""
    return read(options.against, options.column)


async def run(options: DecontaminateOptions, step: Step) -> StepOutcome:
    """Compare each record with all questions; the kept ones go on in their order."""
    source = step.needed()
    next(batches(source, ("text",), rows=1))  # raises where there is no such column
    step.watch.tell("reading benchmarks", 0)
    questions = await asyncio.to_thread(check, options)
    texts = [question.text for question in questions]
    index = await asyncio.to_thread(NgramIndex, texts, options.ngram, numbers=options.numbers)
    meanings = None
    if options.meaning is not None:
        meanings = _Meanings(embedder(options.embedder), options.meaning)
        await meanings.learn(texts, step)
    total, done = count(source), 0
    removed, per_file, met = Counter[str](), Counter[str](), set[int]()
    with RecordWriter(step.out) as kept, RecordWriter(step.removed) as gone:
        for table in batches(source):
            step.watch.tell("comparing with benchmarks", done, total)
            found = await _found(table.column("text").to_pylist(), index, options.overlap, meanings)
            kept.write(table.filter(pa.array([hit is None for hit in found], pa.bool_())))
            hits = [hit for hit in found if hit is not None]
            if hits:
                rest = table.filter(pa.array([hit is not None for hit in found], pa.bool_()))
                gone.write(with_columns(rest, _columns(hits, questions)))
            removed.update(hit.reason for hit in hits)
            per_file.update(questions[hit.question].file for hit in hits)
            met.update(hit.question for hit in hits)
            done += table.num_rows
    asked = Counter(question.file for question in questions)
    figures = {
        "questions": len(questions),
        "questions_met": len(met),
        "benchmarks": [
            {"file": name, "questions": number, "removed": per_file[name]} for name, number in asked.items()
        ],
    }
    warnings = list(meanings.embedder.warnings) if meanings else []
    if index.short:
        warnings.append(
            f"{index.short:,} of {len(questions):,} questions have fewer than {options.ngram} words: by its words "
            "only a record that asks just the same is found"
        )
    return StepOutcome(kept.rows, dict(removed), figures, tuple(warnings))


@dataclass(frozen=True, slots=True)
class _Hit:
    question: int
    reason: str
    similarity: float
    shared: str | None = None


class _Meanings:
    """The questions as vectors, and which of them is nearest to a text."""

    def __init__(self, embedder: Embedder, least: float) -> None:
        self.embedder = embedder
        self._least = least
        self._questions: Any = None

    async def learn(self, questions: Sequence[str], step: Step) -> None:
        def told(done: int, total: int) -> None:
            step.watch.tell("embedding benchmarks", done, total)

        self._questions = _unit(await self.embedder.embed(questions, told))

    async def find(self, texts: Sequence[str]) -> list[_Hit | None]:
        vectors = _unit(await self.embedder.embed(texts))
        return await asyncio.to_thread(self._near, vectors)

    def _near(self, vectors: Any) -> list[_Hit | None]:
        cosines = vectors @ self._questions.T
        best = cosines.argmax(1)
        return [
            _Hit(int(at), BY_MEANING, min(1.0, float(row[at]))) if row[at] >= self._least else None
            for at, row in zip(best, cosines, strict=True)
        ]


async def _found(
    texts: Sequence[str | None], index: NgramIndex, least: float, meanings: _Meanings | None
) -> list[_Hit | None]:
    """For each text the question that it repeats; meanings are compared only where words say nothing."""
    found: list[_Hit | None] = []
    for start in range(0, len(texts), _TEXTS_A_SLICE):
        part = texts[start : start + _TEXTS_A_SLICE]
        hits = await asyncio.to_thread(_by_words, part, index, least)
        if meanings is not None:
            open_ = [
                at for at, (text, hit) in enumerate(zip(part, hits, strict=True)) if hit is None and _says(text)
            ]
            near = await meanings.find([part[at] or "" for at in open_]) if open_ else []
            for at, hit in zip(open_, near, strict=True):
                hits[at] = hit
        found += hits
    return found


def _by_words(texts: Sequence[str | None], index: NgramIndex, least: float) -> list[_Hit | None]:
    matches = (index.find(text or "", least) for text in texts)
    return [
        None if match is None else _Hit(match.question, BY_WORDS, match.share, match.passage) for match in matches
    ]


def _columns(hits: Sequence[_Hit], questions: Sequence[BenchmarkQuestion]) -> dict[str, Any]:
    return {
        "reason": pa.array([hit.reason for hit in hits], pa.string()),
        "because_of": pa.array([questions[hit.question].where for hit in hits], pa.string()),
        "similarity": pa.array([hit.similarity for hit in hits], pa.float64()),
        "shared": pa.array([hit.shared for hit in hits], pa.string()),
    }


def _unit(vectors: Any) -> Any:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _says(text: str | None) -> bool:
    return bool(text and text.strip())
