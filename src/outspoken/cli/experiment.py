"""`outspoken experiment`: a grid of tasks, methods and models into a folder with a report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outspoken.cli.common import command, note, note_default
from outspoken.cli.experiment_view import ExperimentProgress, show, show_estimate, show_list, show_results
from outspoken.cli.interrupts import signals
from outspoken.cli.options import Debug, Json, Offline
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.experiment.grid import Grid
    from outspoken.experiment.results import ArmResponses
    from outspoken.experiment.runner import GridRun
    from outspoken.experiment.spec import ExperimentSpec

__all__ = ["experiment"]

T = TypeVar("T")

_PARTLY, _INTERRUPTED = 3, 130


@command
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="The name of an experiment, or a file: ./mine.toml. Without: list them.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to ask; may be given several times.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task, by name or as ./mine.toml; may be given several times.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "--arm", "-m", help="A method, or an arm of the experiment; several times."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Responses for each prompt.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="Candidates of one call.")] = None,
    prompts: Annotated[int | None, typer.Option(help="How many prompts of each task.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The published sizes, where the experiment has them.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the models' sampling and of the statistics.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of prompts, or of questions with their answers.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="What the answers ought to be: {answer: count}.")] = None,
    judge: Annotated[str | None, typer.Option(help="The model that judges quality.")] = None,
    embedder: Annotated[str | None, typer.Option(help="What embeds the texts; or none. Default: minilm.")] = None,
    recorded: Annotated[
        list[Path] | None, typer.Option(help="Measure these recorded responses to --task, and ask nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of it all. Default: ./NAME-experiment.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Most requests at once.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where it stopped; this is what happens anyway.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an experiment that asked otherwise, in the same folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate requests, tokens and cost; ask nothing, write nothing.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Ask, measure and compare, with a report at the end; the same command goes on where it stopped.

    Example: outspoken experiment us-states
    """
    if name is None:
        from outspoken.experiment.spec import load, names

        show_list([load(each) for each in names()], as_json=json)
        return
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other: say one of them")
    if recorded and dry_run:
        raise UsageError("--recorded asks nothing, so there is nothing to estimate: leave --dry-run out")
    from outspoken.experiment import results
    from outspoken.experiment.grid import Grid
    from outspoken.experiment.runner import estimate_grid
    from outspoken.experiment.spec import load

    spec = load(name)
    spec = (spec.fullsize() if full else spec).changed(
        methods=method or (),
        models=tuple(model or ()),
        tasks=tuple(task or ()),
        n=n,
        k=k,
        prompts=prompts,
        seed=seed,
        data=None if data is None else str(data),
        reference=None if reference is None else str(reference),
        judge=judge,
        embedder=embedder,
    )
    folder = out or Path(f"{spec.name}-experiment")
    if recorded:
        subjects, problems = _recorded(spec, recorded, folder, overwrite=overwrite)
        document, _ = _in_loop(lambda watch: _conclude(spec, subjects, folder, problems, watch), None)
        if document is None:
            note("interrupted")
            raise typer.Exit(_INTERRUPTED)
        show_results(document, folder, problems, as_json=json)
        return
    grid = Grid.make(spec, concurrency=concurrency)
    results.check_measuring(grid.spec, grid.tasks)
    if dry_run:
        show_estimate(estimate_grid(grid, folder), as_json=json)
        return
    _run(grid, folder, overwrite=overwrite, as_json=json, model_named=bool(model or spec.models))


def _run(grid: Grid, folder: Path, *, overwrite: bool, as_json: bool, model_named: bool) -> None:
    from outspoken.experiment import results
    from outspoken.experiment.runner import GridRun

    if not model_named:
        note_default()
    running = GridRun(grid, folder, overwrite=overwrite)
    note(f"{len(grid.cells)} cells into {folder}", style="dim")

    async def work(watch: ExperimentProgress) -> dict[str, Any] | None:
        came = await running.run(watch.step)
        if not came:
            return None
        subjects = results.groups_of_grid(grid.spec, came)
        return await _conclude(grid.spec, subjects, folder, running.problems, watch)

    document, interrupted = _in_loop(work, running)
    if document is None or interrupted:
        note(f"stopped: what was done is kept in {folder}; the same command goes on from there")
        raise typer.Exit(_INTERRUPTED)
    show_results(document, folder, running.problems, as_json=as_json, running=running)
    if running.problems:
        raise typer.Exit(_PARTLY)


def _recorded(
    spec: ExperimentSpec, files: list[Path], folder: Path, *, overwrite: bool
) -> tuple[list[ArmResponses], tuple[str, ...]]:
    from dataclasses import replace

    from outspoken.experiment import results
    from outspoken.experiment.grid import tasks_of
    from outspoken.experiment.runner import claim_folder

    tasks = tasks_of(replace(spec, prompts=None))  # how many to ask says nothing of what was recorded
    if len(tasks) != 1:
        raise UsageError("recorded responses belong to one task: say which with --task")
    results.check_measuring(spec, tasks)
    subjects, problems = results.groups_of_recordings(tasks[0], files)
    asked = {"recorded": [str(file.resolve()) for file in files], "tasks": [tasks[0].name]}
    claim_folder(folder, asked, overwrite=overwrite)
    return subjects, problems


async def _conclude(
    spec: ExperimentSpec, subjects: list[ArmResponses], folder: Path, problems: Any, watch: ExperimentProgress
) -> dict[str, Any]:
    """Measure, and write the results and the report."""
    import asyncio
    import shlex
    import sys

    from outspoken.experiment import report, results

    said = shlex.join(["outspoken", *sys.argv[1:]])
    document = await results.measure_groups(
        spec, subjects, folder, command=said, problems=problems, progress=watch.step
    )
    results.write(document, folder)
    watch.step("drawing the report", 0, 0)
    await asyncio.to_thread(report.write, document, folder)
    return document


def _in_loop(work: Callable[[ExperimentProgress], Awaitable[T]], running: GridRun | None) -> tuple[T | None, bool]:
    """What `work` returns, and whether it was interrupted: the first Ctrl-C while something is asked ends that in
    good order, any other ends all at once."""
    import asyncio

    async def watched() -> tuple[T | None, bool]:
        watch = ExperimentProgress(running)
        task = asyncio.ensure_future(work(watch))
        pressed = False

        def interrupt() -> None:
            nonlocal pressed
            if not pressed and running is not None and running.cell is not None:
                running.stop("interrupted")
                note("finishing what is under way; Ctrl-C again stops at once (nothing that came back is lost)")
            else:
                task.cancel()
            pressed = True

        with signals(interrupt):
            showing = asyncio.create_task(show(watch))
            try:
                return await task, pressed
            except asyncio.CancelledError:
                return None, True
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    return asyncio.run(watched())
