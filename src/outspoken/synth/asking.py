"""Steps that ask a model do it as `outspoken run` does: prompts and responses in files, replies in the ledger."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from outspoken.errors import OutspokenError, UsageError
from outspoken.jobs.atomic import replace
from outspoken.jobs.job import FileRun, Job
from outspoken.jobs.options import RunSettings
from outspoken.jobs.runner import Plan
from outspoken.settings import Settings
from outspoken.synth.step import Step

__all__ = ["ASKING", "Asked", "Spent", "ask"]

_OF_THE_STEP = ("n", "until_distinct", "max_calls", "on_short")
ASKING = tuple(
    entry.name for kind in (Settings, RunSettings) for entry in fields(kind) if entry.name not in _OF_THE_STEP
)
"""The settings of a run that a step takes beside its own options."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What replies took, whenever they were paid for: `from_ledger` of the `requests` were there before."""

    requests: int = 0
    from_ledger: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    failures: int = 0

    def __add__(self, other: Spent) -> Spent:
        known = self.usd is not None and other.usd is not None
        return Spent(
            self.requests + other.requests,
            self.from_ledger + other.from_ledger,
            self.tokens + other.tokens,
            (self.usd or 0) + (other.usd or 0) if known else None,
            self.failures + other.failures,
        )

    def to_dict(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, slots=True)
class Asked:
    """The file of the responses, what they took, why not all came ("" where all did), and the first failures."""

    path: Path
    spent: Spent
    stopped: str = ""
    problems: tuple[str, ...] = ()


async def ask(step: Step, name: str, prompts: Iterable[Mapping[str, Any]], plan: Plan) -> Asked:
    """Ask `prompts` (rows with `prompt`, `id` and `draw`) and write the responses to the step's folder as `name`.

    What the ledger holds is not asked again; a file that is whole is not even read. Raises what `run` raises where
    nothing at all comes.
    """
    folder = step.folder / step.name
    folder.mkdir(parents=True, exist_ok=True)
    source, out, told = folder / f"{name}.prompts.jsonl", folder / f"{name}.parquet", folder / f"{name}.json"
    changed = _write(source, prompts)
    over_ray = step.engine.kind == "ray"
    job = Job(
        source,
        out,
        plan,
        None if over_ray else step.ledger,
        resume=not changed,
        overwrite=changed,
        draw_column="draw",
    )
    running: Any
    if over_ray:
        from outspoken.jobs.over_ray import RayRun

        running = RayRun(job, address=step.engine.address, workers=step.engine.workers)
    else:
        running = FileRun(job)
    step.watch.running = running
    if step.watch.stopped:
        running.stop(step.watch.stopped)
    failed: OutspokenError | None = None
    try:
        summary = await running.run()
    except UsageError:
        raise
    except OutspokenError as error:
        failed, summary = error, running.summary()
    finally:
        step.watch.running = None
        running.close()
    spent = _added(told, summary, running.meter, plan, anew=changed)
    if failed is not None:
        raise failed
    problems = [f"{failure['where']}: {failure['message']}" for failure in summary["first_failures"]]
    return Asked(out, spent, summary["stopped"], tuple(problems))


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Write the prompts; whether that changed a file that was there."""
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" for row in rows)
    fresh = path.with_name(path.name + ".new")
    replace(fresh, lambda file: file.writelines(lines))
    changed = path.is_file() and not filecmp.cmp(path, fresh, shallow=False)
    fresh.replace(path)
    return changed


def _added(told: Path, summary: Mapping[str, Any], meter: Any, plan: Plan, *, anew: bool) -> Spent:
    """What these responses took in this execution and in those before it, which is kept in a file beside them.

    Replies that the ledger held count where no execution has told of them: it was killed.
    """
    price = plan.price
    before = None
    if told.is_file() and not anew:
        before = Spent(**json.loads(told.read_bytes()))
    from_ledger = meter.from_ledger if before is None else 0
    tokens = meter.usage.total_tokens + (meter.usage_from_ledger.total_tokens if before is None else 0)
    usd = None
    if price is not None:
        usd = price.cost(meter.usage) + (price.cost(meter.usage_from_ledger) if before is None else 0.0)
    spent = (before or Spent()) + Spent(meter.requests + from_ledger, from_ledger, tokens, usd)
    spent = Spent(**{**spent.to_dict(), "failures": summary["failures"]})
    replace(told, lambda file: file.write(json.dumps(spent.to_dict()).encode()))
    return spent
