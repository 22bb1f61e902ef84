"""Rows in, parts of the output out: what has been done is passed over, the rest is asked and written."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from outspoken.batch.output import FailureFile, Output
from outspoken.batch.plan import RunEngine, RunPlan, in_background, in_turn
from outspoken.batch.response_columns import ResponseColumns
from outspoken.batch.sources import BadRow, PromptRow
from outspoken.engine import PromptResult, RunMetrics, cause_of
from outspoken.errors import LedgerError, OutputError, OutspokenError, ProviderError
from outspoken.ledger import Ledger, PartRecord

__all__ = ["PartitionWriter", "count_recorded", "digest_of", "fingerprint", "joined", "mark_of", "summed"]

_OBJECTS_A_COLLECTION = 50_000
_COUNTED = ("prompts", "responses", "distinct", "short", "replies")


@dataclass(slots=True)
class _Part:
    """A part of the output while it is made: what was read for it, and what has been answered."""

    number: int
    hasher: Any
    rows: int = 0
    whole: bool = False
    answered: int = 0
    failed: int = 0
    short: int = 0
    replies: int = 0
    responses: ResponseColumns = field(default_factory=ResponseColumns)

    @property
    def complete(self) -> bool:
        return self.whole and self.answered == self.rows and not self.failed


class PartitionWriter:
    """Answers rows and writes their responses, `size` rows of the input to a part.

    A part is written when all its prompts have been answered, and recorded in the ledger under the name of the
    output with a digest of its prompts and of all settings that matter. A part with a record of the same digest,
    complete and whole on disk, is passed over; everything else comes from the ledger's replies or is asked.

    `meter` holds the figures while it runs; `written` are the parts that stand on disk in the end, and `complete`
    says whether nothing in any of them is left to ask.
    """

    def __init__(
        self,
        plan: RunPlan,
        output: Output,
        ledger: Ledger,
        failures: FailureFile,
        meter: RunMetrics,
        *,
        size: int,
    ) -> None:
        self.runner = RunEngine(plan, meter, ledger)
        self.metrics = meter
        self.written: dict[int, PartRecord] = {}
        self.complete = True
        self._plan = plan
        self._output = output
        self._ledger = ledger
        self._failures = failures
        self._size = size
        self._settings = fingerprint(plan)
        self._mark = mark_of(plan)
        self._records = ledger.parts(output.path.name)
        self._parts: dict[int, _Part] = {}

    async def run(self, rows: Iterator[PromptRow | BadRow], *, slow: bool = False) -> None:
        """Work through all rows, or until the runner is stopped; `slow` where they may be long in coming.

        Raises `OutputError` or `LedgerError` where something cannot be written, after the replies that were under
        way have come.
        """
        failure: OutspokenError | None = None
        with _rare_collections(), self.runner.timed():
            async with aclosing(self.runner.results(self._to_ask(rows, slow))) as results:
                async for result in results:
                    try:
                        if failure is None and not result.untouched:
                            await self._take(result)
                    except (OutputError, LedgerError) as error:
                        failure = error
                        self.runner.stop(str(error))
        if failure is not None:
            raise failure
        for number in sorted(self._parts):
            await self._write(self._parts.pop(number))
        if self.runner.stopped:
            self.complete = False
            self._keep_earlier()

    def _keep_earlier(self) -> None:
        """Parts of an earlier run that this one was stopped before: nothing that was there goes."""
        for number, record in self._records.items():
            mine = record.counts.get("settings") == self._mark
            if number not in self.written and mine and self._output.size(number) == record.size:
                self.written[number] = record
                count_recorded(self.metrics, record)

    # Rows on their way in.

    async def _to_ask(self, rows: Iterator[PromptRow | BadRow], slow: bool) -> AsyncGenerator[PromptRow]:
        """The rows of all parts that are not complete yet."""
        held: list[PromptRow] = []
        part: _Part | None = None
        async for row in (in_background if slow else in_turn)(rows, self.runner.closed):
            number = row.number // self._size
            if part is None or part.number != number:
                for waiting in self._end(part, held):
                    yield waiting
                held = []
                part = self._parts[number] = _Part(number, _hasher(self._settings))
            if not isinstance(row, PromptRow):
                self.metrics.bad_rows += 1
                self._failures.add("", row.where, "bad row", row.reason)
                continue
            part.rows += 1
            part.hasher.update(_row_bytes(row))
            if number in self._records:
                held.append(row)  # whether it has to be asked shows when the part has been read
            else:
                yield row
        if not self.runner.stopped:
            for waiting in self._end(part, held):
                yield waiting

    def _end(self, part: _Part | None, held: list[PromptRow]) -> list[PromptRow]:
        """A part has been read to its end; returns its rows if they waited and are to be asked."""
        if part is None:
            return []
        part.whole = True
        record = self._records.get(part.number)
        if record is None:
            return held
        same = record.complete and record.digest == part.hasher.hexdigest()
        if not same or self._output.size(part.number) != record.size:
            return held
        count_recorded(self.metrics, record)
        self._done(part.number, record)
        del self._parts[part.number]
        return []

    # Answers on their way out.

    async def _take(self, answer: PromptResult[PromptRow]) -> None:
        number = answer.prompt.number // self._size
        for earlier in [other for other in self._parts if other < number]:
            await self._write(self._parts.pop(earlier))
        part = self._parts[number]
        part.answered += 1
        part.replies += answer.requests
        if answer.error is not None:
            part.failed += 1
            row = answer.prompt
            error = answer.error
            self._failures.add(row.id, row.where, cause_of(error), str(error), isinstance(error, ProviderError))
        responses, distinct = part.responses.add(answer, self._plan.run.goal)
        part.short += answer.short
        self.metrics.responses += responses
        self.metrics.distinct += distinct

    async def _write(self, part: _Part) -> None:
        earlier = self._records.get(part.number)
        if self.runner.stopped and earlier is not None and earlier.counts["prompts"] > part.answered:
            return
        await self._ledger.settled()
        responses = part.responses
        size = await asyncio.to_thread(self._output.write, part.number, responses.columns, responses.carried)
        counts = {
            "prompts": part.answered,
            "responses": responses.count,
            "distinct": responses.distinct,
            "short": part.short,
            "replies": part.replies,
            "settings": self._mark,
        }
        record = PartRecord(part.hasher.hexdigest(), size, part.complete, counts)
        await asyncio.to_thread(self._ledger.put_part, self._output.path.name, part.number, record)
        self._done(part.number, record)

    def _done(self, number: int, record: PartRecord) -> None:
        self.written[number] = record
        self.complete = self.complete and record.complete


def count_recorded(meter: RunMetrics, record: PartRecord) -> None:
    """Add the figures of a part that was written earlier; its replies were paid for then."""
    counts = record.counts
    meter.prompts += counts["prompts"]
    meter.responses += counts["responses"]
    meter.distinct += counts["distinct"]
    meter.short += counts["short"]
    meter.from_ledger += counts["replies"]


def summed(counts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The figures of several parts as those of one."""
    every = list(counts)
    return {name: sum(each[name] for each in every) for name in _COUNTED}


