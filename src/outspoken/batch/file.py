"""A run from a file of prompts into a file of responses; the same command continues where it stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

from outspoken._imports import need
from outspoken._version import __version__
from outspoken.batch.failures import FailureFile, FailureRecord
from outspoken.batch.fingerprint import combined, describe_difference, digest_of, fingerprint, prompt_digest
from outspoken.batch.output import Output, Overwrite
from outspoken.batch.partition_writer import PartitionWriter, add_recorded, recorded_parts
from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.ray.shards import shards_beside
from outspoken.batch.sources import BadRow, PromptRow, read
from outspoken.engine import RunMetrics, RunSummary
from outspoken.errors import UsageError
from outspoken.io.dataclass_json import to_json
from outspoken.io.text import plural
from outspoken.ledger import Ledger, PartCounts, PartRecord
from outspoken.ledger.reader import LedgerReader

__all__ = [
    "BatchJob",
    "FileRun",
    "FileRunSummary",
    "Note",
    "continuing",
    "file_size",
    "ledger_beside",
    "log_note",
    "rows_in",
]

PROMPTS_PER_PART = 1000
# The number under which the ledger records the finished output, whose parts are gone.
_FINISHED = -1
# To count what is done, at most this many prompts are read, and this many calls looked up in the ledger.
_READ, _LOOKED_UP = 20_000, 5_000

Note = Callable[[str], object]
"""Receives a line for the user."""

log_note: Note = logging.getLogger(__name__).info


@dataclass(frozen=True, slots=True)
class BatchJob:
    """The input, the plan and the output of a run into files. The default `ledger` is beside the output.

    `overwrite` replaces an earlier output; "changed" only one of other settings. See `FileRun`, and for the
    columns `outspoken.batch.sources.read`.
    """

    source: str | Path
    out: str | Path
    plan: RunPlan
    ledger: str | Path | None = None
    overwrite: Overwrite = False
    prompt_column: str | None = None
    id_column: str | None = None
    draw_column: str | None = None

    def rows(self) -> Iterator[PromptRow | BadRow]:
        """The prompts of the job. Raises `UsageError` if they cannot be read."""
        return read(
            self.source, prompt_column=self.prompt_column, id_column=self.id_column, draw_column=self.draw_column
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRunSummary(RunSummary):
    """The figures of a run into files, and the paths of these files.

    `out` is None if nothing was written, `failures_file` if nothing failed. `first_failures` are the first few
    failures, and `transient_failures` counts those that may succeed another time. `workers` and `shards` are the
    numbers of them in a run over Ray, whose `ledger` is a folder of ledgers.
    """

    out: str | None
    ledger: str
    failures_file: str | None
    first_failures: tuple[FailureRecord, ...]
    transient_failures: int = field(metadata={"key": "passing_failures"})
    workers: int | None = None
    shards: int | None = None

    @classmethod
    def of(
        cls, figures: RunSummary, failures: FailureFile, out: Path, ledger: Path, shards: int | None = None
    ) -> FileRunSummary:
        return cls(
            **asdict(figures),
            out=str(out),
            ledger=str(ledger),
            failures_file=str(failures.path) if failures.path.is_file() else None,
            first_failures=tuple(failures.first),
            transient_failures=failures.transient,
            shards=shards,
        )

    def to_dict(self) -> dict[str, object]:
        """The summary as a JSON object, with `workers` and `shards` for a run over Ray only."""
        left_out = ("workers", "shards") if self.shards is None else ()
        return {name: value for name, value in to_json(self).items() if name not in left_out}


class FileRun:
    """The execution of one `BatchJob` on this machine; `close` it in the end.

    If the output, or a part of it, was written by the same job (the same settings; the prompts may have grown), it
    is continued: replies in the ledger are not requested again. `note` receives a line about this, and another one
    if nothing is left to do. Only `overwrite` replaces an output of other settings or of another origin.

    Raises `UsageError` and `LedgerError`, before anything is sent or changed, for such an output, for one that was
    begun over Ray, for an unusable ledger and for unreadable prompts. `metrics` has the figures during the run.
    `stop` ends it in good order, cancelling ends it at once. Either way, the replies are in the ledger.
    """

    def __init__(self, job: BatchJob, *, note: Note = log_note) -> None:
        self.job = job
        self.metrics = RunMetrics()
        self.output = Output(job.out)
        self.ledger_path = Path(job.ledger) if job.ledger else ledger_beside(self.output.path)
        self._note = note
        self._name = self.output.path.name
        self._held = ExitStack()
        try:
            rows = job.rows()
            first = next(rows)
            self._rows = chain([first], rows)
            self._settings = {**fingerprint(job.plan), "first_prompt": prompt_digest(first)}
            self._continues = False
            self._check_shards()
            replaced = self.output.claim(overwrite=job.overwrite, conflict=self._conflict)
            self._held.callback(self.output.release)
            self._ledger = self._held.enter_context(Ledger(self.ledger_path))
            self._ledger.note_run(__version__, {**self._settings, "out": self._name})
            if replaced:
                self._ledger.forget_parts(self._name)
            self._failures = self._held.enter_context(FailureFile(self.output.path))
            self._engine = RunEngine(job.plan, self.metrics, self._ledger)
            if (most := self._engine.most) < job.plan.concurrency:
                note(f"at most {plural(most, 'request')} at once: raise the limit of open files (ulimit -n)")
        except BaseException:
            self._held.close()
            raise

    @property
    def under_way(self) -> int:
        """The number of requests that have been sent and not been answered."""
        return self._engine.under_way

    @property
    def pause_left(self) -> float:
        """The seconds for which nothing is sent because the server asked to wait; 0 if it did not."""
        return self._engine.pause_left

    def stop(self, reason: str) -> None:
        """Send no further requests; those under way are awaited and their replies kept."""
        self._engine.stop(reason)

    def close(self) -> None:
        """Write the ledger's last replies, and release the output. Raises `LedgerError`."""
        self._held.close()

    async def run(self) -> FileRunSummary:
        """Do the job; returns its summary. Raises the error that made every prompt fail."""
        if self._continues:
            if await self._is_finished():
                self._note(f"nothing is left to do: {self.output.path} is complete")
                return self.summary()
            self._note(continuing(self.job, await self._prompts_done()))
        writer = PartitionWriter(self._engine, self.output, self._ledger, self._failures, size=PROMPTS_PER_PART)
        await writer.run(self._rows, slow=str(self.job.source) == "-")
        if self._engine.broken is not None and not self.metrics.responses:
            raise self._engine.broken
        numbers = sorted(writer.written)
        await asyncio.to_thread(self.output.assemble, numbers, finished=writer.complete)
        if writer.complete:
            self._record_finished([writer.written[number] for number in numbers])
            if self._continues and not writer.asked:
                self._note(f"nothing was left to do: {self.output.path} is complete")
        self._failures.finish()
        return self.summary()

    def summary(self) -> FileRunSummary:
        """The figures so far."""
        figures = self.metrics.summary(self._engine.stopped)
        return FileRunSummary.of(figures, self._failures, self.output.path, self.ledger_path)

    def _check_shards(self) -> None:
        """Raise `UsageError` if the replies are in the ledgers of a run over Ray, which this run does not read.

        If there is also a ledger of one machine, the output was started again here.
        """
        path = self.output.path
        if shards_beside(path).exists() and not self.job.overwrite and not ledger_beside(path).exists():
            raise UsageError(
                f"{path} was begun over Ray: continue it with --engine ray, or replace it with --overwrite"
            )

    def _conflict(self) -> str:
        """Why an earlier output does not belong to this job, "" if it does; sets `_continues`."""
        earlier = None
        if file_size(self.ledger_path):
            with LedgerReader(self.ledger_path) as reader:
                earlier = reader.last_run(self._name)
        if earlier is None:
            return f"is not known to the ledger {self.ledger_path}"
        conflict = describe_difference(earlier, self._settings)
        self._continues = not conflict
        return conflict

    @property
    def _finished(self) -> PartRecord | None:
        """The record of an output that an earlier run completed, if it is still complete on disk."""
        record = self._ledger.parts(self._name).get(_FINISHED)
        return record if record is not None and file_size(self.output.path) == record.size else None

    async def _is_finished(self) -> bool:
        """Whether the same job was finished before, with the same prompts."""
        job, record = self.job, self._finished
        if record is None or str(job.source) == "-":
            return False
        digest, bad_rows = await asyncio.to_thread(digest_of, job.rows(), job.plan, PROMPTS_PER_PART)
        if digest != record.digest:
            return False
        self.metrics.bad_rows = bad_rows
        add_recorded(self.metrics, record.counts)
        return True

    async def _prompts_done(self) -> int | None:
        """The number of prompts that have been answered, as far as it is known.

        Replies of a killed run that are in no recorded part are looked up for a limited number of prompts, so that
        a large run starts at once.
        """
        plan, engine = self.job.plan, self._engine
        if (finished := self._finished) is not None:
            return finished.counts.prompts
        recorded = recorded_parts(plan, self._ledger, self.output)
        done = sum(record.counts.prompts - record.counts.failed for record in recorded.values())
        if str(self.job.source) == "-":
            return done or None
        identity = await plan.model.identity()

        def look_up() -> int:
            rows = islice(self.job.rows(), _READ)
            others = (row for row in rows if row.number // PROMPTS_PER_PART not in recorded)
            return sum(
                isinstance(row, PromptRow) and all(stored for _, stored in engine.first_requests(row, identity))
                for row in islice(others, max(1, _LOOKED_UP // engine.runner.calls))
            )

        return done + await asyncio.to_thread(look_up)

    def _record_finished(self, records: list[PartRecord]) -> None:
        size = file_size(self.output.path)
        if size is not None:
            digest = combined(record.digest for record in records)
            counts = PartCounts.of(records)
            self._ledger.put_part(self._name, _FINISHED, PartRecord(digest, size, True, counts))


def continuing(job: BatchJob, done: int | None) -> str:
    """The note that an output is continued; `done` is the number of answered prompts, if it is known."""
    if done is None:
        return f"continuing {job.out}"
    total = rows_in(job.source)
    prompts = plural(done, "prompt") if total is None else f"{done:,} of {plural(max(done, total), 'prompt')}"
    return f"continuing {job.out}: {prompts} done"


def rows_in(source: str | Path) -> int | None:
    """The approximate number of rows of a source; None for standard input and packed files."""
    path = Path(source)
    if not path.is_file() or path.suffix in (".gz", ".json"):
        return None
    if path.suffix == ".parquet":
        with need("pyarrow.parquet", "reading Parquet", "tables").ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    with path.open("rb") as file:
        count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    return max(1, count - (path.suffix in (".csv", ".tsv")))


def ledger_beside(out: Path) -> Path:
    """The default ledger of an output."""
    return out.with_name(out.name + ".ledger.sqlite")


def file_size(path: Path) -> int | None:
    """The size of a file in bytes; None for a folder or nothing."""
    return path.stat().st_size if path.is_file() else None
