"""Asking the rows of an input and writing their responses, part by part; complete parts are skipped."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from outspoken.batch.failures import FailureFile, FailureRecord
from outspoken.batch.fingerprint import PartDigest, fingerprint
from outspoken.batch.output import Output
from outspoken.batch.plan import RunEngine, RunPlan, in_background
from outspoken.batch.response_columns import ResponseColumns
from outspoken.batch.sources import BadRow, PromptRow
from outspoken.engine import PromptResult, PromptRunner, RunMetrics, cause_of
from outspoken.errors import LedgerError, OutputError, OutspokenError, ProviderError
from outspoken.ledger import Ledger, PartCounts, PartRecord

__all__ = ["PartitionWriter", "add_recorded", "recorded_parts"]

_OBJECTS_PER_COLLECTION = 50_000


@dataclass(slots=True)
class _Part:
    """A part in progress. `waiting` are the rows that are only asked if the recorded part is not up to date."""

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
    with a digest of its prompts and of all settings that matter. A part that is recorded with the same digest as
    complete, and is on disk, is skipped; for all other parts the replies come from the ledger or are asked.

    `metrics` has the figures meanwhile. After `run`, `written` are the parts on disk, `complete` says whether
    nothing in them is left to ask, and `asked` is the number of rows outside of skipped parts.
    """

    def __init__(
        self,
        plan: RunPlan,
        output: Output,
        ledger: Ledger,
        failures: FailureFile,
        metrics: RunMetrics,
        *,
        size: int,
    ) -> None:
        self.metrics = metrics
        self.written: dict[int, PartRecord] = {}
        self.complete = True
        self.asked = 0
        self._engine = RunEngine(plan, metrics, ledger)
        self._plan = plan
        self._output = output
        self._ledger = ledger
        self._failures = failures
        self._size = size
        self._fingerprint = fingerprint(plan)
        self._settings = PartDigest(self._fingerprint).hexdigest()
        self._records = ledger.parts(output.path.name)
        self._parts: dict[int, _Part] = {}

    @property
    def stopped(self) -> str:
        """Why nothing more is asked, "" while the run goes on."""
        return self._engine.stopped

    @property
    def broken(self) -> OutspokenError | None:
        """The error for which everything fails, if the run was stopped for that."""
        return self._engine.broken

    @property
    def under_way(self) -> int:
        """The number of requests under way."""
        return self._engine.under_way

    @property
    def runner(self) -> PromptRunner:
        """What asks the prompts."""
        return self._engine.runner

    @property
    def recorded(self) -> dict[int, PartRecord]:
        """The parts of an earlier run with the same settings that are on disk, by number."""
        return recorded_parts(self._plan, self._ledger, self._output)

    def stop(self, reason: str) -> None:
        """Ask nothing more; what is under way is awaited and kept."""
        self._engine.stop(reason)

    async def run(self, rows: Iterator[PromptRow | BadRow], *, slow: bool = False) -> None:
        """Ask all rows, until the end or a `stop`; `slow` if reading the rows may block.

        Raises `OutputError` or `LedgerError` if something cannot be written, after the end of all requests under
        way.
        """
        error: OutspokenError | None = None
        to_ask = self._to_ask_in_background(rows) if slow else self._to_ask(rows)
        with _rare_collections(), self._engine.timed():
            async with aclosing(self._engine.results(to_ask)) as results:
                async for result in results:
                    if result.untouched:
                        continue
                    try:
                        if error is None:
                            await self._take(result)
                    except (OutputError, LedgerError) as failure:
                        error = failure
                        self.stop(str(failure))
        if error is not None:
            raise error
        for number in sorted(self._parts):
            await self._write(self._parts.pop(number))
        if self.stopped:
            self.complete = False
            for number, record in self.recorded.items():
                if number not in self.written:
                    self.written[number] = record
                    add_recorded(self.metrics, record.counts)

    # Rows.

    def _to_ask(self, rows: Iterator[PromptRow | BadRow]) -> Iterator[PromptRow]:
        """The rows of all parts that are not up to date."""
        closed, part = self._engine.closed, None
        for row in rows:
            if closed.is_set():
                return
            if part is None or part.number != row.number // self._size:
                yield from self._end(part)
                part = self._begin(row.number // self._size)
            if self._add(part, row):
                yield row  # type: ignore[misc]  # a PromptRow then
        if not closed.is_set():
            yield from self._end(part)

    async def _to_ask_in_background(self, rows: Iterator[PromptRow | BadRow]) -> AsyncGenerator[PromptRow]:
        """`_to_ask` for rows that are slow to read."""
        part = None
        async for row in in_background(rows, self._engine.closed):
            if part is None or part.number != row.number // self._size:
                for waiting in self._end(part):
                    yield waiting
                part = self._begin(row.number // self._size)
            if self._add(part, row):
                yield row  # type: ignore[misc]  # a PromptRow then
        if not self.stopped:
            for waiting in self._end(part):
                yield waiting

    def _begin(self, number: int) -> _Part:
        part = self._parts[number] = _Part(number, PartDigest(self._fingerprint))
        return part

    def _add(self, part: _Part, row: PromptRow | BadRow) -> bool:
        """Add a row to its part; returns whether it is to be asked now."""
        if not isinstance(row, PromptRow):
            self.metrics.bad_rows += 1
            self._failures.add(FailureRecord("", row.where, "bad row", row.reason))
            return False
        part.rows += 1
        part.digest.add(row)
        if part.number not in self._records:
            self.asked += 1
            return True
        part.waiting.append(row)  # whether it has to be asked is known when the part has been read
        return False

    def _end(self, part: _Part | None) -> Iterable[PromptRow]:
        """A part has been read; returns those of its waiting rows that have to be asked."""
        if part is None:
            return ()
        part.fully_read = True
        record = self._records.get(part.number)
        if record is not None and self._is_up_to_date(record, part):
            add_recorded(self.metrics, record.counts)
            self._finish(part.number, record)
            del self._parts[part.number]
            return ()
        waiting, part.waiting = part.waiting, []
        self.asked += len(waiting)
        return waiting

    def _is_up_to_date(self, record: PartRecord, part: _Part) -> bool:
        same = record.complete and record.digest == part.digest.hexdigest()
        return same and self._output.size(part.number) == record.size

    # Results.

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
            row, transient = result.prompt, isinstance(error, ProviderError)
            self._failures.add(FailureRecord(row.id, row.where, cause_of(error), str(error), transient))
        responses, distinct = part.responses.add(result, self._plan.run.goal)
        self.metrics.responses += responses
        self.metrics.distinct += distinct

    async def _write(self, part: _Part) -> None:
        earlier = self._records.get(part.number)
        if self.stopped and earlier is not None and earlier.counts.prompts > part.prompts:
            return  # the earlier part has more
        await self._ledger.settled()
        responses = part.responses
        size = await asyncio.to_thread(self._output.write, part.number, responses.columns, responses.carried)
        record = PartRecord(part.digest.hexdigest(), size, part.complete, part.counts, self._settings)
        await asyncio.to_thread(self._ledger.put_part, self._output.path.name, part.number, record)
        self._finish(part.number, record)

    def _finish(self, number: int, record: PartRecord) -> None:
        self.written[number] = record
        self.complete = self.complete and record.complete


def recorded_parts(plan: RunPlan, ledger: Ledger, output: Output) -> dict[int, PartRecord]:
    """The parts of this output that were written with the same settings and are on disk, by number."""
    settings = PartDigest(fingerprint(plan)).hexdigest()
    return {
        number: record
        for number, record in ledger.parts(output.path.name).items()
        if record.settings == settings and output.size(number) == record.size
    }


def add_recorded(metrics: RunMetrics, counts: PartCounts) -> None:
    """Add the figures of a part that an earlier run wrote, and paid for."""
    metrics.prompts += counts.prompts
    metrics.responses += counts.responses
    metrics.distinct += counts.distinct
    metrics.short += counts.short
    metrics.from_ledger += counts.replies


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for reference cycles less often: a run makes many objects and hardly any cycle."""
    earlier = gc.get_threshold()
    gc.set_threshold(max(earlier[0], _OBJECTS_PER_COLLECTION), *earlier[1:])
    try:
        yield
    finally:
        gc.set_threshold(*earlier)
