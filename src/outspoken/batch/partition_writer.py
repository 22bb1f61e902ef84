"""Asks the rows of an input and writes their responses part by part, without the parts that are complete."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, takewhile

from outspoken.batch.failures import FailureFile, FailureRecord
from outspoken.batch.fingerprint import PartDigest, fingerprint
from outspoken.batch.output import Output
from outspoken.batch.plan import RunEngine, RunPlan, in_background
from outspoken.batch.response_columns import ResponseColumns
from outspoken.batch.sources import BadRow, PromptRow
from outspoken.engine import PromptResult, RunMetrics, cause_of
from outspoken.errors import LedgerError, OutputError, ProviderError
from outspoken.ledger import Ledger, PartCounts, PartRecord

__all__ = ["PartitionWriter", "add_recorded", "recorded_parts"]

_OBJECTS_PER_COLLECTION = 50_000


@dataclass(slots=True)
class _Part:
    """A part in progress. The rows `waiting` are asked only if the recorded part is not up to date."""

    number: int
    digest: PartDigest
    rows: int = 0
    fully_read: bool = False
    prompts: int = 0
    failed: int = 0
    short: int = 0
    replies: int = 0
    responses: ResponseColumns = field(default_factory=ResponseColumns)
    waiting: list[PromptRow] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.fully_read and self.prompts == self.rows and not self.failed

    @property
    def counts(self) -> PartCounts:
        responses = self.responses
        return PartCounts(self.prompts, responses.count, responses.distinct, self.short, self.replies, self.failed)


class PartitionWriter:
    """Asks rows and writes their responses, `size` rows of the input to a part.

    A part is written when all its prompts have ended, and recorded in the ledger under the name of the output,
    with a digest of its prompts and of all settings that matter. A part is skipped if it is on disk and was
    recorded as complete with the same digest; the replies of others come from the ledger or the model.

    After `run`, `written` are the parts on disk, `complete` says whether all of them are complete, and `asked` is
    the number of rows outside of skipped parts.
    """

    def __init__(
        self, engine: RunEngine, output: Output, ledger: Ledger, failures: FailureFile, *, size: int
    ) -> None:
        self.written: dict[int, PartRecord] = {}
        self.complete = True
        self.asked = 0
        self._engine = engine
        self._metrics = engine.metrics
        self._output = output
        self._ledger = ledger
        self._failures = failures
        self._size = size
        self._fingerprint = fingerprint(engine.plan)
        self._settings = PartDigest(self._fingerprint).hexdigest()
        self._records = ledger.parts(output.path.name)
        self._parts: dict[int, _Part] = {}
        self._last: _Part | None = None

    async def run(self, rows: Iterator[PromptRow | BadRow], *, slow: bool = False) -> None:
        """Ask all rows, until the end or a `stop`; `slow` if reading the rows may block.

        If something cannot be written, raises `OutputError` or `LedgerError` after the requests under way.
        """
        engine, error = self._engine, None
        closed, steps = engine.closed, chain(rows, [None])
        to_ask: AsyncIterator[PromptRow] | Iterator[PromptRow]
        if slow:
            to_ask = (row async for step in in_background(steps, closed) for row in self._add(step))
        else:
            open_steps = takewhile(lambda _: not closed.is_set(), steps)
            to_ask = (row for step in open_steps for row in self._add(step))
        with _rare_collections(), engine.timed():
            async with aclosing(engine.results(to_ask)) as results:
                async for result in results:
                    if result.untouched:
                        continue
                    try:
                        if error is None:
                            await self._take(result)
                    except (OutputError, LedgerError) as failure:
                        error = failure
                        engine.stop(str(failure))
        if error is not None:
            raise error
        for number in sorted(self._parts):
            await self._write(self._parts.pop(number))
        if engine.stopped:
            self.complete = False
            for number, record in recorded_parts(engine.plan, self._ledger, self._output).items():
                if number not in self.written:
                    self.written[number] = record
                    add_recorded(self._metrics, record.counts)

    def _add(self, row: PromptRow | BadRow | None) -> Sequence[PromptRow]:
        """Add a row to its part, or end the last part (None); returns the rows to ask now."""
        if row is None:
            return self._end()
        number, part = row.number // self._size, self._last
        ready: Sequence[PromptRow] = ()
        if part is None or part.number != number:
            ready = self._end()
            part = self._last = self._parts[number] = _Part(number, PartDigest(self._fingerprint))
        if not isinstance(row, PromptRow):
            self._metrics.bad_rows += 1
            self._failures.add(FailureRecord("", row.where, "bad row", row.reason))
            return ready
        part.rows += 1
        part.digest.add(row)
        if number in self._records:
            part.waiting.append(row)  # only the whole part shows whether it has to be asked
            return ready
        self.asked += 1
        return (*ready, row)

    def _end(self) -> Sequence[PromptRow]:
        """End the last part, which has been read; returns its waiting rows if they have to be asked."""
        part = self._last
        if part is None:
            return ()
        part.fully_read = True
        record = self._records.get(part.number)
        if record is not None and self._is_up_to_date(record, part):
            add_recorded(self._metrics, record.counts)
            self._finish(part.number, record)
            del self._parts[part.number]
            return ()
        waiting, part.waiting = part.waiting, []
        self.asked += len(waiting)
        return waiting

    def _is_up_to_date(self, record: PartRecord, part: _Part) -> bool:
        same = record.complete and record.digest == part.digest.hexdigest()
        return same and self._output.size(part.number) == record.size

    async def _take(self, result: PromptResult[PromptRow]) -> None:
        """Add a result to its part, and write the parts before it."""
        number = result.prompt.number // self._size
        for earlier in [other for other in self._parts if other < number]:
            await self._write(self._parts.pop(earlier))
        part = self._parts[number]
        part.prompts += 1
        part.replies += result.requests
        part.short += result.short
        if (error := result.error) is not None:
            part.failed += 1
            row, transient = result.prompt, isinstance(error, ProviderError) and error.retryable
            self._failures.add(FailureRecord(row.id, row.where, cause_of(error), str(error), transient))
        responses, distinct = part.responses.add(result, self._engine.plan.run.goal)
        self._metrics.responses += responses
        self._metrics.distinct += distinct

    async def _write(self, part: _Part) -> None:
        earlier = self._records.get(part.number)
        if self._engine.stopped and earlier is not None and earlier.counts.prompts > part.prompts:
            return  # the earlier part has more
        responses = part.responses
        size = await asyncio.to_thread(self._output.write, part.number, responses.columns, responses.carried)
        record = PartRecord(part.digest.hexdigest(), size, part.complete, part.counts, self._settings)
        await asyncio.to_thread(self._ledger.put_part, self._output.path.name, part.number, record)
        self._finish(part.number, record)

    def _finish(self, number: int, record: PartRecord) -> None:
        self.written[number] = record
        self.complete = self.complete and record.complete


def recorded_parts(plan: RunPlan, ledger: Ledger, output: Output) -> dict[int, PartRecord]:
    """The parts of this output on disk that were written with the same settings, by number."""
    settings = PartDigest(fingerprint(plan)).hexdigest()
    return {
        number: record
        for number, record in ledger.parts(output.path.name).items()
        if record.settings == settings and output.size(number) == record.size
    }


def add_recorded(metrics: RunMetrics, counts: PartCounts) -> None:
    """Add the figures of a part that an earlier run wrote and paid for."""
    metrics.prompts += counts.prompts
    metrics.responses += counts.responses
    metrics.distinct += counts.distinct
    metrics.short += counts.short
    metrics.from_ledger += counts.replies


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for reference cycles less often: a run creates many objects and hardly any cycle."""
    earlier = gc.get_threshold()
    gc.set_threshold(max(earlier[0], _OBJECTS_PER_COLLECTION), *earlier[1:])
    try:
        yield
    finally:
        gc.set_threshold(*earlier)
