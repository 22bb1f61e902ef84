"""Measuring the responses of an experiment, task by task, into its results."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from outspoken import models
from outspoken._version import __version__
from outspoken.errors import UnknownNameError, UsageError
from outspoken.experiment.cells import CellResult
from outspoken.experiment.folder import LEDGER
from outspoken.experiment.results import (
    ArmCalibration,
    ArmComparison,
    ArmResults,
    DisplayedMeasure,
    ExperimentResults,
    PromptExamples,
    TaskDistribution,
)
from outspoken.experiment.spec import ExperimentSpec
from outspoken.io.text import shorten
from outspoken.ledger import Ledger
from outspoken.measure import response_files
from outspoken.measure.analysis import Analysis, MeasuredGroup, Progress, analyse
from outspoken.measure.cost import Cost
from outspoken.measure.embedding import Embedder, embedder
from outspoken.measure.judge import Judge, Quality, judge_quality
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import Group
from outspoken.tasks import Task

__all__ = ["ArmResponses", "check_measuring", "groups_of_grid", "groups_of_recordings", "measure_groups"]

_DEFAULT_EMBEDDER = "minilm"
_QUALITY = "quality"
_EXAMPLE_PROMPTS, _EXAMPLE_TEXTS, _EXAMPLE_LENGTH = 3, 5, 1200


@dataclass(frozen=True, slots=True)
class ArmResponses:
    """The responses of one arm to one task, and what they cost."""

    task: Task
    arm: str
    method: str
    group: Group
    cost: Cost | None = None


def check_measuring(spec: ExperimentSpec, tasks: Iterable[Task]) -> None:
    """Raise `UsageError` for an unknown measure, embedder, judge or rubric. Nothing is sent."""
    if spec.primary and spec.primary not in MEASURES:
        raise UnknownNameError("measure", spec.primary, MEASURES)
    _embedder(spec, cache=False)
    if not spec.judge:
        return
    models.get_model(spec.judge)
    tasks = list(tasks)
    if not [Judge(spec.judge, rubric) for task in tasks if (rubric := spec.rubric or task.rubric)]:
        raise UsageError(
            f"there is no rubric by which {spec.judge} could judge {', '.join(task.name for task in tasks)}: name "
            "a rubric in [quality] of the experiment or in the task, or leave the judge out"
        )


def _embedder(spec: ExperimentSpec, *, cache: bool = True) -> Embedder | None:
    return None if spec.embedder == "none" else embedder(spec.embedder or _DEFAULT_EMBEDDER, cache=cache)


def groups_of_grid(spec: ExperimentSpec, results: Iterable[CellResult]) -> list[ArmResponses]:
    """The responses of the cells of a grid."""
    return [
        ArmResponses(
            result.cell.task,
            result.cell.arm.name,
            result.cell.arm.method,
            result.group(spec.axis),
            result.cost(),
        )
        for result in results
    ]


def groups_of_recordings(task: Task, files: Sequence[Path]) -> tuple[list[ArmResponses], tuple[str, ...]]:
    """Recorded responses to one task, and sentences about problems with the files.

    A group is named by its method, and by its settings too if several groups have the same method and model.
    """
    records = response_files.read_all(files)
    names = [group.method for group in records.groups]
    if len({(group.method, group.model) for group in records.groups}) < len(names):
        names = [
            ", ".join(str(part) for part in (group.method, *group.settings.values()) if part)
            for group in records.groups
        ]
    groups = [
        ArmResponses(task, name, group.method, group) for name, group in zip(names, records.groups, strict=True)
    ]
    return groups, (*records.problems, *_unknown_prompts(task, groups))


def _unknown_prompts(task: Task, groups: Sequence[ArmResponses]) -> Iterable[str]:
    """A sentence about prompts whose answers the task does not have."""
    if task.expected is not None or not any(prompt.expected for prompt in task.prompts):
        return
    known = {prompt.prompt for prompt in task.prompts}
    recorded = dict.fromkeys(prompt.prompt for group in groups for prompt in group.group.prompts)
    if unknown := [prompt for prompt in recorded if prompt not in known]:
        yield (
            f"{len(unknown):,} of {len(recorded):,} recorded prompts are not among those of {task.name}, so their "
            f"correct answers are unknown; the first: {shorten(unknown[0], _EXAMPLE_LENGTH)}"
        )


async def measure_groups(
    spec: ExperimentSpec,
    groups: Sequence[ArmResponses],
    folder: Path,
    *,
    command: str = "",
    problems: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExperimentResults:
    """Measure the groups, task by task.

    The ledger in `folder` stores what a judge says. `command` repeats the experiment, and `problems` are sentences
    for the warnings of the results. Raises `UsageError` if there are no groups.
    """
    if not groups:
        raise UsageError("there is nothing to measure: no responses were found")
    embedding = _embedder(spec)
    parts = _Parts(warnings=list(problems))
    try:
        for task in {id(group.task): group.task for group in groups}.values():
            own = [group for group in groups if group.task is task]
            if not any(prompt.responses for group in own for prompt in group.group.prompts):
                parts.warnings.append(f"{task.name}: there is no response to measure")
                continue
            quality, notes = await _judge(spec, task, own, folder, progress)
            analysis = await _analyse(spec, task, own, embedding, quality, progress)
            parts.add(task, own, analysis, notes)
            if quality:
                parts.quality = _QUALITY
    finally:
        if embedding is not None:
            await embedding.aclose()
    return ExperimentResults(
        name=spec.name,
        title=spec.title or spec.name,
        about=spec.about,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        primary=spec.primary or groups[0].task.primary,
        quality=parts.quality,
        baseline=_baseline(spec, [group.arm for group in groups]),
        axis=spec.axis or None,
        measures=tuple(
            DisplayedMeasure(row.name, row.title, row.better, row.scale, row.about, row.kind)
            for row in MEASURES.values()
        ),
        groups=tuple(parts.groups),
        comparisons=tuple(parts.comparisons),
        distributions=tuple(parts.distributions),
        calibration=tuple(parts.calibration),
        examples=tuple(parts.examples),
        warnings=tuple(parts.warnings),
        settings=spec.to_dict() | {"embedder": "none" if embedding is None else embedding.name},
        versions={"outspoken": __version__, "python": platform.python_version(), "numpy": np.__version__},
        command=command,
    )


async def _judge(
    spec: ExperimentSpec,
    task: Task,
    groups: Sequence[ArmResponses],
    folder: Path,
    progress: Progress | None,
) -> tuple[Quality, tuple[str, ...]]:
    """The judge's values by index of the group and id of the prompt, and sentences about its verdicts."""
    rubric = spec.rubric or task.rubric
    if not spec.judge:
        return {}, ()
    if not rubric:
        return {}, (f"there is no rubric, so {spec.judge} judged none of the responses",)

    def report(done: int, total: int) -> None:
        if progress:
            progress(f"judging {task.name}", done, total)

    with Ledger(folder / LEDGER) as ledger:
        judge = Judge(spec.judge, rubric, ledger=ledger, seed=spec.seed or 0)
        return await judge_quality([group.group for group in groups], judge, report)


