"""A job spread over the machines of a Ray cluster, which share the disk of the output and nothing else.

The driver divides the prompts into shards (see `shards`), and Ray Data passes them to workers. A worker answers
one shard at a time, as `FileRun` answers a file: with the ledger of the shard, directly into parts of the one
output. If a worker or its machine dies, another worker gets the shard, and the replies in its ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken.batch.failures import FailureFile, FailureRecord
from outspoken.batch.file import BatchJob, FileRunSummary, Note, continuing, file_size, ledger_beside, log_note
from outspoken.batch.fingerprint import PartDigest, describe_difference, fingerprint
from outspoken.batch.output import Output
from outspoken.batch.partition_writer import add_recorded
from outspoken.batch.plan import stop_after
from outspoken.batch.ray.cluster import (
    Orders,
    ShardResult,
    WorkerReport,
    call_board,
    connected,
    start_board,
)
from outspoken.batch.ray.shards import FinishedOutput, ShardLayout, Shards, ShardSource
from outspoken.batch.ray.shares import BudgetShares, WorkerTotals
from outspoken.batch.ray.worker import ShardTask, answer_shards
from outspoken.engine import Budget, RunMetrics
from outspoken.errors import ProviderError, UsageError
from outspoken.io.text import first_line
from outspoken.ledger import PartCounts
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Model

__all__ = ["RayRun"]

_SECONDS_PER_POLL = 0.25
_SECONDS_OF_SILENCE = 60.0
_SECONDS_TO_END = 20.0
# Models with these names are created each time; all others are created once.
_NEW_EACH_TIME = ("local/", "replay/")
# A run ends after this many prompts that all failed for the same reason: without any reply, and otherwise.
_NEVER, _AFTER_SUCCESS = 10, 20


class RayRun:
    """The execution of one `BatchJob` on a Ray cluster; used as `FileRun` is, and continues as `FileRun` does.

    `address` is the cluster's (default: Ray in this process, else $RAY_ADDRESS, else a cluster on this machine),
    `workers` the number of workers (default: one for each machine). The workers get the model by its name, and its
    key from the environment of their machine. A schema is validated as JSON.

    Raises `UsageError` and `ProviderError` before anything is sent: as `FileRun` does, for a model that its name
    does not define, for prompts that changed since they were divided, for an unreachable cluster.
    """

    def __init__(self, job: BatchJob, *, address: str | None, workers: int | None, note: Note = log_note) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers must be at least 1, not {workers}")
        if job.ledger is not None:
            raise UsageError("over Ray every shard has its own ledger beside the output: leave --ledger out")
        if str(job.source) == "-":
            raise UsageError("over Ray the prompts must be in a file: write standard input to one first")
        _check_name(job.plan.model)
        self.job = job
        self.metrics = RunMetrics(usd=None if job.plan.price is None else 0.0)
        self.output = Output(job.out)
        self.workers = workers or 0
        self._note = note
        self._settings = fingerprint(job.plan)
        self._totals = WorkerTotals()
        run = job.plan.run
        self._shares = BudgetShares(Budget(run.budget_tokens, run.budget_usd), job.plan.price, self._totals.usage)
        self._results: dict[int, ShardResult] = {}
        self._stopped = ""
        self._cancelled = False
        self._hopeless = False
        self._continues = False
        self._board: Any = None
        self._heard = time.monotonic()
        self._held = ExitStack()
        try:
            self._rows = job.rows()
            self._check_ledger()
            self._shards = Shards(self.output.path.absolute())
            replaced = self.output.claim(overwrite=job.overwrite, conflict=self._conflict)
            self._held.callback(self.output.release)
            self._failures = self._held.enter_context(FailureFile(self.output.path))
            source = self._source = ShardSource.of(Path(job.source), job.prompt_column, job.id_column)
            earlier = self._shards.manifest.source
            self._divided = earlier == source if replaced else self._shards.agrees(Path(job.source), source)
            self._finished = self._divided and self._was_finished()
            if not self._finished:
                self._connect(address)
        except BaseException:
            self._held.close()
            raise

    @property
    def under_way(self) -> int:
        """The number of requests that have been sent and not been answered, according to the workers' reports."""
        return sum(self._totals.under_way.values())

    @property
    def pause_left(self) -> float:
        """Each worker waits for itself, and writes to its log that it does: 0."""
        return 0.0

    def stop(self, reason: str) -> None:
        """Send no further requests; those under way are awaited and their replies kept."""
        if not self._stopped:
            self._stopped = reason
            self._heard = time.monotonic()

    def close(self) -> None:
        """Release the output and the cluster."""
        self._held.close()

    async def run(self) -> FileRunSummary:
        """Do the job; returns its summary. Raises the error that made every prompt fail."""
        if self._finished:
            self._note(f"nothing is left to do: {self.output.path} is complete")
            return self.summary()
        shards = self._shards
        if self._continues:
            self._note(continuing(self.job, shards.manifest.done))
        if not self._divided:
            try:
                await asyncio.to_thread(self._divide)
            except asyncio.CancelledError:
                self._cancelled = True  # ends the thread
                raise
        if shards.manifest.source is None:
            return self.summary()
        shards.write(replace(shards.manifest, settings=self._settings, finished=None, done=None))
        await self._answer_all(range(shards.manifest.shards))
        self._raise_errors()
        results = self._results.values()
        if len(results) < shards.manifest.shards:
            return self.summary()  # given up: the parts stay for another run
        written = sorted(number for result in results for number in result.written)
        complete = all(result.complete for result in results)
        await asyncio.to_thread(self.output.assemble, written, finished=complete)
        self._record(complete=complete)
        await asyncio.to_thread(self._join_failures)
        return self.summary()

    def summary(self) -> FileRunSummary:
        """The figures so far."""
        figures, shards = self.metrics.summary(self._stopped), self._shards
        count = shards.manifest.shards
        summary = FileRunSummary.of(figures, self._failures, self.output.path, shards.folder, count)
        return replace(summary, workers=self.workers)

    def _check_ledger(self) -> None:
        """Raise `UsageError` if the output has a ledger of one machine, which no worker reads."""
        path = ledger_beside(self.output.path)
        if path.exists():
            raise UsageError(
                f"{self.output.path} was begun without Ray, and {path} has its replies: continue it with --engine "
                "local, or choose another --out"
            )

    def _conflict(self) -> str:
        """Why an earlier output does not belong to this job, "" if it does; sets `_continues`."""
        settings = self._shards.manifest.settings
        if settings is None:
            return f"is not known to {self._shards.folder}"
        conflict = describe_difference(settings, self._settings)
        self._continues = not conflict
        return conflict

    def _was_finished(self) -> bool:
        """Whether the same job was finished before, and its output is still complete on disk."""
        finished, size = self._shards.manifest.finished, file_size(self.output.path)
        digest = PartDigest(self._settings).hexdigest()
        if finished is None or size is None or (finished.settings, finished.size) != (digest, size):
            return False
        self.metrics.bad_rows = finished.bad_rows
        add_recorded(self.metrics, finished.counts)
        return True

    def _connect(self, address: str | None) -> None:
        self._ray = self._held.enter_context(connected(address))
        machines = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        self.workers = min(self.workers or len(machines) or 1, self.job.plan.run.concurrency or 1_000_000)

    def _divide(self) -> None:
        layout = self._shards.manifest.layout or ShardLayout.of(self.job.rows(), self.workers)
        self._shards.divide(self._rows, layout, self._source, lambda: not (self._stopped or self._cancelled))

    async def _answer_all(self, shards: Iterable[int]) -> None:
        """Have all shards answered, or as many as end before a stop.

        Shards that used up their shares are answered again while the others have left enough of the budget. Raises
        `ProviderError` if the cluster fails, and unexpected errors of workers.
        """
        self._board = start_board(self._ray)
        pending = list(shards)
        self.workers = min(self.workers, len(pending))
        try:
            with stop_after(self.job.plan.run.max_seconds, self.stop):
                while pending:
                    requests = self.metrics.requests
                    await self._answer(pending)
                    pending = [shard for shard, result in self._results.items() if result.used_up]
                    go_on = self.metrics.requests > requests and self._shares.worth_a_round(self.metrics.usage)
                    if pending and (self._stopped or not go_on):
                        self.stop(self._results[pending[0]].stopped)
                        break
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise ProviderError(
                f"the Ray cluster failed ({first_line(error)}): replies are kept; give the same command again",
                original=error,
            ) from error
        finally:
            with suppress(Exception):
                self._ray.kill(self._board)

    async def _answer(self, shards: list[int]) -> None:
        loop = asyncio.get_running_loop()
        task = ShardTask.of(self.job.plan, self.output.path, self.workers)
        self._shares.begin({shard: sum(self._shards.parts(shard).values()) for shard in shards})

        def work() -> None:
            for result in answer_shards(task, shards, self._board, self.workers):
                loop.call_soon_threadsafe(self._take, result)

        working = asyncio.wrap_future(ModelThreads(1).submit(work))
        try:
            while not working.done() and not self._is_silent():
                await asyncio.wait({working}, timeout=_SECONDS_PER_POLL)
                await self._poll()
            if working.done():
                await working
        except asyncio.CancelledError:
            self._cancelled = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_TO_END):
                    while not working.done():
                        await self._poll()
                        await asyncio.wait({working}, timeout=_SECONDS_PER_POLL)
            raise

    async def _poll(self) -> None:
        shares: dict[str, Budget | str] = {}
        while True:
            orders = Orders(self._stopped, self._cancelled)
            reports: dict[str, WorkerReport] | None = await call_board(self._board.poll, orders, shares)
            if not reports:
                return
            self._heard = time.monotonic()
            for attempt, report in reports.items():
                self._totals.update(attempt, report.shard, report.metrics, report.under_way)
                if report.ended:
                    self._shares.end(attempt, report.shard)
            self._update_metrics()
            self._check_hope()
            shares = {
                attempt: self._shares.share(attempt, report.shard, report.request, self.metrics.usage)
                for attempt, report in reports.items()
                if report.request is not None
            }
            if not shares:
                return

    def _update_metrics(self) -> None:
        started = self.metrics.started
        self.metrics = self._totals.sum(self.job.plan.price)
        self.metrics.started = started

    def _check_hope(self) -> None:
        """Stop if every prompt so far failed for one reason, in shards too small for workers to notice."""
        metrics = self.metrics
        enough = _AFTER_SUCCESS if metrics.requests else _NEVER
        if metrics.failed == metrics.prompts >= enough and len(metrics.failures) == 1:
            self._hopeless = True
            self.stop(f"everything fails for the same reason: {next(iter(metrics.failures))}")

    def _take(self, result: ShardResult) -> None:
        self._results[result.shard] = result
        self._totals.update(result.attempt, result.shard, result.metrics, 0)
        self._shares.end(result.attempt, result.shard)
        self._update_metrics()
        if result.stopped and not result.used_up:
            self.stop(result.stopped)

    def _is_silent(self) -> bool:
        """Whether the run is stopped, and no worker has reported for a minute: none can be left."""
        return bool(self._stopped) and time.monotonic() - self._heard > _SECONDS_OF_SILENCE

    def _raise_errors(self) -> None:
        """Raise the error of a worker, unless it only made the worker's prompts fail and others were answered."""
        for shard in sorted(self._results):
            result = self._results[shard]
            if result.failure is not None and not (result.broken and self.metrics.responses):
                raise result.failure
        if self._hopeless and not self.metrics.responses:
            raise ProviderError(self._stopped)

    def _record(self, *, complete: bool) -> None:
        results, finished = self._results.values(), None
        counts = PartCounts.of(record for result in results for record in result.written.values())
        size = file_size(self.output.path)
        if complete and size is not None:
            bad_rows = sum(result.metrics.bad_rows for result in results)
            finished = FinishedOutput(PartDigest(self._settings).hexdigest(), size, bad_rows, counts)
        done = counts.prompts - counts.failed
        self._shards.write(replace(self._shards.manifest, done=done, finished=finished))

    def _join_failures(self) -> None:
        for shard in range(self._shards.manifest.shards):
            path = self._shards.path(shard, ".failures.jsonl")
            with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
                for line in file:
                    self._failures.add(FailureRecord.from_json(line))
        self._failures.finish()


def _check_name(model: Model) -> None:
    """Raise `UsageError` for a model that the workers cannot get by its name."""
    try:
        same = models.get_model(model.name)
    except UsageError:
        same = None
    if same is not model and not (type(same) is type(model) and model.name.startswith(_NEW_EACH_TIME)):
        raise UsageError(
            f"other machines cannot get the model {model.name} by its name: name it as provider/name or URL#name"
        )
