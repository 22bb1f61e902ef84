"""The plan of a run (model, settings, prices), and the engine that runs in memory and into files share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from outspoken import models, templates
from outspoken._install import install_command
from outspoken.batch.settings import DEFAULT_CONCURRENCY, RunOptions, RunSettings
from outspoken.batch.sources import PromptRow
from outspoken.chat import ChatRequest
from outspoken.engine import (
    Budget,
    ModelCaller,
    PromptResult,
    PromptRunner,
    RateLimiter,
    RunMetrics,
    cause_of,
    ordered,
)
from outspoken.errors import OutspokenError, StoppedError, UsageError
from outspoken.json_schema import validator
from outspoken.ledger import Ledger, entry_of
from outspoken.methods.steps import start
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Model
from outspoken.prices import Price, price_of
from outspoken.settings import Settings, split

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["RunEngine", "RunPlan", "in_background", "stop_after"]

T = TypeVar("T")

_ITEMS_PER_BATCH = 64
_BATCH_SECONDS = 0.05
_WINDOW = 8


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything that defines a run apart from its prompts."""

    model: Model
    settings: Settings
    run: RunSettings
    template: templates.Template
    schema: Mapping[str, Any] | None = None
    validate: Callable[[Any], Any] | None = None
    price: Price | None = None

    @classmethod
    def make(
        cls,
        model: str | Model | None,
        schema: type[BaseModel] | Mapping[str, Any] | None,
        options: RunOptions | Mapping[str, object],
    ) -> RunPlan:
        """From the arguments of `run`. Raises `UsageError` for invalid ones."""
        settings, run = split(options, Settings, RunSettings)
        json_schema, validate = (None, None) if schema is None else validator(schema)
        resolved = model if isinstance(model, Model) else models.get_model(model or models.default_name())
        price = price_of(resolved.name, run.prices)
        if run.budget_usd is not None and price is None:
            raise UsageError(
                f"no price is known for {resolved.name}: name it in a file of prices (--prices), or install those "
                f"of the large providers: {install_command('prices')}"
            )
        template = templates.load(settings.template)
        return cls(resolved, settings, run, template, json_schema, validate, price)

    @property
    def concurrency(self) -> int:
        """The most requests at once."""
        parallel = self.model.capabilities.parallel
        most = self.run.concurrency or parallel or DEFAULT_CONCURRENCY
        return most if parallel is None else min(most, parallel)


class RunEngine:
    """Answers the prompts of one run, counts the results, and stops it in good order."""

    def __init__(self, plan: RunPlan, metrics: RunMetrics, ledger: Ledger | None) -> None:
        run = plan.run
        self.plan = plan
        self.metrics = metrics
        self._ledger = ledger
        self._limiter = RateLimiter(
            plan.concurrency,
            steady=plan.model.capabilities.parallel is not None,
            requests_per_minute=run.requests_per_minute,
            tokens_per_minute=run.tokens_per_minute,
        )
        self.closed = self._limiter.closed
        """Set when the run is stopped."""
        self._caller = ModelCaller(
            plan.model,
            self._limiter,
            metrics,
            ledger=ledger,
            limits=run,
            budget=Budget(run.budget_tokens, run.budget_usd),
            dollars=None if plan.price is None else plan.price.cost,
        )
        self._identified = False
        self._identifying = asyncio.Lock()
        self.runner = PromptRunner(
            self._caller, plan.settings, plan.template, run.goal, schema=plan.schema, validate=plan.validate
        )

    @property
    def stopped(self) -> str:
        """Why no further requests are sent; "" while the run continues."""
        return self._limiter.stopped

    @property
    def most(self) -> int:
        """The greatest number of requests at once, which the limit of open files may lower."""
        return self._limiter.most

    @property
    def under_way(self) -> int:
        """The number of requests that have been sent and not been answered."""
        return self._limiter.active

    @property
    def pause_left(self) -> float:
        """The seconds for which nothing is sent because the server asked to wait; 0 if it did not."""
        return self._limiter.pause_left

    @property
    def broken(self) -> OutspokenError | None:
        """The error that made every prompt fail, if the run was stopped for it."""
        return self._caller.broken

    def stop(self, reason: str) -> None:
        """Send no further requests; those under way are awaited and their replies kept."""
        self._limiter.stop(reason)

    def timed(self) -> AbstractContextManager[None]:
        """Stop the run within this block when its time is used up."""
        return stop_after(self.plan.run.max_seconds, self.stop)

    def results(
        self, rows: AsyncIterator[PromptRow] | Iterator[PromptRow]
    ) -> AsyncGenerator[PromptResult[PromptRow]]:
        """The results in the order of the rows; to be iterated within `timed`.

        Results of prompts that were not asked because the run was stopped are `untouched`.
        """
        # There are a few more prompts than requests, so that the next one is ready when a request ends.
        tasks = self._limiter.most + 1 + self._limiter.most // 4
        return ordered(rows, self._answer, tasks=tasks, window=_WINDOW * tasks)

    def first_requests(self, row: PromptRow, identity: str) -> Iterator[tuple[ChatRequest, bool]]:
        """The first request of each call that a prompt needs, and whether the ledger has its reply. Sends nothing.

        `identity` is the name of the model in the ledger, see `Model.identity`.
        """
        for number in range(self.runner.calls):
            request = next(start(self.runner.method_call(row, number)))
            request = request[0] if isinstance(request, tuple) else request
            key = entry_of(identity, request, (row.occurrence, number, 0)).key
            yield request, self._ledger is not None and self._ledger.get(key) is not None

    async def _answer(self, row: PromptRow) -> PromptResult[PromptRow]:
        if not self._identified:
            await self._identify()
        result = await self.runner.answer(row)
        if not result.untouched:
            self.metrics.prompts += 1
            if result.error is None:
                self.metrics.short += result.short
            elif not isinstance(result.error, StoppedError):
                self.metrics.failures[cause_of(result.error)] += 1
        return result

    async def _identify(self) -> None:
        """Ask the model for its name in the ledger, before the first prompt."""
        async with self._identifying:
            if not self._identified:
                self._caller.identity = await self.plan.model.identity()
                self._identified = True


@contextmanager
def stop_after(seconds: float | None, stop: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` with the reason if the block takes more than this many seconds (None: never)."""
    reason = f"the time of {seconds} s is used up"
    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, stop, reason)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


async def in_background(items: Iterator[T], closed: asyncio.Event) -> AsyncGenerator[T]:
    """The items of an iterator that may block, read in batches by a thread until `closed` is set."""
    worker = ModelThreads(1)
    closing = asyncio.ensure_future(closed.wait())
    try:
        while not closed.is_set():
            taking = asyncio.wrap_future(worker.submit(partial(_take_batch, items)))
            both: list[asyncio.Future[Any]] = [taking, closing]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                return  # the thread still waits for the source, and ends with the process
            batch = taking.result()
            for item in batch:
                yield item
            if not batch:
                return
    finally:
        closing.cancel()
        worker.end()


def _take_batch(items: Iterator[T]) -> list[T]:
    """The items that arrive within a short time; none at the end."""
    batch: list[T] = []
    begun = time.monotonic()
    for item in items:
        batch.append(item)
        if len(batch) >= _ITEMS_PER_BATCH or time.monotonic() - begun > _BATCH_SECONDS:
            break
    return batch
