"""The loop of every step that keeps some records and removes the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from outspoken.synth.records import RecordWriter, batches, count, pa, with_columns
from outspoken.synth.steps.base import Step

__all__ = ["BatchDecision", "FilterCounts", "filter_records", "in_thread"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchDecision:
    """Which records of a batch are removed.

    `table` is the batch, perhaps with further columns. `reasons` has an entry for each record: why it is removed,
    None if it is kept. `details` are further columns of the removed records, an Arrow array each with one value
    for each removed record.
    """

    table: Any
    reasons: Sequence[str | None]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilterCounts:
    """How many records were `kept`, and how many `removed` for each reason, the most frequent first."""

    kept: int
    removed: dict[str, int]


async def filter_records(
    step: Step,
    stage: str,
    decide: Callable[[Any], Awaitable[BatchDecision]],
    *,
    rows: int = 8192,
    tables: Iterable[Any] | None = None,
    total: int | None = None,
    out: Path | None = None,
    schema: Any = None,
) -> FilterCounts:
    """Write the records that `decide` keeps to `out` (default: `step.out`), and the others to `step.removed`.

    `decide` gets the records in batches of at most `rows`. They come from `tables`, of which `total` is the number
    of records, by default from the source of the step. `schema` is needed if there may be no batch at all.
    Progress is reported as `stage`. No file appears unless all records were processed: cancelling leaves nothing
    behind.
    """
    if tables is None:
        source = step.needed_source()
        tables, total = batches(source, rows=rows), count(source)
    remaining = iter(tables)
    removed: Counter[str] = Counter()
    done = 0

    def next_table() -> Any:
        table = next(remaining, None)
        if table is not None:
            step.progress.update(stage, done, total)
        return table

    step.removed.unlink(missing_ok=True)
    with RecordWriter(out or step.out, schema) as kept_file, RecordWriter(step.removed) as removed_file:
        while (table := await in_thread(next_table)) is not None:
            decision = await decide(table)
            await in_thread(partial(_write, decision, kept_file, removed_file))
            removed.update(reason for reason in decision.reasons if reason is not None)
            done += table.num_rows
    return FilterCounts(kept_file.rows, dict(removed.most_common()))


def _write(decision: BatchDecision, kept_file: RecordWriter, removed_file: RecordWriter) -> None:
    keep = pa.array([reason is None for reason in decision.reasons], pa.bool_())
    kept_file.write(decision.table.filter(keep))
    reasons = [reason for reason in decision.reasons if reason is not None]
    if reasons:
        table = decision.table.filter(pa.compute.invert(keep))
        removed_file.write(with_columns(table, {"reason": pa.array(reasons, pa.string()), **decision.details}))


async def in_thread(work: Callable[[], T], on_cancel: Callable[[], object] = lambda: None) -> T:
    """The result of `work`, which runs in a thread.

    If this is cancelled, it calls `on_cancel` and waits for the thread to end, so that nothing writes any longer.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
