"""Asking prompts with several methods, to compare the methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import replace
from pathlib import Path

from outspoken._options import CallOptions
from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.response_columns import select_responses
from outspoken.batch.sources import BadRow, PromptRow, rows_of
from outspoken.engine import PromptResult, RunMetrics
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
    model: str | Model | None,
    n: int,
    ledger: Path | None,
    progress: Progress | None,
    options: CallOptions,
) -> tuple[list[Group], list[Cost], list[str]]:
    """Ask each prompt for `n` responses by each method.

    Returns a group of responses and its cost for each method, and sentences about failures. Raises `UsageError`
    for invalid arguments. If there is no response at all, raises the error of the first method.
    """
    rows = list[PromptRow]()
    for row in rows_of(prompts):
        if isinstance(row, BadRow):
            raise UsageError(f"{row.where}: {row.reason}")
        rows.append(row)
    if not rows:
        raise UsageError("there is no prompt to ask")
    groups, costs = [], []
    errors: dict[str, OutspokenError] = {}
    with nullcontext() if ledger is None else Ledger(ledger) as store:
        for method in methods:
            plan = RunPlan.make(model, None, {**options, "method": method, "n": n})
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
    method = METHODS[plan.settings.method]
    merged = method.conversation and method.candidates_per_request != "k"
    responses: list[Response] = []
    for call, index in select_responses(result.calls, plan.run.goal):
        candidate = call.distribution[index]
        values = candidate.text, candidate.probability, candidate.stated
        response = Response(*values, call.number, call.key_of(index))
        if merged:
            turns = call.distribution.provenance.k - call.distribution.missing
            responses += [replace(response, probability=None)] * round((response.probability or 0) * turns)
        else:
            responses.append(response)
    return tuple(responses)
