"""A worker of a run over Ray: it answers one shard after the other, wherever in the cluster it was started."""

from __future__ import annotations

import asyncio
import pickle
import platform
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken._imports import need
from outspoken._version import __version__
from outspoken.batch.failures import FailureFile
from outspoken.batch.fingerprint import fingerprint
from outspoken.batch.output import Output
from outspoken.batch.partition_writer import PartitionWriter, recorded_parts
from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.ray.cluster import Orders, ShardResult, WorkerReport, call_board
from outspoken.batch.ray.shards import Shards
from outspoken.batch.ray.shares import ShareRequest, as_used_up
from outspoken.batch.settings import RunSettings
from outspoken.batch.sources import PromptRow
from outspoken.chat_reply import Usage
from outspoken.engine import Budget, RunMetrics, expected_usage
from outspoken.errors import (
    LedgerError,
    OutputError,
    OutspokenError,
    ProviderError,
    ReplyError,
    StoppedError,
    UsageError,
)
from outspoken.json_schema import validator
from outspoken.ledger import Ledger
from outspoken.prices import Price
from outspoken.settings import Settings
from outspoken.templates import Template

__all__ = ["ShardTask", "answer_shards"]

# A worker mostly waits for replies. With so few CPUs, the workers of a lost machine fit on any other.
_CPUS_PER_WORKER = 0.1
_SECONDS_PER_REPORT = 0.5
_REPORTS_PER_SECOND = 500
_SECONDS_FOR_A_LOCK = 300.0
# Errors are sent to the driver as one of these classes, because not all subclasses can be pickled.
_KINDS = (UsageError, ReplyError, ProviderError, LedgerError, OutputError, OutspokenError)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The input of a worker apart from its shards. It requests a share of the run's `budget`."""

    version: str
    model: str
    settings: Settings
    run: RunSettings
    template: Template
    schema: Mapping[str, Any] | None
    price: Price | None
    budget: Budget
    out: Path
    seconds_per_report: float

    @classmethod
    def of(cls, plan: RunPlan, out: Path, workers: int) -> ShardTask:
        """The task of each of `workers`: limits of the pace are divided by their number."""
        run = plan.run
        of_a_worker = replace(
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
            run=of_a_worker,
            template=plan.template,
            schema=plan.schema,
            price=plan.price,
            budget=Budget(run.budget_tokens, run.budget_usd),
            out=out.absolute(),
            seconds_per_report=max(_SECONDS_PER_REPORT, workers / _REPORTS_PER_SECOND),
        )


def answer_shards(task: ShardTask, shards: Sequence[int], board: Any, workers: int) -> Iterator[ShardResult]:
    """Have the shards answered by this many workers; yields the results as shards end. Raises Ray's errors."""
    data = need("ray.data", "running over Ray", "ray")
    numbers = data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
    numbers.context.enable_progress_bars = False
    numbers.context.print_on_execution_start = False
    numbers.context.execution_no_progress_timeout_s = -1  # a shard may take any time
    results = numbers.map_batches(
        Worker,
        batch_size=1,
        compute=data.ActorPoolStrategy(size=min(workers, len(shards)), max_tasks_in_flight_per_actor=1),
        num_cpus=_CPUS_PER_WORKER,
        fn_constructor_args=(task, board),
    )
    for row in results.iter_rows():
        yield pickle.loads(row["result"])


class Worker:
    """The actor that answers shards, one after the other."""

    def __init__(self, task: ShardTask, board: Any) -> None:
        self._task = task
        self._board = board
        self._runner = asyncio.Runner()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        attempt = _Attempt(self._task, self._board, int(batch["shard"][0]))
        return {"result": [pickle.dumps(self._runner.run(attempt.result()))]}


