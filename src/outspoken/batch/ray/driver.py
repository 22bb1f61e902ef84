"""A job spread over the machines of a Ray cluster, which share the disk of the output and nothing else.

The driver cuts the prompts into shards (see `shards`), Ray Data hands them to workers, and each worker answers one
shard at a time, as `FileRun` answers a file: with the shard's own ledger, straight into parts of the one output. A
shard whose worker or machine died is handed to another one, which finds in the ledger what was paid for.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken.batch.file import BatchJob, file_size, ledger_beside
from outspoken.batch.output import FailureFile, Output
from outspoken.batch.partition_writer import count_recorded, mark_of, summed
from outspoken.batch.ray.budget_broker import News, ShardResult, WorkerTotals, asked, spent_on, start_board
from outspoken.batch.ray.cluster import connected, first_line
from outspoken.batch.ray.shards import ShardLayout, Shards, ShardSource
from outspoken.batch.ray.worker import ShardTask, answered
from outspoken.engine import RunMetrics
from outspoken.errors import ProviderError, UsageError
from outspoken.ledger import PartRecord
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Model

__all__ = ["RayRun"]

_SECONDS_A_POLL = 0.25
_SECONDS_OF_SILENCE = 60.0
_SECONDS_TO_END = 20.0
# Their names give a new object each time; all other names give the same one again.
_MADE_ANEW = ("local/", "replay/")
# So many prompts that all fail for one reason end a run: where nothing has ever been answered, and otherwise.
_NEVER, _AFTER_ALL = 10, 20


class RayRun:
    """The execution of one `BatchJob` on a Ray cluster; used as `FileRun` is.

    `address` is the cluster's (default: $RAY_ADDRESS, else a cluster on this machine; where Ray runs in this
    process already, that one is used), `workers` how many there are (default: one for each machine). The model
    travels by name, its key never: every machine has its own in the environment. A schema is validated as JSON.

    Raises `UsageError` and `ProviderError` before anything is sent: for what `FileRun` does, for a model that its
    name does not give, prompts that changed since they were cut, a cluster that cannot be reached.
    """

    def __init__(self, job: BatchJob, *, address: str | None, workers: int | None) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers must be at least 1, not {workers}")
        if job.ledger is not None:
            raise UsageError("over Ray every shard has a ledger of its own, beside the output: leave --ledger out")
        if str(job.source) == "-":
            raise UsageError("over Ray the prompts are read again to resume: write standard input to a file first")
        _check_name(job.plan.model)
        self.job = job
        self.meter = RunMetrics()
        self.output = Output(job.out)
        self.workers = workers or 0
        self.meter.usd = None if job.plan.price is None else 0.0
        self._tally = WorkerTotals()
        self._results: dict[int, ShardResult] = {}
        self._stopped = ""
        self._cancelled = False
        self._hopeless = False
        self._board: Any = None
        self._heard = time.monotonic()
        self._held = ExitStack()
        try:
            self._rows = job.rows()
            self.output.claim(resume=job.resume, overwrite=job.overwrite)
            self._held.callback(self.output.release)
            self._check_ledger()
            self._failures = self._held.enter_context(FailureFile(self.output.path))
            self._shards = Shards(self.output.path.absolute())
            self._source = ShardSource.of(Path(job.source), job.prompt_column, job.id_column)
            self._cut = self._is_cut()
            self._finished = self._cut and self._was_finished()
            if not self._finished:
                self._connect(address)
        except BaseException:
            self._held.close()
            raise

    @property
    def under_way(self) -> int:
        """Requests that have been sent and not been answered, as far as the workers have told."""
        return self._tally.under_way

    def stop(self, reason: str) -> None:
        """Ask nothing more; what is under way is waited for and kept."""
        if not self._stopped:
            self._stopped = reason
            self._heard = time.monotonic()

    def close(self) -> None:
        """Let go of the output and of the cluster."""
        self._held.close()

    async def run(self) -> dict[str, Any]:
        """Do the job; returns its summary. Raises what made everything fail, where nothing at all came of it."""
        if self._finished:
            return self.summary()
        if not self._cut:
            try:
                await asyncio.to_thread(self._cut_shards)
            except asyncio.CancelledError:
                self._cancelled = True  # ends the thread
                raise
        if self._shards.source is None:
            return self.summary()
        self.workers = min(self.workers, self._shards.count)
        await self._distribute()
        self._raise_errors()
        if len(self._results) < self._shards.count:
            return self.summary()  # given up: what stands in parts stays there for another run
        results = self._results.values()
        written = sorted(number for result in results for number in result.written)
        complete = all(result.complete for result in results)
        await asyncio.to_thread(self.output.assemble, written, finished=complete)
        if complete:
            self._remember()
        await asyncio.to_thread(self._join_failures)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """What `FileRun.summary` gives, with the numbers of `workers` and `shards`; `ledger` is their folder."""
        return {
            **self.meter.to_dict(),
            "stopped": self._stopped,
            "out": str(self.output.path),
            "ledger": str(self._shards.folder),
            **self._failures.told(),
            "workers": self.workers,
            "shards": self._shards.count,
        }

    # Before.

    def _check_ledger(self) -> None:
        """Raise `UsageError` where the output has a ledger of one machine, which no worker would look into."""
        path = ledger_beside(self.output.path)
        if path.exists():
            raise UsageError(
                f"{self.output.path} was begun without Ray, and {path} holds its replies: go on with --engine "
                "local, or name another output"
            )

    def _is_cut(self) -> bool:
        """Whether these prompts stand in shards already."""
        if self.job.overwrite:
            return self._shards.source == self._source
        return self._shards.agrees(Path(self.job.source), self._source)

    def _was_finished(self) -> bool:
        """Whether this very job was finished before, and its output still stands there whole."""
        done, size = self._shards.finished, file_size(self.output.path)
        if done is None or size is None or (done["settings"], done["size"]) != (mark_of(self.job.plan), size):
            return False
        self.meter.bad_rows = done["bad_rows"]
        count_recorded(self.meter, PartRecord("", size, True, done["counts"]))
        return True

    def _connect(self, address: str | None) -> None:
        self._ray = self._held.enter_context(connected(address))
        machines = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        self.workers = min(self.workers or len(machines) or 1, self.job.plan.run.concurrency or 1_000_000)

    def _cut_shards(self) -> None:
        job, layout = self.job, self._shards.layout
        if layout is None:
            layout = ShardLayout.of(job.rows(), self.workers)
        self._shards.cut(self._rows, layout, self._source, lambda: not (self._stopped or self._cancelled))

    # While it runs.

    async def _distribute(self) -> None:
        """Have all shards answered, or as many as come before a stop.

        Raises `ProviderError` where the cluster fails, and as it is what a worker did not expect.
        """
        self._board = start_board(self._ray)
        loop = asyncio.get_running_loop()
        task = ShardTask.of(self.job.plan, self.output.path, self.workers)

        def work() -> None:
            for result in answered(task, self._shards.count, self._board, self.workers):
                loop.call_soon_threadsafe(self._take, result)

        seconds = self.job.plan.run.max_seconds
        timer = loop.call_later(seconds or 1e9, self.stop, f"the time of {seconds} s is used up")
        working = asyncio.wrap_future(ModelThreads(1).submit(work))
        try:
            while not working.done() and not self._is_silent():
                await asyncio.wait({working}, timeout=_SECONDS_A_POLL)
                await self._poll()
            if working.done():
                await working
        except asyncio.CancelledError:
            self._cancelled = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_TO_END):
                    while not working.done():
                        await self._poll()
                        await asyncio.wait({working}, timeout=_SECONDS_A_POLL)
            raise
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise ProviderError(
                f"the Ray cluster failed ({first_line(error)}): what came back is kept; go on with --resume",
                original=error,
            ) from error
        finally:
            timer.cancel()
            with suppress(Exception):
                self._ray.kill(self._board)

    async def _poll(self) -> None:
        """Tell the board what the workers should hear, and hear what they told it."""
        plan = self.job.plan
        budget, spent = (plan.run.budget_tokens, plan.run.budget_usd), spent_on(self.meter.usage, plan.price)
        told: tuple[str, News] | None = await asked(
            self._board.poll, self._stopped, self._cancelled, budget, spent, self.workers
        )
        if told is None:
            return
        stopped, news = told
        if stopped:
            self.stop(stopped)
        if news:
            self._heard = time.monotonic()
        for attempt, (shard, figures, under_way) in news.items():
            self._tally.take(attempt, shard, figures, under_way)
        self._tally.show(self.meter, plan.price)
        self._check_hope()

    def _check_hope(self) -> None:
        """Stop where every prompt so far has failed for one reason, in shards too small for a worker to tell."""
        meter = self.meter
        enough = _AFTER_ALL if meter.requests else _NEVER
        if meter.failed == meter.prompts >= enough and len(meter.failures) == 1:
            self._hopeless = True
            self.stop(f"everything fails for the same reason: {next(iter(meter.failures))}")

    def _take(self, result: ShardResult) -> None:
        """A shard has ended."""
        self._results[result.shard] = result
        self._tally.take(result.attempt, result.shard, result.figures, 0)
        self._tally.show(self.meter, self.job.plan.price)
        if result.stopped:
            self.stop(result.stopped)

    def _is_silent(self) -> bool:
        """Whether no worker is left that could still hear of the stop."""
        return bool(self._stopped) and time.monotonic() - self._heard > _SECONDS_OF_SILENCE

    # After.

    def _raise_errors(self) -> None:
        """Raise what a worker met, unless it is only that all fails and something had come before."""
        for shard in sorted(self._results):
            failure = self._results[shard].failure
            if failure is not None and not (failure.broken and self.meter.responses):
                raise failure.as_error()
        if self._hopeless and not self.meter.responses:
            raise ProviderError(self._stopped)

    def _remember(self) -> None:
        results, size = self._results.values(), file_size(self.output.path)
        if size is not None:
            bad_rows = sum(result.figures["bad_rows"] for result in results)
            counts = summed(result.counts for result in results)
            mark = mark_of(self.job.plan)
            self._shards.finish({"settings": mark, "size": size, "bad_rows": bad_rows, "counts": counts})

    def _join_failures(self) -> None:
        for shard in range(self._shards.count):
            path = self._shards.path(shard, ".failures.jsonl")
            with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
                for line in file:
                    self._failures.add(**json.loads(line))
        self._failures.finish()


def _check_name(model: Model) -> None:
    """Raise `UsageError` for a model that the workers could not make anew from its name."""
    try:
        found = models.get_model(model.name)
    except UsageError:
        found = None
    if found is not model and not (type(found) is type(model) and model.name.startswith(_MADE_ANEW)):
        raise UsageError(
            f"the model {model.name} cannot be made anew on other machines: name it as provider/name or URL#name"
        )
