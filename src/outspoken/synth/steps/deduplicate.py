"""The step `deduplicate`: of records that say the same, or nearly the same, the first is kept."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from outspoken._extras import need
from outspoken.errors import UsageError
from outspoken.settings import option
from outspoken.synth import records
from outspoken.synth.dedup.greedy import COMPARED
from outspoken.synth.dedup.minhash import bands_for, check_similarity
from outspoken.synth.dedup.search import KEPT, MEANING, NEAR, SAME, NearDuplicates, Tell, find
from outspoken.synth.dedup.texts import TextFile
from outspoken.synth.steps.base import Step, StepOutcome, StepProgress

pa = need("pyarrow", "synthetic data", "synth")
pq = need("pyarrow.parquet", "synthetic data", "synth")

__all__ = ["REASONS", "DeduplicateOptions", "run"]

REASONS = {SAME: "the same text", NEAR: "nearly the same text", MEANING: "the same meaning"}

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class DeduplicateOptions:
    """What counts as said before. Raises `UsageError` for what cannot be."""

    exact: bool = option(
        True, "Remove what is the same but for case, blanks, marks at the ends and Unicode forms."
    )
    near: float | None = option(
        0.9, "Remove what shares this much of its three-character pieces (Jaccard, 0.5 to 1; 0: off)."
    )
    meaning: float | None = option(
        None, "Remove what has this cosine in an embedding; slow, and blind to a `not` or a number (0: off)."
    )
    embedder: str = option("minilm", "What embeds, for `meaning`: a name as for `outspoken measure --embedder`.")

    def __post_init__(self) -> None:
        if self.near:
            check_similarity(self.near)
        if self.meaning is not None and not 0 <= self.meaning <= 1:
            raise UsageError(f"meaning must be a cosine from 0 (off) to 1, not {self.meaning:g}: 0.95 is strict")
        if not (self.exact or self.near or self.meaning):
            raise UsageError("exact, near and meaning are all off: switch one on, or leave the step out")


def check(options: DeduplicateOptions) -> None:
    """Raise `UsageError` for an embedder that is none."""
    if options.meaning:
        from outspoken.measure.embedding import embedder

        embedder(options.embedder)


async def run(options: DeduplicateOptions, step: Step) -> StepOutcome:
    """Keep the first of the records that are the same; each that is removed names the kept one that stands for it.

    `similarity` is 1 for the same text, the Jaccard similarity for nearly the same one, the cosine for the same
    meaning. Raises `UsageError` for a source that is no file of records.
    """
    texts = TextFile(step.needed())
    next(records.batches(texts.path, ["id", "text"], 1), None)
    near = options.near or None
    if step.engine.kind == "ray":
        from outspoken.synth.dedup import ray_search

        with ray_search.cluster_at(step.engine.address, step.engine.workers) as cluster:
            found = await _in_thread(step.watch, lambda tell: cluster.find(texts, options.exact, near, tell))
    else:
        found = await _in_thread(
            step.watch, lambda tell: find(texts, exact=options.exact, similarity=near, tell=tell)
        )
    warnings: list[str] = []
    if options.meaning:
        warnings += await _by_meaning(options, options.meaning, step, texts, found)
    found.follow()
    await _in_thread(step.watch, lambda tell: _write(texts, found, step, tell))
    return _outcome(options, found, warnings)


async def _by_meaning(
    options: DeduplicateOptions, cosine: float, step: Step, texts: TextFile, found: NearDuplicates
) -> list[str]:
    from outspoken.measure.embedding import embedder
    from outspoken.synth.dedup.semantic import by_meaning

    made = embedder(options.embedder)
    try:
        await by_meaning(texts, found, made, cosine, options.near or None, step.watch.tell)
    finally:
        await made.aclose()
    return list(made.warnings)


async def _in_thread(watch: StepProgress, work: Callable[[Tell], _T]) -> _T:
    """Do the work beside the event loop; cancelled, it ends where it next tells how far it is."""
    ended = threading.Event()

    def tell(what: str, done: int, total: int) -> None:
        if ended.is_set():
            raise _EndedError
        watch.tell(what, done, total)

    task = asyncio.ensure_future(asyncio.to_thread(work, tell))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        ended.set()
        with contextlib.suppress(_EndedError):
            await task
        raise


class _EndedError(Exception):
    """The work was cancelled."""


def _write(texts: TextFile, found: NearDuplicates, step: Step, tell: Tell) -> None:
    """Write the two files."""
    schema = pq.read_schema(texts.path)
    gone = found.by != KEPT
    step.removed.unlink(missing_ok=True)
    standing = np.unique(found.stands_for[gone])
    ids = pa.array([str(name) for name in texts.column_at("id", standing)], pa.string())
    start = 0
    with records.RecordWriter(step.out, schema) as kept, records.RecordWriter(step.removed) as removed:
        for table in records.batches(texts.path):
            tell("writing", start, len(texts))
            here = slice(start, start + table.num_rows)
            start += table.num_rows
            kept.write(table.filter(pa.array(~gone[here])))
            if gone[here].any():
                where = gone[here]
                stands = np.searchsorted(standing, found.stands_for[here][where])
                more = {
                    "reason": pa.array([REASONS[by] for by in found.by[here][where].tolist()], pa.string()),
                    "because_of": ids.take(pa.array(stands)),
                    "similarity": pa.array(found.similarity[here][where]),
                }
                removed.write(records.with_columns(table.filter(pa.array(where)), more))


def _outcome(options: DeduplicateOptions, found: NearDuplicates, warnings: list[str]) -> StepOutcome:
    counts = {name: int((found.by == by).sum()) for by, name in REASONS.items()}
    figures: dict[str, Any] = {}
    gone = found.stands_for[found.by != KEPT]
    if len(gone):
        standing, sizes = np.unique(gone, return_counts=True)
        figures |= {"stand_for_others": len(standing), "most_for_one": int(sizes.max())}
    if options.near:
        bands = bands_for(options.near)
        figures["near"] = {
            "similarity": options.near,
            "bands": bands.count,
            "rows": bands.rows,
            "recall_at_similarity": round(bands.recall(options.near), 4),
            "crowded": found.crowded,
        }
    if found.crowded:
        warnings.append(
            f"{found.crowded:,} records have more look-alikes than one is compared with ({COMPARED}): a few "
            "near-duplicates may be left among them"
        )
    if options.meaning:
        figures["meaning"] = {"cosine": options.meaning, "embedder": options.embedder}
        warnings.append(
            f"by {options.embedder} a cosine of {options.meaning:g} or more removed {counts[REASONS[MEANING]]:,}: "
            "it hardly sees a negation or another number, so read some of the removed ones"
        )
    kept = int((found.by == KEPT).sum())
    return StepOutcome(kept, {name: count for name, count in counts.items() if count}, figures, tuple(warnings))
