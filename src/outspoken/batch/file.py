"""One run from a file of prompts into a file of responses: what is done is kept, what is missing is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken._version import __version__
from outspoken.batch.output import FailureFile, Output
from outspoken.batch.partition_writer import (
    PartitionWriter,
    count_recorded,
    digest_of,
    fingerprint,
    joined,
    summed,
)
from outspoken.batch.plan import RunPlan
from outspoken.batch.ray.shards import shards_beside
from outspoken.batch.sources import BadRow, PromptRow, read
from outspoken.engine import RunMetrics
from outspoken.errors import UsageError
from outspoken.ledger import Ledger, PartRecord

__all__ = ["BatchJob", "FileRun", "file_size", "ledger_beside"]

PROMPTS_A_PART = 1000
# The number under which the ledger records the whole output, whose parts are gone.
_WHOLE = -1


@dataclass(frozen=True, slots=True)
class BatchJob:
    """What to read, what to ask, where to write. Without a `ledger` there is one beside the output."""

    source: str | Path
    out: str | Path
    plan: RunPlan
    ledger: str | Path | None = None
    resume: bool = False
    overwrite: bool = False
    prompt_column: str | None = None
    id_column: str | None = None
    draw_column: str | None = None

    def rows(self) -> Iterator[PromptRow | BadRow]:
        """Its prompts; see `outspoken.batch.sources.read`."""
        return read(
            self.source,
            prompt_column=self.prompt_column,
            id_column=self.id_column,
            draw_column=self.draw_column,
        )


class FileRun:
    """The execution of one `BatchJob` on this machine.

    Raises `UsageError` and `LedgerError` before anything is sent: for an output that is there already or was begun
    over Ray, a ledger that cannot be used, prompts that cannot be read. `meter` holds the figures while it runs;
    `stop` ends it in good order; cancelling it ends it at once. Either way what came back is in the ledger, and
    the same job with `resume` goes on from there. `close` it in the end.
    """

    def __init__(self, job: BatchJob) -> None:
        self.job = job
        self.meter = RunMetrics()
        self.output = Output(job.out)
        self.ledger_path = Path(job.ledger) if job.ledger else ledger_beside(self.output.path)
        self._name = self.output.path.name
        self._held = ExitStack()
        try:
            self._rows = job.rows()
            self._check_shards()
            self.output.claim(resume=job.resume, overwrite=job.overwrite)
            self._held.callback(self.output.release)
            self._ledger = self._held.enter_context(Ledger(self.ledger_path))
            self._ledger.note_run(__version__, {**fingerprint(job.plan), "out": self._name})
            if job.overwrite:
                self._ledger.forget_parts(self._name)
            self._failures = self._held.enter_context(FailureFile(self.output.path))
            self._writer = PartitionWriter(
                job.plan, self.output, self._ledger, self._failures, self.meter, size=PROMPTS_A_PART
            )
        except BaseException:
            self._held.close()
            raise

    @property
    def under_way(self) -> int:
        """Requests that have been sent and not been answered."""
        return self._writer.runner.gate.active

    def stop(self, reason: str) -> None:
        """Ask nothing more; what is under way is waited for and kept."""
        self._writer.runner.stop(reason)

    def close(self) -> None:
        """Write what the ledger still has to write, and let go of the output. Raises `LedgerError`."""
        self._held.close()

    async def run(self) -> dict[str, Any]:
        """Do the job; returns its summary. Raises what made everything fail, where nothing at all came of it."""
        if await self._is_finished():
            return self.summary()
        writer = self._writer
        await writer.run(self._rows, slow=str(self.job.source) == "-")
        broken = writer.runner.caller.broken
        if broken is not None and not self.meter.responses:
            raise broken
        numbers = sorted(writer.written)
        await asyncio.to_thread(self.output.assemble, numbers, finished=writer.complete)
        if writer.complete:
            self._remember([writer.written[number] for number in numbers])
        self._failures.finish()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """The figures of `RunMetrics.to_dict`, where things are, and why it `stopped` early ("" where it did
        not)."""
        return {
            **self.meter.to_dict(),
            "stopped": self._writer.runner.gate.stopped,
            "out": str(self.output.path),
            "ledger": str(self.ledger_path),
            **self._failures.told(),
        }

    def _check_shards(self) -> None:
        """Raise `UsageError` where the replies are in the ledgers of a run over Ray, into which nobody would look.

        A ledger of one machine beside them says that the output was started over here since.
        """
        path = self.output.path
        if shards_beside(path).exists() and not self.job.overwrite and not ledger_beside(path).exists():
            raise UsageError(f"{path} was begun over Ray: go on with --engine ray, or start over with --overwrite")

    async def _is_finished(self) -> bool:
        """Whether this very job was finished before, and its output still stands there whole."""
        job, whole = self.job, self._ledger.parts(self._name).get(_WHOLE)
        if whole is None or str(job.source) == "-" or file_size(self.output.path) != whole.size:
            return False
        digest, bad_rows = await asyncio.to_thread(digest_of, job.rows(), job.plan, PROMPTS_A_PART)
        if digest != whole.digest:
            return False
        self.meter.bad_rows = bad_rows
        count_recorded(self.meter, whole)
        return True

    def _remember(self, records: list[PartRecord]) -> None:
        size = file_size(self.output.path)
        if size is not None:
            digest = joined(record.digest for record in records)
            counts = summed(record.counts for record in records)
            self._ledger.put_part(self._name, _WHOLE, PartRecord(digest, size, True, counts))


def ledger_beside(out: Path) -> Path:
    """Where the ledger of an output stands when nobody says where."""
    return out.with_name(out.name + ".ledger.sqlite")


def file_size(path: Path) -> int | None:
    """None for a folder too: its parts stay, and each of them is looked at."""
    return path.stat().st_size if path.is_file() else None
