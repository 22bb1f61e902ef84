"""`outspoken experiment`: a grid of tasks, methods and models into a folder with a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outspoken.cli.common import command, note, note_default
from outspoken.cli.experiment_view import ExperimentProgress, show_estimate, show_list, show_progress, show_results
from outspoken.cli.interrupts import INTERRUPTED, run_interruptibly
from outspoken.cli.options import Debug, DryRun, Json, Offline, Overwrite, Quiet, Responses, Seed, several
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.experiment.grid import Grid
    from outspoken.experiment.results import ExperimentResults
    from outspoken.experiment.spec import ExperimentSpec

__all__ = ["experiment"]

_PARTLY = 3


@command
def experiment(
    name: Annotated[
        str | None,
        typer.Argument(help="An experiment by name, or a file: ./mine.toml. Without a name: list them."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="Models to evaluate: repeat the option, or separate them by commas."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks", help="Tasks, by name or as ./mine.toml: repeat the option, or separate by commas."
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            help="Methods, or arms of the experiment: repeat the option, or separate them by commas.",
        ),
    ] = None,
    n: Responses = None,
    k: Annotated[int | None, typer.Option("-k", help="Candidates per call.")] = None,
    prompts: Annotated[int | None, typer.Option(help="Number of prompts of each task.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Use the published sizes, if the experiment has them.")
    ] = False,
    seed: Seed = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of prompts, or of questions with their answers.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The shares that the answers ought to have: a JSON file {answer: count}.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Model that judges the quality of the responses.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedding model, or none. Default: minilm.")] = None,
    recorded: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure these files of recorded responses to the task, and ask nothing: repeat the option, or "
            "separate them by commas."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: ./NAME-experiment.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Most requests at once.")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Ask, measure and compare, and write a report. The same command continues where it stopped.

    Example: outspoken experiment us-states
    """
    from outspoken.experiment.spec import load, names

    if name is None:
        show_list([load(each) for each in names()], as_json=json)
        return
    files = several(recorded, "--recorded")
    if files and dry_run:
        raise UsageError("--recorded asks nothing, so there is nothing to estimate: leave --dry-run out")
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
        show_estimate(estimate_grid(grid, folder), as_json=json)
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
            note(f"{cells} cells into {folder}", style="dim")
        else:
            note(f"continuing in {folder}: {running.finished_before} of {cells} cells are finished")
        progress = ExperimentProgress(running)

        async def work() -> ExperimentResults | None:
            results = await running.run(progress.update)
            if not results:
                return None
            groups = groups_of_grid(grid.spec, results)
            return await measure_and_report(
                grid.spec,
                groups,
                folder,
                command=_command(),
                problems=running.problems,
                progress=progress.update,
            )

        measured, interrupted = run_interruptibly(
            work, lambda: running.stop("interrupted"), lambda: show_progress(progress)
        )
    if measured is None or interrupted:
        note(f"stopped: all replies are kept in {folder}; the same command continues from there")
        raise typer.Exit(INTERRUPTED)
    show_results(measured, folder, running.problems, as_json=as_json, running=running)
    if running.problems:
        raise typer.Exit(_PARTLY)


def _measure_recordings(
    spec: ExperimentSpec, files: list[Path], folder: Path, *, overwrite: bool, as_json: bool
) -> None:
    from outspoken.experiment.api import Recordings

    with Recordings(spec, files, folder, overwrite=overwrite) as recordings:
        progress = ExperimentProgress()
        results, _ = run_interruptibly(
            lambda: recordings.measure(command=_command(), progress=progress.update),
            lambda: False,
            lambda: show_progress(progress),
        )
    if results is None:
        note("interrupted")
        raise typer.Exit(INTERRUPTED)
    show_results(results, folder, recordings.problems, as_json=as_json)


def _command() -> str:
    return shlex.join(["outspoken", *sys.argv[1:]])
