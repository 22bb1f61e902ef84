"""Requests of steps that ask a model: batch runs on files, with all replies in the ledger."""

from __future__ import annotations

import filecmp
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from outspoken.batch.failures import FailureRecord
from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.output import Overwrite
from outspoken.batch.plan import RunPlan
from outspoken.batch.settings import RunSettings
from outspoken.chat_reply import Usage
from outspoken.engine import RunMetrics
from outspoken.engine.concurrency import in_thread
from outspoken.io.atomic import output_errors, write_bytes, write_file
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import json_bytes, plural
from outspoken.settings import Settings
from outspoken.synth.steps.base import Step, StepCost

if TYPE_CHECKING:
    from outspoken.batch.ray.driver import RayRun

__all__ = ["ASKING", "BatchRequests", "PromptLine"]

_SET_BY_STEPS = ("n", "until_distinct", "max_calls", "on_short")
ASKING = tuple(
    entry.name for kind in (Settings, RunSettings) for entry in fields(kind) if entry.name not in _SET_BY_STEPS
)
"""The settings of a batch run that a step accepts beside its own options."""

_BUDGETS = {"budget_tokens": "{:,} tokens", "budget_usd": "{:g} US dollars", "max_seconds": "{:g} s"}
_MAX_PROBLEMS = 5


class PromptLine(TypedDict):
    """A line of a file of prompts. `draw` distinguishes prompts of the same text."""

    id: str
    prompt: str | list[dict[str, str]]
    draw: int
    topic: NotRequired[str]
    persona: NotRequired[str]


class BatchRequests:
    """All requests of one step, in one or several batch runs under one budget.

    `spent` is the cost of its replies, also of those from earlier executions. `stopped` says why some prompts were
    not asked ("" if all were). `failed` holds the ids of prompts with a transient failure, `problems` the first
    failures for the user.
    """

    def __init__(self, step: Step) -> None:
        self.spent = StepCost()
        self.stopped = ""
        self.failed: set[str] = set()
        self._problems: dict[str, None] = {}
        self._step = step
        self._started = time.monotonic()

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)[:_MAX_PROBLEMS]

    @property
    def partly(self) -> str:
        """Why the step is not finished, "" if it is."""
        if self.stopped or not self.failed:
            return self.stopped
        return f"{plural(len(self.failed), 'request')} failed: the same command tries again"

    async def ask(self, name: str, prompts: Iterable[PromptLine], plan: RunPlan) -> Path:
        """Ask `prompts` and write the responses to the file `name` in the step's folder; returns its path.

        Replies in the ledger are not asked for again, and a finished file stays as it is. There is no file if the
        run was stopped before the first response. Raises the error of the run if no prompt gets a response.
        """
        step = self._step
        folder = step.folder / step.name
        with output_errors(folder):
            folder.mkdir(0o700, parents=True, exist_ok=True)
        source, out, costs = folder / f"{name}.prompts.jsonl", folder / f"{name}.parquet", folder / f"{name}.json"
        changed = await in_thread(partial(_write_prompts, source, prompts))
        earlier = _RecordedCost() if changed else _RecordedCost.read(costs)
        remaining, self.stopped = _within_budget(plan, self.spent + earlier, time.monotonic() - self._started)
        if self.stopped:
            self.spent += earlier
            return out
        # Responses to other prompts or with other settings are replaced.
        run = self._run_of(source, out, remaining, True if changed else "changed")
        step.progress.running = run
        if step.progress.stopped:
            run.stop(step.progress.stopped)
        _RecordedCost(**asdict(earlier) | {"complete": False}).write(costs)
        try:
            await run.run()
        finally:
            step.progress.running = None
            summary = run.summary()
            run.close()
            spent = _total_cost(earlier, run.metrics, plan)
            _RecordedCost(**asdict(spent) | {"failures": summary.failures, "complete": True}).write(costs)
        self.spent += spent
        self.stopped = _name_budget_of(plan, summary.stopped)
        self._problems |= dict.fromkeys(f"{failed.where}: {failed.message}" for failed in summary.first_failures)
        if summary.failures_file is not None and summary.transient_failures:
            with Path(summary.failures_file).open(encoding="utf-8") as file:
                self.failed |= {failed.id for failed in map(FailureRecord.from_json, file) if failed.transient}
        return out

    def _run_of(self, source: Path, out: Path, plan: RunPlan, overwrite: Overwrite) -> FileRun | RayRun:
        engine = self._step.engine
        if engine.kind == "local":
            return FileRun(BatchJob(source, out, plan, self._step.ledger, overwrite, draw_column="draw"))
        from outspoken.batch.ray.driver import RayRun

        job = BatchJob(source, out, plan, None, overwrite, draw_column="draw")
        return RayRun(job, address=engine.address, workers=engine.workers)


