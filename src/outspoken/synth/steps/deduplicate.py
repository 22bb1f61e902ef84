"""The step `deduplicate`: of equal, nearly equal or synonymous records it keeps the first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from outspoken.engine.concurrency import in_thread
from outspoken.errors import UsageError
from outspoken.measure import embedding
from outspoken.settings import check_values, option
from outspoken.synth.dedup.greedy import MAX_COMPARED
from outspoken.synth.dedup.minhash import bands_for, check_similarity
from outspoken.synth.dedup.search import KEPT, MEANING, NEAR, SAME, NearDuplicates, Report, TextFile, find
from outspoken.synth.dedup.semantic import by_meaning
from outspoken.synth.records import batches, pa
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records

__all__ = ["REASONS", "DeduplicateOptions", "run"]

REASONS = {SAME: "the same text", NEAR: "nearly the same text", MEANING: "the same meaning"}


@dataclass(frozen=True, kw_only=True)
class DeduplicateOptions(StepOptions):
    """What counts as a duplicate. Raises `UsageError` for invalid options."""

    exact: bool = option(True, "Remove texts that differ only in case, blanks, outer marks and Unicode forms.")
    near: float | None = option(
        0.9, "Remove texts with this Jaccard similarity of their three-character pieces (0.5 to 1; 0: off)."
    )
    meaning: float | None = option(
        None,
        "Remove texts with this cosine of their embeddings; slow, and blind to a `not` or a number (0: off).",
        low=0,
        high=1,
        hint="a cosine; 0 is off, 0.95 is strict",
    )
    embedder: str = option("minilm", "Embedding model for `meaning`, as for `outspoken measure --embedder`.")

    def __post_init__(self) -> None:
        check_values(self)
        if self.near:
            check_similarity(self.near)
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
    with ExitStack() as stack:
        search: Callable[[TextFile, bool, float | None, Report], NearDuplicates] = find
        if step.engine.kind == "ray":
            from outspoken.synth.dedup.ray_search import ray_search_at

            search = stack.enter_context(ray_search_at(step.engine.address, step.engine.workers)).find

        def work(check: Callable[[], None]) -> NearDuplicates:
            def report(stage: str, done: int, total: int) -> None:
                check()
                step.progress.update(stage, done, total)

            return search(texts, options.exact, near, report)

        duplicates = await in_thread(work)
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
            f"{duplicates.crowded:,} records have more than {MAX_COMPARED} similar candidates and were compared "
            f"with only {MAX_COMPARED} of them: a few near-duplicates may remain"
        )
    if options.meaning:
        removed = outcome.removed.get(REASONS[MEANING], 0)
        warnings.append(
            f"by {options.embedder} a cosine of {options.meaning:g} or more removed {removed:,}: it hardly sees a "
            "negation or another number, so read some of the removed records"
        )
    return replace(outcome, figures=_figures(options, duplicates), warnings=tuple(warnings))


async def _write(texts: TextFile, duplicates: NearDuplicates, step: Step) -> StepOutcome:
    removed = duplicates.by != KEPT
    standing = np.unique(duplicates.stands_for[removed])
    ids = pa.array([str(name) for name in texts.column_at("id", standing)], pa.string())

    async def decide(table: Any, start: int) -> BatchDecision:
        here = slice(start, start + table.num_rows)
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
