"""`outspoken experiment`: a grid of tasks, methods and models into a folder with a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outspoken.cli.common import (
    PARTLY,
    command,
    command_line,
    console,
    note,
    note_default,
    print_json,
    show_estimate,
    show_list,
)
from outspoken.cli.interrupts import run_interruptibly, run_or_exit
from outspoken.cli.options import DryRun, Json, Overwrite, Responses, Seed, several
from outspoken.errors import UsageError
from outspoken.io.signals import INTERRUPTED
from outspoken.io.text import plural
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.experiment.grid import Grid
    from outspoken.experiment.results import ExperimentResults
    from outspoken.experiment.runner import GridRun
    from outspoken.experiment.spec import ExperimentSpec

__all__ = ["experiment"]

# The table has the primary measure and the first of these that exist; the report has all measures.
_MEASURES = (
    "quality",
    "coverage",
    "kl_reference_shared",
    "semantic_diversity",
    "effective_size",
    "distinct_answers",
)
_ARM_WIDTH, _FIGURE_WIDTH, _MAX_MEASURES = 34, 21, 4


@command(quiet=True, offline=True)
def experiment(
    name: Annotated[
        str | None,
        typer.Argument(help="An experiment by name, or a file: ./mine.toml. Without a name: list them."),
    ] = None,
    models: Annotated[list[str] | None, typer.Option(help="Models; repeat the option or use commas.")] = None,
    tasks: Annotated[
        list[str] | None, typer.Option(help="Tasks, by name or as ./mine.toml; repeat the option or use commas.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option(help="Methods, or arms of the experiment; repeat the option or use commas.")
    ] = None,
    n: Responses = None,
    k: Annotated[int | None, typer.Option("-k", help="Candidates per call.")] = None,
    prompts: Annotated[int | None, typer.Option(help="Number of prompts of each task.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Use the published sizes, if any.")] = False,
    seed: Seed = None,
    data: Annotated[Path | None, typer.Option(help="A file of prompts, or of questions with answers.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Expected shares: a JSON file {answer: count}.")] = None,
    judge: Annotated[str | None, typer.Option(help="Model that judges the quality of the responses.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedding model, or none. Default: minilm.")] = None,
    recorded: Annotated[
        list[str] | None,
        typer.Option(
            help="Files of recorded responses, measured instead of asking; repeat the option or use commas."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: ./NAME-experiment.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Most requests at once.")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Ask, measure and compare, and write a report. The same command continues where it stopped.

    Example: outspoken experiment us-states
    """
    from outspoken.experiment.spec import load, names

    if name is None:
        specs = [load(each) for each in names()]
        show_list([{"name": each.name, "title": each.title, "about": each.about} for each in specs], as_json=json)
        return
    files = several(recorded, "--recorded")
    if files and dry_run:
        raise UsageError("--recorded sends no requests, so there is nothing to estimate: leave --dry-run out")
    spec = load(name)
    spec = (spec.fullsize() if full else spec).changed(
        methods=several(methods, "--methods"),
        models=several(models, "--models"),
        tasks=several(tasks, "--tasks"),
        n=n,
        k=k,
        prompts=prompts,
        seed=seed,
        data=None if data is None else str(data),
        reference=None if reference is None else str(reference),
        judge=judge,
        embedder=embedder,
    )
    from outspoken.experiment.api import default_folder

    folder = out or default_folder(spec)
    if files:
        _measure_recordings(spec, [Path(file) for file in files], folder, overwrite=overwrite, as_json=json)
        return
    from outspoken.experiment.analysis import check_measuring
    from outspoken.experiment.grid import Grid
    from outspoken.experiment.runner import estimate_grid

    grid = Grid.make(spec, concurrency=concurrency)
    check_measuring(grid.spec, grid.tasks)
    if dry_run:
        estimate = estimate_grid(grid, folder)
        show_estimate(estimate, plural(estimate.cells, "cell"), "price unknown", as_json=json)
        return
    if not spec.models:
        note_default()
    _run_grid(grid, folder, overwrite=overwrite, as_json=json)