async def _analyse(
    spec: ExperimentSpec,
    task: Task,
    groups: Sequence[ArmResponses],
    embedding: Embedder | None,
    quality: Quality,
    progress: Progress | None,
) -> Analysis:
    def report(step: str, done: int, total: int) -> None:
        if progress:
            progress(f"{step} {task.name}", done, total)

    return await analyse(
        [group.group for group in groups],
        embedder=embedding,
        answers=task.answers_for,
        quality=quality,
        costs=[group.cost for group in groups],
        pairs=_pairs(spec, groups),
        seed=spec.seed or 0,
        progress=report,
    )


def _pairs(spec: ExperimentSpec, groups: Sequence[ArmResponses]) -> list[tuple[int, int]]:
    """The pairs to compare, by index: each group with the baseline of the same model and value of the axis, as far
    as that exists, and the other groups of that model and value with each other.

    If all groups are of the baseline arm (one arm over an axis, recordings of several models): each with the
    first.
    """
    name = _baseline(spec, [group.arm for group in groups])
    bases = [index for index, group in enumerate(groups) if group.arm == name]
    if len(bases) == len(groups):
        return [(index, 0) for index in range(1, len(groups))]

    def similarity(index: int, other: int) -> tuple[bool, bool]:
        a, b = groups[index].group, groups[other].group
        return a.model == b.model, a.settings.get(spec.axis) == b.settings.get(spec.axis)

    others = [index for index in range(len(groups)) if index not in bases]
    with_base = [(index, max(bases, key=lambda base: similarity(index, base))) for index in others]
    return with_base + [(b, a) for a, b in combinations(others, 2) if similarity(a, b) == (True, True)]


