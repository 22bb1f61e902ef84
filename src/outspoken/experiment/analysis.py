"""The measuring of an experiment: from responses to results, task by task."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from outspoken import models
from outspoken._version import __version__
from outspoken.errors import UnknownNameError, UsageError
from outspoken.experiment.cells import CellResult
from outspoken.experiment.folder import LEDGER
from outspoken.experiment.results import ExperimentResults, PromptExamples
from outspoken.experiment.spec import ExperimentSpec
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import shorten
from outspoken.ledger import Ledger
from outspoken.measure import response_files
from outspoken.measure.analysis import Analysis, Progress, analyse
from outspoken.measure.cost import Cost
from outspoken.measure.embedding import Embedder, embedder
from outspoken.measure.judge import Judge, Quality, judge_quality
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import Group, group_label
from outspoken.tasks import Task

__all__ = ["ArmResponses", "check_measuring", "groups_of_grid", "groups_of_recordings", "measure_groups"]

_DEFAULT_EMBEDDER = "minilm"
_PARTS = ("groups", "comparisons", "effects", "richness", "distributions", "calibration", "examples", "warnings")
_EXAMPLE_PROMPTS, _EXAMPLE_TEXTS, _EXAMPLE_LENGTH = 3, 5, 1200


@dataclass(frozen=True, slots=True)
class ArmResponses:
    """The responses of one arm to one task, and their cost."""

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
            "a rubric in [quality] of the experiment, name one in the task, or leave the judge out"
        )


def _embedder(spec: ExperimentSpec, *, cache: bool = True) -> Embedder | None:
    return None if spec.embedder == "none" else embedder(spec.embedder or _DEFAULT_EMBEDDER, cache=cache)


def groups_of_grid(spec: ExperimentSpec, results: Iterable[CellResult]) -> list[ArmResponses]:
    """The responses of the cells of a grid."""
    return [
        ArmResponses(
            result.cell.task, result.cell.arm.name, result.cell.arm.method, result.group(spec.axis), result.cost()
        )
        for result in results
    ]


def groups_of_recordings(task: Task, files: Sequence[Path]) -> tuple[list[ArmResponses], tuple[str, ...]]:
    """Recorded responses to one task, and sentences about problems with the files.

    A group is named by its method, and by what distinguishes it if several groups have the same method and model.
    """
    records = response_files.read_all(files)
    names = [group.method for group in records.groups]
    if len({(group.method, group.model) for group in records.groups}) < len(names):
        names = [group_label(group, records.groups) for group in records.groups]
    groups = [
        ArmResponses(task, name, group.method, group) for name, group in zip(names, records.groups, strict=True)
    ]
    return groups, (*records.problems, *_unknown_prompts(task, groups))


def _unknown_prompts(task: Task, groups: Sequence[ArmResponses]) -> Iterable[str]:
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

    The ledger in `folder` stores the replies of the judge. `command` repeats the experiment, and `problems` are
    sentences for the warnings of the results. Raises `UsageError` if there are no groups.
    """
    if not groups:
        raise UsageError("there is nothing to measure: no responses were found")
    embedding = _embedder(spec)
    parts: dict[str, list[Any]] = {name: [] for name in _PARTS}
    parts["warnings"] += problems
    judged = False
    try:
        for task in {id(group.task): group.task for group in groups}.values():
            own = [group for group in groups if group.task is task]
            if not any(prompt.responses for group in own for prompt in group.group.prompts):
                parts["warnings"].append(f"{task.name}: there is no response to measure")
                continue
            report = None if progress is None else partial(_report, progress, task)
            quality, notes = await _judge(spec, task, own, folder, report)
            analysis = await analyse(
                [group.group for group in own],
                embedder=embedding,
                answers=task.answers_for,
                quality=quality,
                costs=[group.cost for group in own],
                pairs=_pairs(spec, own),
                names=[group.arm for group in own],
                seed=spec.seed or 0,
                progress=report,
            )
            _add(parts, task, own, analysis, notes)
            judged = judged or bool(quality)
    finally:
        if embedding is not None:
            parts["warnings"] += embedding.warnings
            await embedding.aclose()
    document = {
        "name": spec.name,
        "title": spec.title or spec.name,
        "about": spec.about,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "primary": spec.primary or groups[0].task.primary,
        "quality": "quality" if judged else None,
        "baseline": _baseline(spec, [group.arm for group in groups]),
        "axis": spec.axis or None,
        "measures": [to_json(measure) for measure in MEASURES.values()],
        **parts,
        "settings": spec.to_dict() | {"embedder": "none" if embedding is None else embedding.name},
        "versions": {"outspoken": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "command": command,
    }
    return from_json(ExperimentResults, document)


def _report(progress: Progress, task: Task, step: str, done: int, total: int) -> None:
    progress(f"{step} {task.name}", done, total)


async def _judge(
    spec: ExperimentSpec, task: Task, groups: Sequence[ArmResponses], folder: Path, progress: Progress | None
) -> tuple[Quality, tuple[str, ...]]:
    """The judge's values by index of the group and id of the prompt, and sentences about its verdicts."""
    rubric = spec.rubric or task.rubric
    if not spec.judge:
        return {}, ()
    if not rubric:
        return {}, (f"there is no rubric, so {spec.judge} judged none of the responses",)
    with Ledger(folder / LEDGER) as ledger:
        judge = Judge(spec.judge, rubric, ledger=ledger, seed=spec.seed or 0)
        show = None if progress is None else partial(progress, "judging")
        return await judge_quality([group.group for group in groups], judge, show)


def _pairs(spec: ExperimentSpec, groups: Sequence[ArmResponses]) -> list[tuple[int, int]]:
    """The pairs to compare, by index.

    Each group is compared with the baseline, of the same model and value of the axis if there is one, and with the
    other groups of this model and value. If all groups are of the baseline arm, each is compared with the first.
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
    return spec.baseline if spec.baseline in arms else arms[0]


def _add(
    parts: dict[str, list[Any]],
    task: Task,
    groups: Sequence[ArmResponses],
    analysis: Analysis,
    notes: Sequence[str],
) -> None:
    """Add the results of one task to the `parts` of the results document."""
    ids = [f"g{len(parts['groups']) + number}" for number in range(1, len(groups) + 1)]
    own = {"task": task.name}
    for identifier, group, measured in zip(ids, groups, analysis.groups, strict=True):
        names = {"id": identifier, "arm": group.arm, "method": group.method}
        parts["groups"].append(measured.to_dict() | own | names)
    for row in analysis.comparisons:
        names = {"model": groups[row.a].group.model, "a": ids[row.a], "b": ids[row.b]}
        parts["comparisons"].append(row.to_dict() | own | names)
    for effect in analysis.effects:
        names = {"model": groups[effect.a].group.model, "a": ids[effect.a], "b": ids[effect.b]}
        parts["effects"].append(effect.to_dict() | own | names)
    parts["richness"] += [one.to_dict() | own | {"group": ids[one.group]} for one in analysis.richness]
    for shares in analysis.distributions:
        entry = shares.to_dict() | own
        by_group = (shares.groups, shares.chi_square)
        entry["groups"], entry["chi_square"] = (
            to_json({ids[index]: value for index, value in each.items()}, methods=True) for each in by_group
        )
        parts["distributions"].append(entry)
    parts["calibration"] += [one.to_dict() | own | {"group": ids[one.group]} for one in analysis.calibration]
    parts["examples"] += map(to_json, _examples(task, groups, ids))
    parts["warnings"] += [f"{task.name}: {line}" for line in (*notes, *analysis.warnings)]
    parts["warnings"] += [task.warning] if task.warning else []


def _examples(task: Task, groups: Sequence[ArmResponses], ids: Sequence[str]) -> Iterable[PromptExamples]:
    prompts = {prompt.prompt_id: prompt.prompt for group in groups for prompt in group.group.prompts}
    for prompt_id, text in list(prompts.items())[:_EXAMPLE_PROMPTS]:
        responses = {
            identifier: tuple(shorten(one.text, _EXAMPLE_LENGTH) for one in prompt.responses[:_EXAMPLE_TEXTS])
            for identifier, group in zip(ids, groups, strict=True)
            for prompt in group.group.prompts
            if prompt.prompt_id == prompt_id and prompt.responses
        }
        yield PromptExamples(task.name, prompt_id, text, responses)