def _write_prompts(path: Path, prompts: Iterable[PromptLine], check: Callable[[], None]) -> bool:
    """Write the prompts, with a `check` before each; whether the file changed."""

    def lines() -> Iterator[bytes]:
        for prompt in prompts:
            check()
            yield json_bytes(prompt) + b"\n"

    fresh = path.with_name(path.name + ".new")
    write_file(fresh, lambda file: file.writelines(lines()))
    changed = path.is_file() and not filecmp.cmp(path, fresh, shallow=False)
    fresh.replace(path)
    return changed


def _within_budget(plan: RunPlan, spent: StepCost, seconds: float) -> tuple[RunPlan, str]:
    """The plan with the rest of its budget, and a sentence about a budget that is used up ("" if none is)."""
    remaining: dict[str, Any] = {}
    for (name, unit), used in zip(_BUDGETS.items(), (spent.tokens, spent.usd or 0.0, seconds), strict=True):
        budget = getattr(plan.run, name)
        if budget is not None and used >= budget:
            return plan, f"the budget of {unit.format(budget)} is used up"
        if budget is not None:
            remaining[name] = budget - used
    return replace(plan, run=replace(plan.run, **remaining)), ""


def _name_budget_of(plan: RunPlan, stopped: str) -> str:
    """Why the run stopped, with the budget of the spec instead of the rest that the run had."""
    if stopped.startswith("the time of"):
        return f"the time of {plan.run.max_seconds:g} s is used up"
    for name, unit in _BUDGETS.items():
        if stopped.startswith("the budget of") and f"{unit.split()[-1]} does not" in stopped:
            budget = unit.format(getattr(plan.run, name))
            return f"the budget of {budget} does not suffice for another request"
    return stopped


@dataclass(frozen=True, slots=True)
class _RecordedCost(StepCost):
    """The cost of a file of responses, in a small file beside it.

    During a run, and after one that was killed, it is not `complete`: some of the cost is missing.
    """

    complete: bool = field(default=False, metadata={"key": "whole"})

    @classmethod
    def read(cls, path: Path) -> _RecordedCost:
        try:
            return from_json(cls, json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return cls()

    def write(self, path: Path) -> None:
        write_bytes(path, json.dumps(to_json(self)).encode())


def _total_cost(earlier: _RecordedCost, metrics: RunMetrics, plan: RunPlan) -> StepCost:
    """The cost of a file of responses: that of this execution and of `earlier` ones.

    If the earlier cost is incomplete, the replies from the ledger count instead if they are more.
    """

    def cost(requests: int, from_ledger: int, usage: Usage) -> StepCost:
        usd = None if plan.price is None else plan.price.cost(usage)
        return StepCost(requests, from_ledger, usage.total_tokens, usd)

    before: StepCost = earlier
    if not earlier.complete and metrics.from_ledger > earlier.requests:
        before = cost(metrics.from_ledger, metrics.from_ledger, metrics.usage_from_ledger)
    return before + cost(metrics.requests, 0, metrics.usage)
