"""What `outspoken experiment` shows: how it is going, the figures in the end, an estimate, the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outspoken.cli.common import console, note, print_json

if TYPE_CHECKING:
    from outspoken.experiment.runner import GridRun
    from outspoken.experiment.spec import ExperimentSpec

__all__ = ["ExperimentProgress", "show", "show_estimate", "show_list", "show_results"]

# Of these, the first few that there are stand in the table; all of them are in the report.
_MEASURES = (
    "quality",
    "coverage",
    "kl_reference_shared",
    "semantic_diversity",
    "effective_size",
    "distinct_answers",
)
_ARM_WIDTH, _FIGURE_WIDTH, _MOST_MEASURES = 34, 21, 4


class ExperimentProgress:
    """How it is going: which cell is at work, or which step of the analysis."""

    def __init__(self, running: GridRun | None) -> None:
        self._running = running
        self._step = ""

    def step(self, what: str, done: int, total: int) -> None:
        self._step = f"{what} {done:,}/{total:,}" if total else what

    def line(self) -> str:
        running = self._running
        if running is None or running.cell is None:
            return self._step
        cell, at_work = running.cell, running.running
        parts = [
            f"cell {running.finished + 1}/{len(running.grid.cells)}",
            f"{cell.task.name}, {cell.arm.name}" + (f" at {cell.value}" if cell.value is not None else ""),
            *([cell.model.name] if len(running.grid.spec.models) > 1 else []),
        ]
        if at_work is not None:
            meter = at_work.meter
            parts += [
                f"{meter.prompts:,}/{len(cell.task.prompts):,} prompts",
                f"{meter.requests:,} requests",
                f"{meter.usage.total_tokens:,} tokens",
                *([f"{meter.from_ledger:,} from the ledger"] if meter.from_ledger else []),
                *([f"{meter.failed:,} failed"] if meter.failed else []),
            ]
        return " · ".join(parts)

    def bar(self) -> str:
        running = self._running
        if running is None or running.cell is None:
            return ""
        done = round(20 * running.finished / len(running.grid.cells))
        return "━" * done + "─" * (20 - done) + "  "


async def show(watch: ExperimentProgress) -> None:
    """A live line in a terminal, a plain line every few seconds elsewhere; until it is cancelled."""
    from outspoken.cli.progress import live

    await live(watch.line, watch.bar)


def show_results(
    document: dict[str, Any],
    folder: Path,
    problems: Sequence[str],
    *,
    as_json: bool,
    running: GridRun | None = None,
) -> None:
    """The figures, what is to be said of them, and where the report is."""
    if as_json:
        names = ("name", "primary", "quality", "baseline", "axis", "groups", "comparisons", "warnings")
        counts = {} if running is None else {"requests": running.requests, "from_ledger": running.from_ledger}
        where = {"results": str(folder / "results.json"), "report": str(folder / "report.html")}
        print_json({each: document[each] for each in names} | {"problems": list(problems)} | counts | where)
        return
    _table(document)
    for line in document["warnings"]:
        note(f"  {line}", style="dim" if line not in problems else None)
    if running is not None:
        note(f"{running.requests:,} requests, {running.from_ledger:,} replies from the ledger", style="dim")
    console().print(f"report: {folder / 'report.html'} · figures: {folder / 'results.json'}", soft_wrap=True)
    if problems and running is not None:
        note("what was done is kept; the same command asks again for what is missing")


def _table(document: dict[str, Any]) -> None:
    from rich.table import Table

    measures = {measure["name"]: measure for measure in document["measures"]}
    most = max(1, min(_MOST_MEASURES, (console().width - _ARM_WIDTH) // _FIGURE_WIDTH))
    several = len({group["model"] for group in document["groups"]}) > 1
    for task in dict.fromkeys(group["task"] for group in document["groups"]):
        groups = [group for group in document["groups"] if group["task"] == task]
        names = dict.fromkeys((document["primary"], *_MEASURES))
        shown = [name for name in names if any(group["measures"].get(name) for group in groups)][:most]
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column(task, no_wrap=True)
        if several:
            table.add_column("model", overflow="fold")
        for name in shown:
            arrow = {"higher": " ↑", "lower": " ↓"}.get(measures[name]["better"], "")
            table.add_column(measures[name]["title"] + arrow, justify="right", no_wrap=True)
        table.add_column("tokens each", justify="right", no_wrap=True)
        for group in groups:
            at = group["settings"].get(document["axis"])
            cost = (group["cost"] or {}).get("per_response", {}).get("tokens")
            table.add_row(
                group["arm"] + ("" if at is None else f" {document['axis']} {at}"),
                *([group["model"]] if several else []),
                *(_figure(group["measures"].get(name), measures[name]["scale"]) for name in shown),
                "–" if cost is None else f"{cost:,.0f}",
            )
        console().print(table)
        console().print()


def _figure(estimate: dict[str, Any] | None, scale: float) -> str:
    if not estimate or estimate["value"] is None:
        return "–"
    value = _number(estimate["value"] * scale)
    if estimate["low"] is None or estimate["high"] is None:
        return value
    return f"{value} [{_number(estimate['low'] * scale)}, {_number(estimate['high'] * scale)}]"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def show_estimate(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    cost = "price unknown" if found["usd"] is None else f"${found['usd']:,.2f}"
    screen = console()
    screen.print(
        f"{found['cells']:,} cells · about {found['requests']:,} requests "
        f"({found['from_ledger']:,} more are in the ledger) · about {found['tokens']:,} tokens · {cost}",
        soft_wrap=True,
    )
    for line in found["assumptions"]:
        screen.print(f"  {line}", style="dim", soft_wrap=True)


def show_list(shipped: Sequence[ExperimentSpec], *, as_json: bool) -> None:
    """The experiments that ship with the package."""
    if as_json:
        print_json([{"name": each.name, "title": each.title, "about": each.about} for each in shipped])
        return
    for each in shipped:
        console().print(f"{each.name:<12} {each.title}: {each.about}", soft_wrap=True)
