"""A worker of a run over Ray: it answers one shard at a time, wherever in the cluster it was started."""

from __future__ import annotations

import asyncio
import platform
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken._extras import need
from outspoken._version import __version__
from outspoken.api import validator
from outspoken.batch.output import FailureFile, Output
from outspoken.batch.partition_writer import PartitionWriter, fingerprint, summed
from outspoken.batch.plan import RunPlan
from outspoken.batch.prices import Price
from outspoken.batch.ray.budget_broker import ShardResult, Spent, WorkerFailure, added, asked, flat, spent_on
from outspoken.batch.ray.shards import Shards
from outspoken.batch.settings import RunSettings
from outspoken.chat import ChatReply, ChatRequest, Usage
from outspoken.engine import RunMetrics, expected_usage
from outspoken.errors import OutputError, OutspokenError, StoppedError, UsageError
from outspoken.ledger import Ledger
from outspoken.models.base import Model
from outspoken.settings import Settings
from outspoken.templates import Template

__all__ = ["ShardTask", "answered"]

# So little that those of a machine that is gone find room on any other: a worker mostly waits for answers.
_CPUS_A_WORKER = 0.1
_SECONDS_A_REPORT = 0.5
_REPORTS_A_SECOND = 500
_SECONDS_FOR_A_LOCK = 300.0


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker has to know, beside the shards."""

    version: str
    model: str
    settings: Settings
    run: RunSettings
    template: Template
    schema: Mapping[str, Any] | None
    price: Price | None
    budgeted: bool
    out: Path
    seconds_a_report: float

    @classmethod
    def of(cls, plan: RunPlan, out: Path, workers: int) -> ShardTask:
        """For one of `workers`, which has its share of the pace; what it may spend the board tells."""
        run = plan.run
        share = replace(
            run,
            concurrency=run.concurrency and max(1, run.concurrency // workers),
            requests_per_minute=run.requests_per_minute and run.requests_per_minute / workers,
            tokens_per_minute=run.tokens_per_minute and run.tokens_per_minute / workers,
            budget_tokens=None,
            budget_usd=None,
            max_seconds=None,
        )
        return cls(
            version=__version__,
            model=plan.model.name,
            settings=plan.settings,
            run=share,
            template=plan.template,
            schema=plan.schema,
            price=plan.price,
            budgeted=run.budget_tokens is not None or run.budget_usd is not None,
            out=out.absolute(),
            seconds_a_report=max(_SECONDS_A_REPORT, workers / _REPORTS_A_SECOND),
        )


def answered(task: ShardTask, shards: int, board: Any, workers: int) -> Iterator[ShardResult]:
    """Have so many shards answered by so many workers; yields what came of each, in the order in which they end.

    Raises Ray's errors.
    """
    data = need("ray.data", "running over Ray", "ray")
    numbers = data.from_items([{"shard": shard} for shard in range(shards)], override_num_blocks=shards)
    numbers.context.enable_progress_bars = False
    numbers.context.print_on_execution_start = False
    numbers.context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
    done = numbers.map_batches(
        Worker,
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=_CPUS_A_WORKER,
        fn_constructor_args=(task, board),
    )
    for row in done.iter_rows():
        yield ShardResult.from_json(row["result"])


class Worker:
    """The actor that answers shards, one after the other."""

    def __init__(self, task: ShardTask, board: Any) -> None:
        self._task = task
        self._board = board
        self._runner = asyncio.Runner()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        attempt = _Attempt(self._task, self._board, int(batch["shard"][0]))
        return {"result": [self._runner.run(attempt.result()).to_json()]}


class _Attempt:
    """One attempt at one shard."""

    def __init__(self, task: ShardTask, board: Any, shard: int) -> None:
        self._task = task
        self._board = board
        self._shard = shard
        self._shards = Shards(task.out)
        self._name = uuid.uuid4().hex
        self._meter = RunMetrics()
        self._writer: PartitionWriter | None = None
        self._work: asyncio.Task[None] | None = None
        self._stopped = ""
        self._failure: WorkerFailure | None = None

    async def result(self) -> ShardResult:
        """What came of it. Errors of ours are in it, others are raised."""
        await self._report()
        try:
            if not self._stopped or self._shards.path(self._shard, ".sqlite").exists():
                await self._answer()
        except StoppedError as error:
            self._stopped = self._stopped or str(error)
        except OutspokenError as error:
            self._fail(error)
        await self._report(final=True)
        records = self._writer.written if self._writer else {}
        return ShardResult(
            shard=self._shard,
            attempt=self._name,
            figures=flat(self._meter),
            written=sorted(records),
            complete=bool(self._writer and self._writer.complete and not self._stopped),
            counts=summed(record.counts for record in records.values()),
            stopped=self._stopped,
            failure=self._failure,
        )

    def _fail(self, error: OutspokenError, *, broken: bool = False) -> None:
        message = f"on {platform.node()}: {error}"
        self._failure = WorkerFailure.of(error, message, broken=broken)
        self._stopped = self._stopped or message

    async def _answer(self) -> None:
        task, shards = self._task, self._shards
        if task.version != __version__:
            raise UsageError(f"outspoken is {__version__} here and {task.version} where the run was started")
        if shards.layout is None or not shards.path(self._shard, ".jsonl").is_file():
            raise UsageError(f"{shards.folder} is not there: the output must be on a disk that all machines share")
        plan = self._plan()
        async with self._lock():
            base = shards.path(self._shard)
            with Ledger(shards.path(self._shard, ".sqlite")) as ledger, FailureFile(base) as failures:
                output = Output(task.out)
                ledger.note_run(__version__, {**fingerprint(plan), "out": output.path.name})
                size = shards.layout.rows_a_part
                writer = self._writer = PartitionWriter(plan, output, ledger, failures, self._meter, size=size)
                if self._stopped:
                    writer.runner.stop(self._stopped)
                await self._watched(writer.run(shards.rows(self._shard)))
                failures.finish()
        self._stopped = self._stopped or writer.runner.gate.stopped
        if writer.runner.caller.broken is not None:
            self._fail(writer.runner.caller.broken, broken=True)

    def _plan(self) -> RunPlan:
        task = self._task
        model = models.get_model(task.model)
        if task.budgeted:
            model = _Leased(model, self._lease, task.price)
        return RunPlan(model, task.settings, task.run, task.template, *validator(task.schema), task.price)

    @asynccontextmanager
    async def _lock(self) -> AsyncGenerator[None]:
        """Keep other workers from the shard.

        Raises `StoppedError` where the run ends before it is free, `OutputError` where it does not come free.
        """
        until = time.monotonic() + _SECONDS_FOR_A_LOCK
        while (lock := self._shards.hold(self._shard)) is None:
            if time.monotonic() > until:
                raise OutputError(
                    f"another process still answers the shard {self._shards.path(self._shard)}: end it, then go "
                    "on with --resume"
                )
            await asyncio.sleep(self._task.seconds_a_report)
            await self._report()
            if self._stopped:
                raise StoppedError(self._stopped)
        with lock:
            yield

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Report while the work goes on. Raises `StoppedError` where the driver has it ended at once."""
        self._work = asyncio.ensure_future(work)
        while not self._work.done():
            await asyncio.wait({self._work}, timeout=self._task.seconds_a_report)
            if not self._work.done():
                await self._report()
        try:
            await self._work
        except asyncio.CancelledError:
            raise StoppedError(self._stopped or "cancelled") from None

    # The board. Where it is lost the work goes on.

    async def _report(self, *, final: bool = False) -> None:
        """Tell the board how things stand, and do as it says; after the `final` report nothing is left to do."""
        spending = spent_on(self._meter.usage, self._task.price)
        under_way = self._writer.runner.gate.active if self._writer and not final else 0
        figures = flat(self._meter)
        told: tuple[str, bool] | None = await asked(
            self._board.report, self._name, self._shard, figures, spending, under_way, final
        )
        if told is None or final:
            return
        stopped, at_once = told
        if stopped:
            self._stop(stopped)
        if at_once and self._work is not None:
            self._work.cancel()

    async def _lease(self, wanted: Spent) -> Spent:
        """What may be spent, at least what is `wanted`. Raises `StoppedError` where nothing is left."""
        while not self._stopped:
            given: Spent | str | None = await asked(self._board.lease, self._name, wanted)
            if isinstance(given, str):
                self._stop(given)
            elif given is not None:
                return given
            else:
                await asyncio.sleep(self._task.seconds_a_report)
        raise StoppedError(self._stopped)

    def _stop(self, reason: str) -> None:
        self._stopped = reason
        if self._writer is not None:
            self._writer.runner.stop(reason)