def _baseline(spec: ExperimentSpec, arms: Sequence[str]) -> str:
    """The arm that the others are compared with: that of the spec, or the first if it is not among them."""
    return spec.baseline if spec.baseline in arms else arms[0]


@dataclass(slots=True)
class _Parts:
    """The parts of the results that grow with each task."""

    quality: str | None = None
    groups: list[ArmResults] = field(default_factory=list)
    comparisons: list[ArmComparison] = field(default_factory=list)
    distributions: list[TaskDistribution] = field(default_factory=list)
    calibration: list[ArmCalibration] = field(default_factory=list)
    examples: list[PromptExamples] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, task: Task, groups: Sequence[ArmResponses], analysis: Analysis, notes: Sequence[str]) -> None:
        ids = [f"g{len(self.groups) + number}" for number in range(1, len(groups) + 1)]
        self.groups += [
            _arm_results(identifier, group, measured)
            for identifier, group, measured in zip(ids, groups, analysis.groups, strict=True)
        ]
        self.comparisons += [
            ArmComparison(
                **asdict(compared.comparison),
                task=task.name,
                model=groups[compared.a].group.model,
                measure=compared.measure,
                a=ids[compared.a],
                b=ids[compared.b],
            )
            for compared in analysis.comparisons
        ]
        self.distributions += [
            TaskDistribution(
                task.name,
                shares.prompt,
                shares.reference,
                {ids[index]: own for index, own in shares.groups.items()},
                shares.prompt_id,
                {ids[index]: test for index, test in shares.chi_square.items()},
            )
            for shares in analysis.distributions
        ]
        self.calibration += [
            ArmCalibration(
                task.name,
                ids[one.group],
                one.source,
                one.total_variation,
                one.ece,
                one.rank_correlation,
                one.bins,
                one.undefined,
            )
            for one in analysis.calibration
        ]
        self.examples += _examples(task, groups, ids)
        self.warnings += [f"{task.name}: {line}" for line in (*notes, *analysis.warnings)]
        self.warnings += [task.warning] if task.warning else []


def _arm_results(identifier: str, responses: ArmResponses, measured: MeasuredGroup) -> ArmResults:
    return ArmResults(
        id=identifier,
        task=responses.task.name,
        arm=responses.arm,
        method=responses.method,
        model=measured.group.model,
        settings=measured.group.settings,
        prompts=len(measured.group.prompts),
        responses=measured.responses,
        failures=measured.failures,
        empty=measured.empty,
        measures=measured.figures,
        undefined=measured.undefined,
        cost=measured.cost_summary,
    )


def _examples(task: Task, groups: Sequence[ArmResponses], ids: Sequence[str]) -> Iterable[PromptExamples]:
    """The first responses to the first prompts."""
    prompts = {prompt.prompt_id: prompt.prompt for group in groups for prompt in group.group.prompts}
    for prompt_id, text in list(prompts.items())[:_EXAMPLE_PROMPTS]:
        responses = {
            identifier: tuple(shorten(one.text, _EXAMPLE_LENGTH) for one in prompt.responses[:_EXAMPLE_TEXTS])
            for identifier, group in zip(ids, groups, strict=True)
            for prompt in group.group.prompts
            if prompt.prompt_id == prompt_id and prompt.responses
        }
        yield PromptExamples(task.name, prompt_id, text, responses)
