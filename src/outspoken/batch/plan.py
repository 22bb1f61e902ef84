"""The machinery that a run in memory and a run over files share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from outspoken import models, templates
from outspoken.api import validator
from outspoken.batch.prices import Price, price_of
from outspoken.batch.settings import DEFAULT_CONCURRENCY, RunOptions, RunSettings, split
from outspoken.batch.sources import PromptRow
from outspoken.engine import ModelCaller, PromptResult, PromptRunner, RateLimiter, RunMetrics, cause_of, ordered
from outspoken.errors import StoppedError, UsageError
from outspoken.ledger import Ledger
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Model
from outspoken.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["RunEngine", "RunPlan", "in_background", "in_turn"]

T = TypeVar("T")

_ROWS_AT_ONCE = 64
_A_WHILE = 0.05
_WINDOW = 8


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is asked of which model, apart from the prompts."""

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
        options: RunOptions | dict[str, Any],
    ) -> RunPlan:
        """Raises `UsageError` for what cannot be, before anything is sent."""
        settings, of_run = split(options)
        json_schema, validate = validator(schema)
        resolved = model if isinstance(model, Model) else models.get_model(model or models.default_name())
        price = price_of(resolved.name, of_run.prices)
        if of_run.budget_usd is not None and price is None:
            raise UsageError(
                f"no price is known for {resolved.name}: name it in a file of prices (--prices), or install "
                "'outspoken[prices]' for those of the large providers"
            )
        template = templates.load(settings.template)
        return cls(resolved, settings, of_run, template, json_schema, validate, price)


class RunEngine:
    """The machinery of one run: answers rows, counts what is done, and stops in good order."""

    def __init__(self, plan: RunPlan, meter: RunMetrics, ledger: Ledger | None) -> None:
        parallel = plan.model.capabilities.parallel
        most = plan.run.concurrency or parallel or DEFAULT_CONCURRENCY
        self.plan = plan
        self.meter = meter
        self.gate = RateLimiter(
            most if parallel is None else min(most, parallel),
            steady=parallel is not None,
            requests_per_minute=plan.run.requests_per_minute,
            tokens_per_minute=plan.run.tokens_per_minute,
        )
        self.caller = ModelCaller(
            plan.model,
            self.gate,
            meter,
            ledger=ledger,
            patience=plan.run.patience,
            budget=plan.run.budget,
            dollars=None if plan.price is None else plan.price.cost,
        )
        self.asker = PromptRunner(
            self.caller,
            plan.settings,
            plan.template,
            plan.run.goal,
            schema=plan.schema,
            validate=plan.validate,
        )

    def stop(self, reason: str) -> None:
        """Send nothing more. What is under way is waited for and kept."""
        self.gate.shut(reason)

    async def answers(self, rows: AsyncIterator[PromptRow]) -> AsyncGenerator[PromptResult[PromptRow]]:
        """The answers in the order of the rows; those of the prompts that it was stopped before are missing."""
        first = await anext(rows, None)
        if first is None:
            return
        self.caller.identity = await self.plan.model.identity()
        # A few more prompts than requests: the next one is ready when a place at the gate comes free.
        tasks, seconds = self.gate.most + 1 + self.gate.most // 4, self.plan.run.max_seconds
        timer = asyncio.get_running_loop().call_later(
            seconds or 1e9, self.stop, f"the time of {seconds} s is used up"
        )
        found = ordered(_chained(first, rows), self._answer, tasks=tasks, window=_WINDOW * tasks)
        try:
            async with aclosing(found):
                async for answer in found:
                    if not _untouched(answer):
                        yield answer
        finally:
            timer.cancel()

    async def _answer(self, row: PromptRow) -> PromptResult[PromptRow]:
        answer = await self.asker.answer(row)
        if not _untouched(answer):
            self.meter.prompts += 1
            if answer.error is None:
                self.meter.short += answer.short
            elif not isinstance(answer.error, StoppedError):
                self.meter.failures[cause_of(answer.error)] += 1
        return answer


def _untouched(answer: PromptResult[PromptRow]) -> bool:
    """Whether the run was stopped before anything came of this prompt."""
    return isinstance(answer.error, StoppedError) and not answer.calls


async def _chained(first: T, rest: AsyncIterator[T]) -> AsyncGenerator[T]:
    yield first
    async for item in rest:
        yield item


async def in_turn(items: Iterator[T], closed: asyncio.Event) -> AsyncGenerator[T]:
    """The items of an iterator that never keeps one waiting, until `closed` is set.

    A thread for it would cost more than it does: with each lookup in its database it gives up the interpreter's
    lock, and takes it from the loop again.
    """
    for item in items:
        if closed.is_set():
            return
        yield item


async def in_background(items: Iterator[T], closed: asyncio.Event) -> AsyncGenerator[T]:
    """The items of an iterator that may block, taken by a thread, several at a time, until `closed` is set."""
    worker = ModelThreads(1)
    closing = asyncio.ensure_future(closed.wait())
    try:
        while not closed.is_set():
            taking = asyncio.wrap_future(worker.submit(partial(_some, items)))
            await asyncio.wait({taking, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                return  # the thread still waits for its source, and ends with the process
            batch = taking.result()
            for item in batch:
                yield item
            if not batch:
                return
    finally:
        closing.cancel()
        worker.end()


def _some(items: Iterator[T]) -> list[T]:
    """A few items: as many as come in a short while; none at the end."""
    batch: list[T] = []
    begun = time.monotonic()
    for item in items:
        batch.append(item)
        if len(batch) >= _ROWS_AT_ONCE or time.monotonic() - begun > _A_WHILE:
            break
    return batch
