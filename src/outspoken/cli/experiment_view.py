"""What `outspoken experiment` displays: its progress, the figures, an estimate, the list of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from outspoken.cli.common import console, note, print_json

if TYPE_CHECKING:
    from outspoken.experiment.results import ExperimentResults
    from outspoken.experiment.runner import GridEstimate, GridRun
    from outspoken.experiment.spec import ExperimentSpec

__all__ = ["ExperimentProgress", "show_estimate", "show_list", "show_progress", "show_results"]

# The table has the primary measure and the first of these that exist; the report has all.
_MEASURES = (
    "quality",
    "coverage",
    "kl_reference_shared",
    "semantic_diversity",
    "effective_size",
    "distinct_answers",
)
_ARM_WIDTH, _FIGURE_WIDTH, _MAX_MEASURES = 34, 21, 4


class ExperimentProgress:
    """The progress of an experiment: the cell that is being asked, or the step of the analysis."""

    def __init__(self, running: GridRun | None = None) -> None:
        self._running = running
        self._step = ""

    def update(self, step: str, done: int, total: int) -> None:
        self._step = f"{step} {done:,}/{total:,}" if total else step

    def line(self) -> str:
        running = self._running
        if running is None or running.cell is None:
            return self._step
        cell = running.cell
        parts = [
            f"cell {running.finished + 1}/{len(running.grid.cells)}",
            f"{cell.task.name}, {cell.arm.name}" + (f" at {cell.value}" if cell.value is not None else ""),
            *([cell.model.name] if len(running.grid.spec.models) > 1 else []),
        ]
        if (metrics := running.metrics) is not None:
            parts += [
                f"{metrics.prompts:,}/{len(cell.task.prompts):,} prompts",
                f"{metrics.requests:,} requests",
                f"{metrics.usage.total_tokens:,} tokens",
                *([f"{metrics.from_ledger:,} from the ledger"] if metrics.from_ledger else []),
                *([f"{metrics.failed:,} failed"] if metrics.failed else []),
            ]
        return " · ".join(parts)

    def bar(self) -> str:
        running = self._running
        if running is None or running.cell is None:
            return ""
        done = round(20 * running.finished / len(running.grid.cells))
        return "━" * done + "─" * (20 - done) + "  "


async def show_progress(progress: ExperimentProgress) -> None:
    """A live line in a terminal, elsewhere a line every few seconds; until it is cancelled."""
    from outspoken.cli.progress import live

    await live(progress.line, progress.bar)


def show_results(
    results: ExperimentResults,
    folder: Path,
    problems: Sequence[str],
    *,
    as_json: bool,
    running: GridRun | None = None,
) -> None:
    """The figures, the warnings, and the paths of the report and the results."""
    files = {"results": str(folder / "results.json"), "report": str(folder / "report.html")}
    if as_json:
        names = ("name", "primary", "quality", "baseline", "axis", "groups", "comparisons", "warnings")
        document = results.to_dict()
        counts = {} if running is None else {"requests": running.requests, "from_ledger": running.from_ledger}
        print_json({name: document[name] for name in names} | {"problems": list(problems)} | counts | files)
        return
    _show_figures(results)
    for line in results.warnings:
        note(f"  {line}", style="dim" if line not in problems else None)
    if running is not None:
        note(f"{running.requests:,} requests, {running.from_ledger:,} replies from the ledger", style="dim")
    console().print(f"report: {files['report']} · figures: {files['results']}", soft_wrap=True)
    if problems and running is not None:
        note("all replies are kept; the same command asks again for missing ones")


def _show_figures(results: ExperimentResults) -> None:
    from rich.table import Table

    from outspoken.experiment.results_view import ResultsView
    from outspoken.report.format import NONE, count, with_interval

    view = ResultsView(results)
    most = max(1, min(_MAX_MEASURES, (console().width - _ARM_WIDTH) // _FIGURE_WIDTH))
    several = len({group.model for group in view.groups}) > 1
    for task in dict.fromkeys(group.task for group in view.groups):
        groups = [group for group in view.groups if group.task == task]
        names = dict.fromkeys((results.primary, *_MEASURES))
        shown = [name for name in names if any(group.measures.get(name) for group in groups)][:most]
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column(task, no_wrap=True)
        if several:
            table.add_column("model", overflow="fold")
        for name in shown:
            arrow = {"higher": " ↑", "lower": " ↓"}.get(view.measures[name].better, "")
            table.add_column(view.measures[name].title + arrow, justify="right", no_wrap=True)
        table.add_column("tokens each", justify="right", no_wrap=True)
        for group in groups:
            value = view.axis_value(group)
            figures = [view.figure(group, name) for name in shown]
            table.add_row(
                group.arm + ("" if value is None else f" {results.axis} {value}"),
                *([group.model] if several else []),
                *(NONE if one is None else with_interval(one.value, one.low, one.high) for one in figures),
                count(group.cost.per_response.tokens if group.cost else None),
            )
        console().print(table)
        console().print()


def show_estimate(estimate: GridEstimate, *, as_json: bool) -> None:
    """The estimate and its assumptions."""
    from outspoken.report.format import dollars

    if as_json:
        print_json(estimate.to_dict())
        return
    cost = "price unknown" if estimate.usd is None else dollars(estimate.usd)
    screen = console()
    screen.print(
        f"{estimate.cells:,} cells · about {estimate.requests:,} requests "
        f"({estimate.from_ledger:,} more are in the ledger) · about {estimate.tokens:,} tokens · {cost}",
        soft_wrap=True,
    )
    for line in estimate.assumptions:
        screen.print(f"  {line}", style="dim", soft_wrap=True)


def show_list(experiments: Sequence[ExperimentSpec], *, as_json: bool) -> None:
    """The experiments that ship with the package."""
    if as_json:
        print_json([{"name": each.name, "title": each.title, "about": each.about} for each in experiments])
        return
    for each in experiments:
        console().print(f"{each.name:<12} {each.title}: {each.about}", soft_wrap=True)
