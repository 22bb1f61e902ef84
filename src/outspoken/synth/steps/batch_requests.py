"""Steps that ask a model do it as `outspoken run` does: prompts and responses in files, replies in the ledger."""

from __future__ import annotations

import asyncio
import filecmp
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.plan import RunPlan
from outspoken.batch.settings import RunSettings
from outspoken.errors import OutspokenError, StoppedError, UsageError
from outspoken.io import atomic
from outspoken.settings import Settings
from outspoken.synth.steps.base import Step

__all__ = ["ASKING", "BatchRequests", "StepCost"]

_OF_THE_STEP = ("n", "until_distinct", "max_calls", "on_short")
ASKING = tuple(
    entry.name for kind in (Settings, RunSettings) for entry in fields(kind) if entry.name not in _OF_THE_STEP
)
"""The settings of a run that a step takes beside its own options."""

_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class StepCost:
    """What replies took, whenever they were paid for: `from_ledger` of the `requests` were there before."""

    requests: int = 0
    from_ledger: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    failures: int = 0

    def __add__(self, other: StepCost) -> StepCost:
        known = self.usd is not None and other.usd is not None
        return StepCost(
            self.requests + other.requests,
            self.from_ledger + other.from_ledger,
            self.tokens + other.tokens,
            (self.usd or 0) + (other.usd or 0) if known else None,
            self.failures + other.failures,
        )


class BatchRequests:
    """All that one step asks, in one or several runs under one budget.

    `spent` is what its replies took, in earlier executions too; `stopped` why not all were asked ("" where all
    were), `failed` the ids of prompts whose request failed and may go well another time, `problems` the first
    failures for people.
    """

    def __init__(self, step: Step) -> None:
        self.spent = StepCost()
        self.stopped = ""
        self.failed: set[str] = set()
        self._problems: dict[str, None] = {}
        self._step = step
        self._begun = time.monotonic()

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)[:_PROBLEMS]

    @property
    def partly(self) -> str:
        """Why the step is not finished, "" where it is."""
        if self.stopped or not self.failed:
            return self.stopped
        return f"{len(self.failed):,} requests failed: the same command makes them again"

    async def ask(self, name: str, prompts: Iterable[Mapping[str, Any]], plan: RunPlan) -> Path:
        """Ask `prompts` (rows with `prompt`, `id`, `draw`) and write the responses to the step's folder as `name`.

        What the ledger holds is not asked again; a file that is whole is not even read. The file may be missing
        where nothing came before it was stopped. Raises what `run` raises where nothing at all comes.
        """
        step = self._step
        folder = step.folder / step.name
        with atomic.output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        source, out, told = folder / f"{name}.prompts.jsonl", folder / f"{name}.parquet", folder / f"{name}.json"
        changed = await _written(source, prompts)
        before, told_all = (StepCost(), False) if changed else _earlier(told)
        left, self.stopped = _within(plan, self.spent + before, time.monotonic() - self._begun)
        if self.stopped:
            self.spent += before
            return out
        over_ray = step.engine.kind == "ray"
        job = BatchJob(
            source,
            out,
            left,
            None if over_ray else step.ledger,
            resume=not changed,
            overwrite=changed,
            draw_column="draw",
        )
        running: Any
        if over_ray:
            from outspoken.batch.ray.driver import RayRun

            running = RayRun(job, address=step.engine.address, workers=step.engine.workers)
        else:
            running = FileRun(job)
        step.watch.running = running
        if step.watch.stopped:
            running.stop(step.watch.stopped)
        _tell(told, before, whole=False)
        failed: OutspokenError | None = None
        try:
            await running.run()
        except UsageError:
            raise
        except OutspokenError as error:
            failed = error
        finally:
            step.watch.running = None
            summary = running.summary()
            running.close()
            spent = _added(before, running.meter, plan, told_all=told_all)
            _tell(told, replace(spent, failures=summary["failures"]), whole=True)
        if failed is not None:
            raise failed
        self.spent += spent
        self.stopped = _of_the_spec(summary["stopped"], plan)
        self._look(summary)
        return out

    def _look(self, summary: Mapping[str, Any]) -> None:
        """Take note of what failed."""
        lines = [f"{failure['where']}: {failure['message']}" for failure in summary["first_failures"]]
        self._problems |= dict.fromkeys(lines)
        if summary["passing_failures"]:
            with Path(summary["failures_file"]).open(encoding="utf-8") as file:
                self.failed |= {failure["id"] for failure in map(json.loads, file) if failure["passing"]}


async def _written(path: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """`_write` beside the event loop; cancelled, it ends at the next row."""
    ended = threading.Event()

    def some() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            if ended.is_set():
                raise StoppedError("stopped while the prompts were written")
            yield row

    try:
        return await asyncio.to_thread(_write, path, some())
    finally:
        ended.set()


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Write the prompts; whether that changed a file that was there."""
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" for row in rows)
    fresh = path.with_name(path.name + ".new")
    atomic.write_file(fresh, lambda file: file.writelines(lines))
    changed = path.is_file() and not filecmp.cmp(path, fresh, shallow=False)
    fresh.replace(path)
    return changed


def _within(plan: RunPlan, spent: StepCost, seconds: float) -> tuple[RunPlan, str]:
    """The plan with what is left of its budget, and why nothing is ("" where something is)."""
    run = plan.run
    budgets = (
        ("budget_tokens", spent.tokens, "{:,} tokens"),
        ("budget_usd", spent.usd or 0.0, "{:g} US dollars"),
        ("max_seconds", seconds, "{:g} s"),
    )
    left: dict[str, Any] = {}
    for name, used, told in budgets:
        wanted = getattr(run, name)
        if wanted is None:
            continue
        if used >= wanted:
            return plan, f"the budget of {told.format(wanted)} is used up"
        left[name] = wanted - used
    return replace(plan, run=replace(run, **left)), ""


def _of_the_spec(stopped: str, plan: RunPlan) -> str:
    """Why it stopped, with the budget that the spec gives: the run had only what was left of it."""
    run = plan.run
    for mark, told in (
        ("tokens is", f"{run.budget_tokens or 0:,} tokens"),
        ("dollars is", f"{run.budget_usd or 0:g} US dollars"),
    ):
        if stopped.startswith("the budget of") and mark in stopped:
            return f"the budget of {told} is used up"
    return f"the time of {run.max_seconds:g} s is used up" if stopped.startswith("the time of") else stopped


def _earlier(told: Path) -> tuple[StepCost, bool]:
    """What earlier executions spent, and whether that is all: one that was killed had no time to tell."""
    try:
        known = json.loads(told.read_bytes())
        whole = bool(known.pop("whole"))
        return StepCost(**known), whole
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return StepCost(), False


def _tell(told: Path, spent: StepCost, *, whole: bool) -> None:
    atomic.write_file(told, lambda file: file.write(json.dumps({**asdict(spent), "whole": whole}).encode()))


def _added(before: StepCost, meter: Any, plan: RunPlan, *, told_all: bool) -> StepCost:
    """What these responses took in this execution and in those `before` it.

    Where they did not tell all, what the ledger held counts in the place of what they told, if that is more.
    """
    price = plan.price
    if not told_all and meter.from_ledger > before.requests:
        usd = None if price is None else price.cost(meter.usage_from_ledger)
        before = StepCost(meter.from_ledger, meter.from_ledger, meter.usage_from_ledger.total_tokens, usd)
    usd = None if price is None else price.cost(meter.usage)
    return before + StepCost(meter.requests, 0, meter.usage.total_tokens, usd)
