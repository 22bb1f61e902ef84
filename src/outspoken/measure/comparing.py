"""Asking prompts with several methods, to compare the methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

from outspoken._options import CallOptions
from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.response_columns import select_responses
from outspoken.batch.sources import BadRow, PromptRow, rows_of
from outspoken.engine import CallResult, PromptResult, RunMetrics
from outspoken.errors import OutspokenError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure.analysis import Progress
from outspoken.measure.cost import Cost
from outspoken.measure.values import Group, PromptGroup, Response
from outspoken.methods.table import METHODS, Method
from outspoken.models.base import Model

__all__ = ["ask", "responses_of"]


async def ask(
    prompts: Sequence[str],
    methods: Iterable[str | Method],
    *,
    model: str | Model | None = None,
    n: int = 10,
    ledger: str | Path | None = None,
    progress: Progress | None = None,
    options: CallOptions | None = None,
) -> tuple[list[Group], list[Cost], list[str]]:
    """Ask each prompt for `n` responses by each method.

    Returns a group of responses and its cost for each method, and sentences about failures. Raises `UsageError`
    for invalid arguments. If there is no response at all, raises the error of the first method.
    """
    rows = [_checked(row) for row in rows_of(prompts)]
    if not rows:
        raise UsageError("there is no prompt to ask")
    groups, costs = [], []
    errors: dict[str, OutspokenError] = {}
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Ledger(ledger)) if ledger is not None else None
        for method in methods:
            plan = RunPlan.make(model, None, {**(options or {}), "method": method, "n": n})
            group, cost, error = await _ask_method(rows, plan, store, progress)
            groups.append(group)
            costs.append(cost)
            if error is not None:
                errors[group.method] = error
    if errors and not any(prompt.responses for group in groups for prompt in group.prompts):
        raise next(iter(errors.values()))
    problems = [f"{method} failed for some prompts; the first error: {error}" for method, error in errors.items()]
    return groups, costs, problems


async def _ask_method(
    rows: Sequence[PromptRow], plan: RunPlan, ledger: Ledger | None, progress: Progress | None
) -> tuple[Group, Cost, OutspokenError | None]:
    metrics = RunMetrics()
    engine = RunEngine(plan, metrics, ledger)
    prompts: list[PromptGroup] = []
    error: OutspokenError | None = None
    method, wanted = plan.settings.method, plan.run.n or 0
    with engine.timed():
        async with aclosing(engine.results(iter(rows))) as results:
            async for result in results:
                if result.untouched:
                    continue
                responses = responses_of(result, plan)
                texts = tuple(response for response in responses if response.text.strip())
                error = error or result.error
                missing = max(0, wanted - len(responses)) if result.error is not None else 0
                row, empty = result.prompt, len(responses) - len(texts)
                prompts.append(PromptGroup(row.id, row.messages[-1].content, texts, missing, empty))
                if progress:
                    progress(method, len(prompts), len(rows))
    usage = metrics.usage + metrics.usage_from_ledger
    usd = None if plan.price is None else plan.price.cost(usage)
    cost = Cost(metrics.requests + metrics.from_ledger, usage.total_tokens, metrics.seconds, usd)
    settings = {} if plan.template.name == "standard" else {"template": plan.template.name}
    return Group(method, plan.model.name, tuple(prompts), settings), cost, engine.broken or error


def responses_of(result: PromptResult[PromptRow], plan: RunPlan) -> tuple[Response, ...]:
    """The responses to one prompt, as a run writes them.

    A conversation with one response per turn merges equal responses into one candidate and adds up their weights.
    Here each turn counts again.
    """
    responses = [
        (call, Response(candidate.text, candidate.probability, candidate.stated, call.number, call.key_of(index)))
        for call, index in select_responses(result.calls, plan.run.goal)
        for candidate in (call.distribution[index],)
    ]
    method = METHODS[plan.settings.method]
    if method.candidates_per_request == "k" or not method.conversation:
        return tuple(response for _, response in responses)
    return tuple(
        replace(response, probability=None)
        for call, response in responses
        for _ in range(round((response.probability or 0) * _turns(call)))
    )


def _turns(call: CallResult) -> int:
    return call.distribution.provenance.k - call.distribution.missing


def _checked(row: PromptRow | BadRow) -> PromptRow:
    if isinstance(row, BadRow):
        raise UsageError(f"{row.where}: {row.reason}")
    return row