def digest_of(rows: Iterable[PromptRow | BadRow], plan: RunPlan, size: int) -> tuple[str, int]:
    """The joined digests of all parts that these rows would make, and how many of the rows are bad."""
    settings, bad_rows = fingerprint(plan), 0
    hashers: dict[int, Any] = {}
    for row in rows:
        number = row.number // size
        if number not in hashers:
            hashers[number] = _hasher(settings)
        if isinstance(row, PromptRow):
            hashers[number].update(_row_bytes(row))
        else:
            bad_rows += 1
    return joined(hasher.hexdigest() for hasher in hashers.values()), bad_rows


def joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def fingerprint(plan: RunPlan) -> dict[str, Any]:
    """All settings that the output depends on. What only changes the pace is not among them."""
    return {
        "model": plan.model.name,
        "template": plan.template.hash,
        "schema": plan.schema,
        **asdict(plan.settings),
        **asdict(plan.run.goal),
    }


def mark_of(plan: RunPlan) -> str:
    """A digest of `fingerprint`."""
    return str(_hasher(fingerprint(plan)).hexdigest())


def _hasher(settings: dict[str, Any]) -> Any:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())


def _row_bytes(row: PromptRow) -> bytes:
    """Everything of a row that the output depends on."""
    messages = [(message.role, message.content) for message in row.messages]
    return repr((row.id, messages, row.occurrence, row.columns)).encode()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for cycles of garbage less often: a run makes many objects and hardly any cycle."""
    earlier = gc.get_threshold()
    gc.set_threshold(max(earlier[0], _OBJECTS_A_COLLECTION), *earlier[1:])
    try:
        yield
    finally:
        gc.set_threshold(*earlier)
