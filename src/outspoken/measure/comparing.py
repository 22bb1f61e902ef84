"""Asking prompts of one's own in several ways, to compare the ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.response_columns import select_responses
from outspoken.batch.sources import BadRow, PromptRow, rows_of
from outspoken.engine import CallResult, PromptResult, RunMetrics
from outspoken.errors import OutspokenError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure.cost import Cost
from outspoken.measure.values import Group, PromptGroup, Response
from outspoken.models.base import Model

__all__ = ["ask", "responses_of"]

Progress = Callable[[str, int, int], None]


async def ask(
    prompts: Sequence[str],
    methods: Iterable[str],
    *,
    model: str | Model | None = None,
    n: int = 10,
    ledger: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[list[Group], list[Cost], list[str]]:
    """The responses to `prompts` by each of the methods, `n` to each prompt, what they cost, and what failed.

    `options` are those of `run`. Raises `UsageError` for what cannot be asked, and what made everything fail,
    where nothing at all came of it.
    """
    rows = [_good(row) for row in rows_of(prompts)]
    if not rows:
        raise UsageError("there is no prompt to ask")
    groups, costs = [], []
    errors: dict[str, OutspokenError] = {}
    async with AsyncExitStack() as stack:
        kept = stack.enter_context(Ledger(ledger)) if ledger is not None else None
        for method in methods:
            plan = RunPlan.make(model, None, {**options, "method": method, "n": n})
            group, cost, error = await _asked(rows, plan, kept, progress)
            groups.append(group)
            costs.append(cost)
            if error is not None:
                errors[method] = error
    if errors and not any(asked.responses for group in groups for asked in group.prompts):
        raise next(iter(errors.values()))
    return (
        groups,
        costs,
        [f"{method} failed for some prompts; the first: {told}" for method, told in errors.items()],
    )


async def _asked(
    rows: Sequence[PromptRow], plan: RunPlan, ledger: Ledger | None, progress: Progress | None
) -> tuple[Group, Cost, OutspokenError | None]:
    meter = RunMetrics()
    runner = RunEngine(plan, meter, ledger)
    asked: list[PromptGroup] = []
    error: OutspokenError | None = None
    method, wanted = plan.settings.method, plan.run.n or 0
    async with aclosing(runner.results(iter(rows))) as answers:
        async for answer in answers:
            if answer.untouched:
                continue
            every = responses_of(answer, plan)
            found = tuple(response for response in every if response.text.strip())
            error = error or answer.error
            missing = max(0, wanted - len(every)) if answer.error is not None else 0
            row = answer.prompt
            asked.append(PromptGroup(row.id, row.messages[-1].content, found, missing, len(every) - len(found)))
            if progress:
                progress(method, len(asked), len(rows))
    usage = meter.usage + meter.usage_from_ledger
    usd = None if plan.price is None else plan.price.cost(usage)
    cost = Cost(meter.requests + meter.from_ledger, usage.total_tokens, meter.seconds, usd)
    return Group(method, plan.model.name, tuple(asked), _told(plan)), cost, runner.broken or error


def responses_of(answer: PromptResult[PromptRow], plan: RunPlan) -> tuple[Response, ...]:
    """The responses to one prompt, as a run writes them.

    Equal answers of one conversation are one candidate with their weights added: here each turn counts.
    """
    made = [
        (call, Response(candidate.text, candidate.probability, candidate.stated, call.number, call.key_of(at)))
        for call, at in select_responses(answer.calls, plan.run.goal)
        for candidate in (call.distribution[at],)
    ]
    if plan.settings.method != "multi-turn":
        return tuple(response for _, response in made)
    return tuple(
        replace(response, probability=None)
        for call, response in made
        for _ in range(round((response.probability or 0) * _turns(call)))
    )


def _turns(call: CallResult) -> int:
    return call.distribution.provenance.k - call.distribution.missing


def _told(plan: RunPlan) -> Mapping[str, Any]:
    """The settings that tell groups of one method apart: none, for methods side by side."""
    return {} if plan.template.name == "standard" else {"template": plan.template.name}


async def _each(rows: Sequence[PromptRow]) -> AsyncIterator[PromptRow]:
    for row in rows:
        yield row


def _good(row: PromptRow | BadRow) -> PromptRow:
    if isinstance(row, BadRow):
        raise UsageError(f"{row.where}: {row.reason}")
    return row
