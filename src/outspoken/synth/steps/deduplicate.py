"""The step `deduplicate`: of records that say the same, or nearly the same, the first is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from outspoken.errors import StoppedError, UsageError
from outspoken.measure import embedding
from outspoken.settings import option
from outspoken.synth.dedup.greedy import MAX_COMPARED
from outspoken.synth.dedup.minhash import bands_for, check_similarity
from outspoken.synth.dedup.search import KEPT, MEANING, NEAR, SAME, NearDuplicates, Report, TextFile, find
from outspoken.synth.dedup.semantic import by_meaning
from outspoken.synth.records import batches, pa
from outspoken.synth.steps.base import (
    BatchDecision,
    Step,
    StepOptions,
    StepOutcome,
    StepProgress,
    filter_records,
    in_thread,
)

__all__ = ["REASONS", "DeduplicateOptions", "run"]

REASONS = {SAME: "the same text", NEAR: "nearly the same text", MEANING: "the same meaning"}


@dataclass(frozen=True, kw_only=True)
class DeduplicateOptions(StepOptions):
    """What counts as a duplicate. Raises `UsageError` for invalid options."""

    exact: bool = option(
        True, "Remove texts that differ only in case, blanks, marks at the ends and Unicode forms."
    )
    near: float | None = option(
        0.9, "Remove texts with this Jaccard similarity of their three-character pieces (0.5 to 1; 0: off)."
    )
    meaning: float | None = option(
        None, "Remove texts with this cosine of their embeddings; slow, and blind to a `not` or a number (0: off)."
    )
    embedder: str = option("minilm", "Embedding model for `meaning`, as for `outspoken measure --embedder`.")

    def __post_init__(self) -> None:
        if self.near:
            check_similarity(self.near)
        if self.meaning is not None and not 0 <= self.meaning <= 1:
            raise UsageError(f"meaning must be a cosine from 0 (off) to 1, not {self.meaning:g}: 0.95 is strict")
        if not (self.exact or self.near or self.meaning):
            raise UsageError("exact, near and meaning are all off: switch one on, or leave the step out")

    def check(self, model: str | None = None) -> None:
        if self.meaning:
            embedding.embedder(self.embedder)


async def run(options: DeduplicateOptions, step: Step) -> StepOutcome:
    """Keep the first of equal records. Each removed record names the kept one that stands for it in `because_of`.

    `similarity` is 1 for the same text, the Jaccard similarity for nearly the same text, the cosine for the same
    meaning. Raises `UsageError` if the source is not a file of records.
    """
    texts = TextFile(step.needed_source())
    next(batches(texts.path, ["id", "text"], 1), None)
    near = options.near or None
    if step.engine.kind == "ray":
        from outspoken.synth.dedup.ray_search import ray_search_at

        with ray_search_at(step.engine.address, step.engine.workers) as search:
            duplicates = await _stoppable(step.progress, partial(search.find, texts, options.exact, near))
    else:
        duplicates = await _stoppable(step.progress, partial(find, texts, options.exact, near))
    warnings: list[str] = []
    if options.meaning:
        model = embedding.embedder(options.embedder)
        try:
            await by_meaning(texts, duplicates, model, options.meaning, near, step.progress.update)
        finally:
            await model.aclose()
        warnings += model.warnings
    duplicates.resolve_equal_texts()
    outcome = await _write(texts, duplicates, step)
    if duplicates.crowded:
        warnings.append(
            f"{duplicates.crowded:,} records have more than {MAX_COMPARED} similar candidates, and were compared "
            f"with only {MAX_COMPARED} of them: a few near-duplicates may remain"
        )
    if options.meaning:
        removed = outcome.removed.get(REASONS[MEANING], 0)
        warnings.append(
            f"by {options.embedder} a cosine of {options.meaning:g} or more removed {removed:,}: it hardly sees a "
            "negation or another number, so read some of the removed ones"
        )
    return replace(outcome, figures=_figures(options, duplicates), warnings=tuple(warnings))


async def _stoppable(progress: StepProgress, search: Callable[[Report], NearDuplicates]) -> NearDuplicates:
    """Search in a thread. A cancellation ends it the next time it reports its progress."""
    cancelled = threading.Event()

    def report(stage: str, done: int, total: int) -> None:
        if cancelled.is_set():
            raise StoppedError("the search was cancelled")
        progress.update(stage, done, total)

    return await in_thread(partial(search, report), on_cancel=cancelled.set)


async def _write(texts: TextFile, duplicates: NearDuplicates, step: Step) -> StepOutcome:
    removed = duplicates.by != KEPT
    standing = np.unique(duplicates.stands_for[removed])
    ids = pa.array([str(name) for name in texts.column_at("id", standing)], pa.string())
    start = 0

    async def decide(table: Any) -> BatchDecision:
        nonlocal start
        here = slice(start, start + table.num_rows)
        start += table.num_rows
        where = removed[here]
        details = {
            "because_of": ids.take(pa.array(np.searchsorted(standing, duplicates.stands_for[here][where]))),
            "similarity": pa.array(duplicates.similarity[here][where]),
        }
        return BatchDecision(table, [REASONS.get(by) for by in duplicates.by[here].tolist()], details)

    return await filter_records(step, "writing", decide)


def _figures(options: DeduplicateOptions, duplicates: NearDuplicates) -> dict[str, object]:
    figures: dict[str, object] = {}
    stand_ins = duplicates.stands_for[duplicates.by != KEPT]
    if len(stand_ins):
        standing, sizes = np.unique(stand_ins, return_counts=True)
        figures |= {"stand_for_others": len(standing), "most_for_one": int(sizes.max())}
    if options.near:
        bands = bands_for(options.near)
        figures["near"] = {
            "similarity": options.near,
            "bands": bands.count,
            "rows": bands.rows,
            "recall_at_similarity": round(bands.recall(options.near), 4),
            "crowded": duplicates.crowded,
        }
    if options.meaning:
        figures["meaning"] = {"cosine": options.meaning, "embedder": options.embedder}
    return figures
