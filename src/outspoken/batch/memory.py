"""`run` and `arun`: the distributions of many prompts, in the order of the prompts."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Unpack

from outspoken.api import Prompt
from outspoken.batch.plan import RunEngine, RunPlan, in_background
from outspoken.batch.settings import RunOptions
from outspoken.batch.sources import BadRow, PromptRow, read, rows_of
from outspoken.distribution import Distribution
from outspoken.engine import RunMetrics, RunSummary, cause_of, iterate
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
    """A prompt that lacks responses: its id, its place in the input, the short cause and the whole message."""

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
    """`arun` for synchronous code.

    `for distribution in outspoken.run(prompts, n=10, ledger="run.sqlite"): …`

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
        n: Responses per prompt, in as many calls as needed. Default: those of one call.
        until_distinct: Continue until a prompt has this many different responses, or --max-calls is reached.
            Default: None.
        max_calls: Most calls for one prompt. Default: twice what --n needs plus one; ten times for
            --until-distinct.
        concurrency: Most requests at once; fewer while the server is overloaded. Default: 256, or what a local
            model decodes in parallel.
        requests_per_minute: Most requests in a minute. Default: None.
        tokens_per_minute: Most tokens in a minute. Default: None.
        budget_tokens: Stop before more tokens than this are used. Default: None.
        budget_usd: Stop before more US dollars than this are spent. Default: None.
        max_seconds: Stop asking after this many seconds. Default: None.
        prices: A TOML file of prices; docs/runs.md shows one. Default: None.
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
    `messages`) and optionally an `id`; or the `Path` of a file of them (see `outspoken.batch.sources.read`).
    Memory stays bounded. With a `ledger`, the path of a file, stored replies are not requested again. Raises
    `UsageError` or `LedgerError` before anything is sent. Failures of single prompts are returned in the run's
    `failures`, not raised.

    Options:
        method: The method; `outspoken methods` lists them. Default: 'vs-standard'.
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
        timeout: Most seconds for one attempt at a request. Default: 600.0.
        total_timeout: Most seconds for one request, with all its attempts and waits. Default: 1800.0.
        attempts: Most attempts at one request. In a run, those that an overloaded server refuses do not count.
            Default: 6.
        n: Responses per prompt, in as many calls as needed. Default: those of one call.
        until_distinct: Continue until a prompt has this many different responses, or --max-calls is reached.
            Default: None.
        max_calls: Most calls for one prompt. Default: twice what --n needs plus one; ten times for
            --until-distinct.
        concurrency: Most requests at once; fewer while the server is overloaded. Default: 256, or what a local
            model decodes in parallel.
        requests_per_minute: Most requests in a minute. Default: None.
        tokens_per_minute: Most tokens in a minute. Default: None.
        budget_tokens: Stop before more tokens than this are used. Default: None.
        budget_usd: Stop before more US dollars than this are spent. Default: None.
        max_seconds: Stop asking after this many seconds. Default: None.
        prices: A TOML file of prices; docs/runs.md shows one. Default: None.
    """
    return AsyncRun(prompts, RunPlan.make(model, schema, options), ledger)


class AsyncRun(AsyncIterator[Distribution]):
    """The distributions of many prompts, each with its `provenance.prompt_id`.

    All calls for a prompt make one distribution. A prompt without any response is left out: it is among the
    `failures` (the first thousand are kept, `summary` counts all).
    """

    def __init__(self, prompts: Prompts, plan: RunPlan, ledger: str | os.PathLike[str] | None) -> None:
        self.failures: list[PromptFailure] = []
        self._metrics = RunMetrics()
        self._ledger = None if ledger is None else Ledger(ledger)
        self._engine = RunEngine(plan, self._metrics, self._ledger)
        rows = read(prompts) if isinstance(prompts, Path) else rows_of(prompts)
        closed = self._engine.closed
        self._rows: Iterator[PromptRow] | AsyncIterator[PromptRow]
        if isinstance(prompts, list | tuple):  # cannot block, unlike a file, a pipe or a generator
            self._rows = filter(self._is_sound, takewhile(lambda _: not closed.is_set(), rows))
        else:
            self._rows = (row async for row in in_background(rows, closed) if self._is_sound(row))
        self._items = self._distributions()

    @property
    def summary(self) -> RunSummary:
        """The figures so far."""
        return self._metrics.summary(self._engine.stopped)

    async def __anext__(self) -> Distribution:
        return await anext(self._items)

    def stop(self, reason: str = "stopped by the caller") -> None:
        """Send no further requests; the results of those under way are still returned."""
        self._engine.stop(reason)

    async def aclose(self) -> None:
        """Stop at once. Replies that have arrived are in the ledger."""
        await self._items.aclose()
        if self._ledger is not None:
            self._ledger.close()

    async def _distributions(self) -> AsyncGenerator[Distribution]:
        metrics = self._metrics
        try:
            with self._engine.timed():
                async with aclosing(self._engine.results(self._rows)) as results:
                    async for result in results:
                        if result.error is not None and not result.untouched:
                            self._add_failure(result.prompt.id, result.prompt.where, result.error)
                        if result.calls:
                            parts = [call.distribution for call in result.calls]
                            merged = parts[0].merge(*parts[1:]) if len(parts) > 1 else parts[0]
                            metrics.responses += sum([len(part.candidates) for part in parts])
                            metrics.distinct += len(merged.candidates)
                            yield merged
            if self._engine.broken is not None:
                raise self._engine.broken
        finally:
            if self._ledger is not None:
                self._ledger.close()

    def _is_sound(self, row: PromptRow | BadRow) -> TypeGuard[PromptRow]:
        """Whether the row is a prompt; if not, it is counted and recorded as a failure."""
        if isinstance(row, PromptRow):
            return True
        self._metrics.bad_rows += 1
        self._add_failure("", row.where, UsageError(row.reason))
        return False

    def _add_failure(self, prompt_id: str, where: str, error: OutspokenError) -> None:
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
    def summary(self) -> RunSummary:
        return self._run.summary

    def close(self) -> None:
        """Stop at once. Replies that have arrived are in the ledger."""
        self._items.close()