class _Attempt:
    """One attempt at one shard."""

    def __init__(self, task: ShardTask, board: Any, shard: int) -> None:
        self._task = task
        self._board = board
        self._shard = shard
        self._shards = Shards(task.out)
        self._result = ShardResult(shard, uuid.uuid4().hex, RunMetrics())
        self._engine: RunEngine | None = None
        self._work: asyncio.Task[None] | None = None

    async def result(self) -> ShardResult:
        """The outcome, which includes an `OutspokenError`; other errors are raised."""
        result = self._result
        await self._report()
        try:
            if not result.stopped or self._shards.path(self._shard, ".sqlite").exists():
                await self._answer()
        except StoppedError as error:
            result.stopped = result.stopped or str(error)
        except OutspokenError as error:
            self._fail(error)
        await self._report(ended=True)
        result.complete = result.complete and not result.stopped
        return result

    def _fail(self, error: OutspokenError, *, broken: bool = False) -> None:
        kind, result = next(kind for kind in _KINDS if isinstance(error, kind)), self._result
        result.failure, result.broken = kind(f"on {platform.node()}: {error}"), broken
        result.stopped = result.stopped or str(result.failure)

    async def _answer(self) -> None:
        task, shards, result = self._task, self._shards, self._result
        if task.version != __version__:
            raise UsageError(f"outspoken is {__version__} here, and {task.version} where the run was started")
        layout = shards.manifest.layout
        if layout is None or not shards.path(self._shard, ".jsonl").is_file():
            raise UsageError(f"{shards.folder} is missing: the output must be on a disk that all machines share")
        plan = RunPlan(
            models.get_model(task.model),
            task.settings,
            task.run,
            task.template,
            *validator(task.schema),
            task.price,
        )
        base, output = shards.path(self._shard), Output(task.out)
        async with self._lock():
            with Ledger(shards.path(self._shard, ".sqlite")) as ledger, FailureFile(base) as failures:
                ledger.note_run(__version__, {**fingerprint(plan), "out": output.path.name})
                share = Budget() if task.budget == Budget() else await self._share(plan, ledger, output)
                run = replace(plan.run, budget_tokens=share.tokens, budget_usd=share.usd)
                engine = self._engine = RunEngine(replace(plan, run=run), result.metrics, ledger)
                writer = PartitionWriter(engine, output, ledger, failures, size=layout.rows_per_part)
                if result.stopped:
                    engine.stop(result.stopped)
                try:
                    await self._supervise(writer.run(shards.rows(self._shard)))
                finally:
                    result.written, result.complete = writer.written, writer.complete
                failures.finish()
        if not result.stopped:
            used_up = as_used_up(engine.stopped, share, task.budget)
            result.stopped, result.used_up = used_up or engine.stopped, used_up != ""
        if engine.broken is not None:
            self._fail(engine.broken, broken=True)

    @asynccontextmanager
    async def _lock(self) -> AsyncGenerator[None]:
        """Keep other workers from the shard.

        Raises `StoppedError` if the run is stopped before the lock is free, `OutputError` if it is never free.
        """
        deadline = time.monotonic() + _SECONDS_FOR_A_LOCK
        while (lock := self._shards.lock(self._shard)) is None:
            if time.monotonic() > deadline:
                raise OutputError(
                    f"another process still answers the shard {self._shards.path(self._shard)}: end it, then give "
                    "the same command again"
                )
            await asyncio.sleep(self._task.seconds_per_report)
            await self._report()
            if self._result.stopped:
                raise StoppedError(self._result.stopped)
        with lock:
            yield

    async def _share(self, plan: RunPlan, ledger: Ledger, output: Output) -> Budget:
        """The share of the budget; without limits if the attempt is stopped before it sends a request."""
        request = self._share_request(plan, ledger, output)
        while not self._result.stopped:
            orders = await self._report(request=request)
            if orders is not None and isinstance(orders.share, Budget):
                return orders.share
            if orders is not None and isinstance(orders.share, str):
                self._result.stopped, self._result.used_up = orders.share, True
                break
            await asyncio.sleep(self._task.seconds_per_report / 4)
        return Budget()

    def _share_request(self, plan: RunPlan, ledger: Ledger, output: Output) -> ShareRequest:
        records = recorded_parts(plan, ledger, output)
        complete = {number for number, record in records.items() if record.complete}
        rows = sum(rows for number, rows in self._shards.parts(self._shard).items() if number not in complete)
        engine = RunEngine(plan, RunMetrics(), None)
        for row in self._shards.rows(self._shard):
            if isinstance(row, PromptRow):
                request, _ = next(engine.first_requests(row, plan.model.name))
                return ShareRequest(rows, expected_usage(request, 0, Usage()))
        return ShareRequest(0, Usage())

    async def _supervise(self, work: Coroutine[Any, Any, None]) -> None:
        """Report while the work is in progress. Raises `StoppedError` if the driver ends it at once."""
        self._work = asyncio.ensure_future(work)
        while not self._work.done():
            await asyncio.wait({self._work}, timeout=self._task.seconds_per_report)
            if not self._work.done():
                await self._report()
        try:
            await self._work
        except asyncio.CancelledError:
            raise StoppedError(self._result.stopped or "cancelled") from None

    async def _report(self, *, request: ShareRequest | None = None, ended: bool = False) -> Orders | None:
        """Report to the driver and follow its orders; None, and the work continues, if the board is lost."""
        under_way = self._engine.under_way if self._engine and not ended else 0
        report = WorkerReport(self._shard, self._result.metrics, under_way, request, ended)
        orders: Orders | None = await call_board(self._board.report, self._result.attempt, report)
        if orders is None or ended:
            return None
        if orders.stopped:
            self._result.stopped = orders.stopped
            if self._engine is not None:
                self._engine.stop(orders.stopped)
        if orders.at_once and self._work is not None:
            self._work.cancel()
        return orders
