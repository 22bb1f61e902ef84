"""`run` and `arun`: many prompts in, their distributions out, one after the other."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from outspoken.api import Prompt
from outspoken.batch.plan import RunEngine, RunPlan, in_background
from outspoken.batch.settings import RunOptions
from outspoken.batch.sources import PromptRow, read, rows_of
from outspoken.distribution import Distribution
from outspoken.engine import RunMetrics, cause_of, iterate
from outspoken.errors import OutspokenError, UsageError
from outspoken.ledger import Ledger
from outspoken.models.base import Model

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["AsyncRun", "PromptFailure", "Run", "arun", "run"]

_FAILURES_KEPT = 1000

Prompts = Iterable[Prompt | Mapping[str, Any]] | Path


@dataclass(frozen=True, slots=True)
class PromptFailure:
    """A prompt that lacks responses: its id, where it stands, the short name of its failure, the whole message."""

    id: str
    where: str
    cause: str
    message: str


def run(
    prompts: Prompts,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    ledger: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> Run:
    """`arun` for synchronous code: iterate over what it returns.

    `for distribution in outspoken.run(prompts, n=10, ledger="run.sqlite"): …`
    """
    return Run(arun(prompts, model=model, schema=schema, ledger=ledger, **options))


def arun(
    prompts: Prompts,
    *,
    model: str | Model | None = None,
    schema: type[BaseModel] | Mapping[str, Any] | None = None,
    ledger: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> AsyncRun:
    """Ask many prompts at once; iterate over the result for their distributions, in the order of the prompts.

    `prompts` is an iterable, of any length, of prompts as `verbalize` takes them, or of mappings with `prompt` (or
    `messages`) and perhaps an `id`; or the `Path` of a file of them (see `outspoken.batch.sources.read`). Memory
    stays bounded. With a `ledger`, the path of a file, nothing that was answered is ever asked again. `options`
    are those of `Settings` and `RunSettings`. Raises `UsageError` or `LedgerError` before anything is sent; a
    prompt that fails does not end the run, but stands in the run's `failures`.
    """
    return AsyncRun(prompts, RunPlan.make(model, schema, options), ledger)


class AsyncRun(AsyncIterator[Distribution]):
    """The distributions of many prompts, each with its `provenance.prompt_id`.

    All calls for a prompt make one distribution. A prompt without any response is left out: it is among the
    `failures` (the first thousand are kept, `summary` counts all).
    """

    def __init__(self, prompts: Prompts, plan: RunPlan, ledger: str | os.PathLike[str] | None) -> None:
        self.failures: list[PromptFailure] = []
        self._meter = RunMetrics()
        self._ledger = None if ledger is None else Ledger(ledger)
        self._runner = RunEngine(plan, self._meter, self._ledger)
        self._rows = read(prompts) if isinstance(prompts, Path) else rows_of(prompts)
        self._items = self._go()

    @property
    def summary(self) -> dict[str, Any]:
        """The figures so far; see `RunMetrics.to_dict`. `stopped` says why it ended early ("" where it did
        not)."""
        return {**self._meter.to_dict(), "stopped": self._runner.gate.stopped}

    async def __anext__(self) -> Distribution:
        return await anext(self._items)

    def stop(self, reason: str = "stopped by the caller") -> None:
        """Send nothing more; what is under way still comes."""
        self._runner.stop(reason)

    async def aclose(self) -> None:
        """Stop at once. What came back is in the ledger."""
        await self._items.aclose()
        if self._ledger is not None:
            self._ledger.close()

    async def _go(self) -> AsyncGenerator[Distribution]:
        runner, meter = self._runner, self._meter
        try:
            async for answer in runner.answers(self._good()):
                if answer.error is not None:
                    self._fail(answer.prompt.id, answer.prompt.where, answer.error)
                if answer.calls:
                    first, *others = (call.distribution for call in answer.calls)
                    meter.responses += sum(len(call.distribution) for call in answer.calls)
                    merged = first.merge(*others) if others else first
                    meter.distinct += len(merged)
                    yield merged
            if runner.caller.broken is not None:
                raise runner.caller.broken
        finally:
            if self._ledger is not None:
                self._ledger.close()

    async def _good(self) -> AsyncGenerator[PromptRow]:
        async for row in in_background(self._rows, self._runner.gate.closed):
            if isinstance(row, PromptRow):
                yield row
            else:
                self._meter.bad_rows += 1
                self._fail("", row.where, UsageError(row.reason))

    def _fail(self, prompt_id: str, where: str, error: OutspokenError) -> None:
        if len(self.failures) < _FAILURES_KEPT:
            self.failures.append(PromptFailure(prompt_id, where, cause_of(error), str(error)))


class Run(Iterator[Distribution]):
    """`AsyncRun` for synchronous code."""

    def __init__(self, running: AsyncRun) -> None:
        self._run = running
        self._items = iterate(self._generate())

    async def _generate(self) -> AsyncGenerator[Distribution]:
        try:
            async for distribution in self._run:
                yield distribution
        finally:
            await self._run.aclose()

    def __next__(self) -> Distribution:
        return next(self._items)

    @property
    def failures(self) -> list[PromptFailure]:
        return self._run.failures

    @property
    def summary(self) -> dict[str, Any]:
        return self._run.summary

    def close(self) -> None:
        """Stop at once. What came back is in the ledger."""
        self._items.close()
