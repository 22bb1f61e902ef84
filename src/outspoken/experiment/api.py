"""`run` executes an experiment: it asks, measures, and writes the results and the report into a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from os.path import realpath
from pathlib import Path
from typing import TypedDict, Unpack

from outspoken import engine
from outspoken.errors import UsageError
from outspoken.experiment import analysis, report
from outspoken.experiment.folder import ExperimentFolder, FolderHolder
from outspoken.experiment.grid import Grid, tasks_of
from outspoken.experiment.results import ExperimentResults
from outspoken.experiment.runner import GridRun
from outspoken.experiment.spec import ExperimentSpec, load
from outspoken.measure.analysis import Progress

__all__ = ["ExperimentOptions", "Recordings", "arun", "default_folder", "measure_and_report", "run"]

File = str | PathLike[str]


class ExperimentOptions(TypedDict, total=False):
    """The options of `run`, which describes them."""

    concurrency: int | None
    overwrite: bool
    recorded: Sequence[File]
    progress: Progress | None


def run(
    experiment: str | ExperimentSpec, folder: File | None = None, **options: Unpack[ExperimentOptions]
) -> ExperimentResults:
    """Run an experiment, and write `results.json` and `report.html` into its folder.

    `experiment` is the name of a shipped experiment, the path of a .toml file, or a spec. `folder` is by default
    `./NAME-experiment`. If it holds the same experiment, the run continues where it stopped: nothing that the
    ledger in the folder holds is asked again.

    Raises `UsageError` for an invalid experiment, for a folder with something else, and if another process is
    using the folder; if no cell has a response, raises the first failure.

    Options:
        concurrency: Most requests at once. Default: None, as for `outspoken.run`.
        overwrite: Replace the output of another experiment in the folder. Default: False.
        recorded: Files of recorded responses to the one task of the experiment: they are measured, and nothing is
            asked. Default: ().
        progress: Called with the name of a step, the number of parts done, and the number of all. Default: None.
    """
    return engine.run(arun(experiment, folder, **options))


async def arun(
    experiment: str | ExperimentSpec,
    folder: File | None = None,
    *,
    concurrency: int | None = None,
    overwrite: bool = False,
    recorded: Sequence[File] = (),
    progress: Progress | None = None,
) -> ExperimentResults:
    """`run` for asynchronous code; see there for the options."""
    spec = load(experiment) if isinstance(experiment, str) else experiment
    path = default_folder(spec) if folder is None else Path(folder)
    if recorded:
        with Recordings(spec, [Path(file) for file in recorded], path, overwrite=overwrite) as recordings:
            return await recordings.measure(progress=progress)
    grid = Grid.make(spec, concurrency=concurrency)
    analysis.check_measuring(grid.spec, grid.tasks)
    with GridRun(grid, path, overwrite=overwrite) as running:
        groups = analysis.groups_of_grid(grid.spec, await running.run(progress))
        return await measure_and_report(grid.spec, groups, path, problems=running.problems, progress=progress)


def default_folder(spec: ExperimentSpec) -> Path:
    """The folder of an experiment if none is named."""
    return Path(f"{spec.name}-experiment")


async def measure_and_report(
    spec: ExperimentSpec,
    groups: Sequence[analysis.ArmResponses],
    folder: Path,
    *,
    command: str = "",
    problems: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExperimentResults:
    """Measure the groups, and write the results and the report into a folder that is locked."""
    results = await analysis.measure_groups(
        spec, groups, folder, command=command, problems=problems, progress=progress
    )
    results.write(folder)
    if progress:
        progress("drawing the report", 0, 0)
    await asyncio.to_thread(report.write, results, folder)
    return results


class Recordings(FolderHolder):
    """Recorded responses to the one task of an experiment, and its folder, which is locked until `close`.

    `problems` are sentences about the files. Raises `UsageError` for several tasks, invalid files, and a folder
    that cannot be used.
    """

    def __init__(
        self, spec: ExperimentSpec, files: Sequence[Path], folder: Path, *, overwrite: bool = False
    ) -> None:
        tasks = tasks_of(replace(spec, prompts=None))  # the number of prompts to ask does not apply to recordings
        if len(tasks) != 1:
            raise UsageError("recorded responses belong to one task: name it with --tasks")
        analysis.check_measuring(spec, tasks)
        self.spec = spec
        self.groups, self.problems = analysis.groups_of_recordings(tasks[0], files)
        content = {"recorded": [realpath(file) for file in files], "tasks": [tasks[0].name]}
        self.folder = ExperimentFolder(folder, content, overwrite=overwrite)

    async def measure(self, *, command: str = "", progress: Progress | None = None) -> ExperimentResults:
        """Measure the responses, and write the results and the report."""
        return await measure_and_report(
            self.spec, self.groups, self.folder.path, command=command, problems=self.problems, progress=progress
        )