def _run_grid(grid: Grid, folder: Path, *, overwrite: bool, as_json: bool) -> None:
    from outspoken.experiment.analysis import groups_of_grid
    from outspoken.experiment.api import measure_and_report
    from outspoken.experiment.runner import GridRun

    with GridRun(grid, folder, overwrite=overwrite) as running:
        cells = len(grid.cells)
        if running.finished_before is None:
            note(f"{plural(cells, 'cell')} into {folder}", style="dim")
        else:
            note(f"continuing in {folder}: finished cells: {running.finished_before} of {cells}")
        progress = _Progress(running)

        async def work() -> ExperimentResults | None:
            results = await running.run(progress.update)
            if not results:
                return None
            groups = groups_of_grid(grid.spec, results)
            return await measure_and_report(
                grid.spec,
                groups,
                folder,
                command=command_line(),
                problems=running.problems,
                progress=progress.update,
            )

        measured, interrupted = run_interruptibly(work, lambda: running.stop("interrupted"), progress.show)
    if measured is None or interrupted:
        note(f"stopped: all replies are kept in {folder}; the same command continues from there")
        raise typer.Exit(INTERRUPTED)
    _show_results(measured, folder, running.problems, as_json=as_json, running=running)
    if running.problems:
        raise typer.Exit(PARTLY)


def _measure_recordings(
    spec: ExperimentSpec, files: list[Path], folder: Path, *, overwrite: bool, as_json: bool
) -> None:
    from outspoken.experiment.api import Recordings

    with Recordings(spec, files, folder, overwrite=overwrite) as recordings:
        progress = _Progress()
        results = run_or_exit(
            lambda: recordings.measure(command=command_line(), progress=progress.update), progress.show
        )
    _show_results(results, folder, recordings.problems, as_json=as_json)


class _Progress:
    def __init__(self, running: GridRun | None = None) -> None:
        self._running = running
        self._step = ""

    def update(self, step: str, done: int, total: int) -> None:
        self._step = f"{step} {done:,}/{total:,}" if total else step

    async def show(self) -> None:
        """Show the progress until this is cancelled."""
        from outspoken.cli.progress import live

        await live(self._line, self._bar)

    def _line(self) -> str:
        from outspoken.cli.progress import figures

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
            parts += [f"{metrics.prompts:,}/{plural(len(cell.task.prompts), 'prompt')}", *figures(metrics)]
        return " · ".join(parts)

    def _bar(self) -> str:
        from outspoken.cli.progress import draw_bar

        running = self._running
        if running is None or running.cell is None:
            return ""
        return draw_bar(running.finished / len(running.grid.cells))


def _show_results(
    results: ExperimentResults,
    folder: Path,
    problems: Sequence[str],
    *,
    as_json: bool,
    running: GridRun | None = None,
) -> None:
    files = {"results": str(folder / "results.json"), "report": str(folder / "report.html")}
    if as_json:
        names = ("name", "primary", "quality", "baseline", "axis", "groups", "comparisons", "effects", "warnings")
        document = results.to_dict()
        counts = {} if running is None else {"requests": running.requests, "from_ledger": running.from_ledger}
        print_json({name: document[name] for name in names} | {"problems": list(problems)} | counts | files)
        return
    _show_figures(results)
    for effect in results.effects:
        console().print(effect.sentence, style="bold", soft_wrap=True)
    for line in results.warnings:
        note(f"  {line}", style="dim" if line not in problems else None)
    if running is not None:
        replies = f"{plural(running.from_ledger, 'reply')} from the ledger"
        note(f"{plural(running.requests, 'request')}, {replies}", style="dim")
    console().print(f"report: {files['report']} · figures: {files['results']}", soft_wrap=True)
    if problems and running is not None:
        note("all replies are kept; the same command asks for the missing ones")


def _show_figures(results: ExperimentResults) -> None:
    from outspoken.experiment.results_view import ResultsView
    from outspoken.report.format import NONE, count, with_interval

    view = ResultsView(results)
    most = max(1, min(_MAX_MEASURES, (console().width - _ARM_WIDTH) // _FIGURE_WIDTH))
    many_models = len({group.model for group in view.groups}) > 1
    for task in dict.fromkeys(group.task for group in view.groups):
        groups = [group for group in view.groups if group.task == task]
        names = dict.fromkeys((results.primary, *_MEASURES))
        shown = [name for name in names if any(group.measures.get(name) for group in groups)][:most]
        table = TextTable()
        table.add_column(task)
        if many_models:
            table.add_column("model")
        for name in shown:
            arrow = {"higher": " ↑", "lower": " ↓"}.get(view.measures[name].better, "")
            table.add_column(view.measures[name].title + arrow, right=True)
        table.add_column("tokens each", right=True)
        for group in groups:
            value = view.axis_value(group)
            figures = [view.figure(group, name) for name in shown]
            table.add_row(
                group.arm + ("" if value is None else f" {results.axis} {value}"),
                *([group.model] if many_models else []),
                *(NONE if one is None else with_interval(one.value, one.low, one.high) for one in figures),
                count(group.cost.per_response.tokens if group.cost else None),
            )
        console().print(table)
        console().print()