class _Leased(Model):
    """A model that sends a request only where the run's budget, leased bit by bit, has room for it."""

    def __init__(
        self, model: Model, lease: Callable[[Spent], Coroutine[Any, Any, Spent]], price: Price | None
    ) -> None:
        self.name = model.name
        self.capabilities = model.capabilities
        self._model = model
        self._lease = lease
        self._price = price
        self._free: Spent = (0.0, 0.0)
        self._asking = asyncio.Lock()
        self._replies = 0
        self._usage = Usage()

    async def identity(self) -> str:
        return await self._model.identity()

    def check(self, request: ChatRequest) -> None:
        self._model.check(request)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Raises `StoppedError` where nothing is left."""
        expected = expected_usage(request, self._replies, self._usage)
        cost = spent_on(expected, self._price)
        while not self._has(cost):
            async with self._asking:
                if not self._has(cost):
                    self._free = added(self._free, await self._lease(cost))
        self._free = added(self._free, cost, -1)
        try:
            reply = await self._model.complete(request)
        except BaseException:
            self._free = added(self._free, cost)
            raise
        usage = reply.usage if reply.usage.total_tokens else expected
        self._replies += 1
        self._usage += usage
        self._free = added(added(self._free, cost), spent_on(usage, self._price), -1)
        return reply

    def _has(self, cost: Spent) -> bool:
        return self._free[0] >= cost[0] and self._free[1] >= cost[1]
