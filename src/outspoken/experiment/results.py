"""The results of an experiment: what was asked or recorded, measured, compared and put into one document."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from outspoken import models
from outspoken._version import __version__
from outspoken.errors import UnknownNameError, UsageError
from outspoken.experiment.cells import CellResult
from outspoken.experiment.runner import LEDGER
from outspoken.experiment.spec import ExperimentSpec
from outspoken.io.atomic import write_file as write_whole
from outspoken.io.text import shorten
from outspoken.ledger import Ledger
from outspoken.measure import response_files
from outspoken.measure.analysis import Analysis, analyse
from outspoken.measure.cost import Cost
from outspoken.measure.embedding import Embedder, embedder
from outspoken.measure.judge import Judge, Quality, judge_quality
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import Group
from outspoken.tasks import Task

__all__ = ["ArmResponses", "check_measuring", "groups_of_grid", "groups_of_recordings", "measure_groups", "write"]

Progress = Callable[[str, int, int], None]

_DEFAULT_EMBEDDER = "minilm"
_QUALITY = "quality"
_EXAMPLE_PROMPTS, _EXAMPLE_TEXTS, _EXAMPLE_LENGTH = 3, 5, 1200


@dataclass(frozen=True, slots=True)
class ArmResponses:
    """What is measured as one: a group of responses to a task, the arm that it belongs to, and what it cost."""

    task: Task
    arm: str
    method: str
    group: Group
    cost: Cost | None = None


def check_measuring(spec: ExperimentSpec, tasks: Iterable[Task]) -> None:
    """Raise `UsageError` for a measure, an embedder, a judge or a rubric that cannot be; nothing is sent."""
    if spec.primary and spec.primary not in MEASURES:
        raise UnknownNameError("measure", spec.primary, MEASURES)
    _embedder(spec, cache=False)
    if not spec.judge:
        return
    models.get_model(spec.judge)
    named = list(tasks)
    judges = [Judge(spec.judge, rubric) for task in named if (rubric := spec.rubric or task.rubric)]
    if not judges:
        raise UsageError(
            f"{spec.judge} has nothing to judge {', '.join(task.name for task in named)} by: name a rubric in "
            "[quality] of the experiment or in the task, or leave the judge out"
        )


def _embedder(spec: ExperimentSpec, *, cache: bool = True) -> Embedder | None:
    return None if spec.embedder == "none" else embedder(spec.embedder or _DEFAULT_EMBEDDER, cache=cache)


def groups_of_grid(spec: ExperimentSpec, came: Iterable[CellResult]) -> list[ArmResponses]:
    """The cells of a grid."""
    return [
        ArmResponses(one.cell.task, one.cell.arm.name, one.cell.arm.method, one.group(spec.axis), one.cost())
        for one in came
    ]


def groups_of_recordings(task: Task, files: Sequence[Path]) -> tuple[list[ArmResponses], tuple[str, ...]]:
    """Recorded responses to one task, and what is to be told of their files.

    A group is called by its method; by its model and settings too, where that alone does not tell it apart.
    """
    found = response_files.read_all(files)
    names = [group.method for group in found.groups]
    if len(set(zip(names, (group.model for group in found.groups), strict=True))) < len(names):
        names = [
            ", ".join(str(part) for part in (group.method, *group.settings.values()) if part)
            for group in found.groups
        ]
    subjects = [
        ArmResponses(task, name, group.method, group) for name, group in zip(names, found.groups, strict=True)
    ]
    return subjects, (*found.problems, *_unknown_prompts(task, subjects))


def _unknown_prompts(task: Task, subjects: Sequence[ArmResponses]) -> Iterable[str]:
    """What is to be said of prompts whose answers the task does not have."""
    if task.expected is not None or not any(prompt.expected for prompt in task.prompts):
        return
    known = {prompt.prompt for prompt in task.prompts}
    asked = dict.fromkeys(asked.prompt for subject in subjects for asked in subject.group.prompts)
    if unknown := [prompt for prompt in asked if prompt not in known]:
        yield (
            f"{len(unknown):,} of {len(asked):,} recorded prompts are none of {task.name}, so their right answers "
            f"are not known; the first: {shorten(unknown[0], _EXAMPLE_LENGTH)}"
        )


async def measure_groups(
    spec: ExperimentSpec,
    subjects: Sequence[ArmResponses],
    folder: Path,
    *,
    command: str,
    problems: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the subjects, task by task, and return the results document."""
    named = _embedder(spec)
    document = _opening(spec, subjects, command, "none" if named is None else named.name)
    document["warnings"] += problems
    groups: list[dict[str, Any]] = document["groups"]
    try:
        for task in {id(subject.task): subject.task for subject in subjects}.values():
            own = [subject for subject in subjects if subject.task is task]
            if not any(asked.responses for subject in own for asked in subject.group.prompts):
                document["warnings"].append(f"{task.name}: there is no response to measure")
                continue
            quality, said = await _quality(spec, task, own, folder, progress)
            analysis = await _measured(spec, task, own, named, quality, progress)
            first = len(groups)
            groups += [
                _group(f"g{first + at}", subject, measured.to_dict())
                for at, (subject, measured) in enumerate(zip(own, analysis.groups, strict=True), 1)
            ]
            _add(document, task, own, analysis, groups[first:])
            document["warnings"] += [f"{task.name}: {line}" for line in (*said, *analysis.warnings)]
            if task.warning:
                document["warnings"].append(task.warning)
            if quality:
                document["quality"] = _QUALITY
    finally:
        if named is not None:
            await named.aclose()
    return document


def write(document: Mapping[str, Any], folder: Path) -> None:
    """Put `results.json` into the folder, whole or not at all."""
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(folder / "results.json", lambda file: file.write(text.encode("utf-8", "backslashreplace") + b"\n"))


def _opening(
    spec: ExperimentSpec, subjects: Sequence[ArmResponses], command: str, embedder_name: str
) -> dict[str, Any]:
    """The document before anything is measured."""
    if not subjects:
        raise UsageError("there is nothing to measure: no responses were found")
    arms = [subject.arm for subject in subjects]
    return {
        "format": 1,
        "name": spec.name,
        "title": spec.title or spec.name,
        "about": spec.about,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "primary": spec.primary or subjects[0].task.primary,
        "quality": None,
        "baseline": _baseline(spec, arms),
        "axis": spec.axis or None,
        "measures": [
            {
                "name": measure.name,
                "title": measure.title,
                "better": measure.better,
                "scale": measure.scale,
                "about": measure.about,
                "kind": measure.kind,
            }
            for measure in MEASURES.values()
        ],
        "groups": [],
        "comparisons": [],
        "distributions": [],
        "calibration": [],
        "examples": [],
        "warnings": [],
        "settings": spec.to_dict() | {"embedder": embedder_name},
        "versions": {
            "outspoken": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "command": command,
    }


async def _quality(
    spec: ExperimentSpec, task: Task, subjects: Sequence[ArmResponses], folder: Path, progress: Progress | None
) -> tuple[Quality, tuple[str, ...]]:
    """The judge's values by subject and prompt, and what is to be told of its verdicts."""
    rubric = spec.rubric or task.rubric
    if not spec.judge:
        return {}, ()
    if not rubric:
        return {}, (f"it has no rubric, so {spec.judge} judged nothing of it",)

    def show(done: int, total: int) -> None:
        if progress:
            progress(f"judging {task.name}", done, total)

    with Ledger(folder / LEDGER) as ledger:
        judge = Judge(spec.judge, rubric, ledger=ledger, seed=spec.seed or 0)
        return await judge_quality([subject.group for subject in subjects], judge, show)


async def _measured(
    spec: ExperimentSpec,
    task: Task,
    subjects: Sequence[ArmResponses],
    named: Embedder | None,
    quality: Mapping[tuple[int, str], Sequence[float]],
    progress: Progress | None,
) -> Analysis:
    def show(step: str, done: int, total: int) -> None:
        if progress:
            progress(f"{step} {task.name}", done, total)

    return await analyse(
        [subject.group for subject in subjects],
        embedder=named,
        answers=task.answers_for,
        quality=quality,
        costs=[subject.cost for subject in subjects],
        pairs=_pairs(spec, subjects),
        seed=spec.seed or 0,
        progress=show,
    )


def _pairs(spec: ExperimentSpec, subjects: Sequence[ArmResponses]) -> list[tuple[int, int]]:
    """Each subject with the baseline of the same model and at the same value of the axis, where there is one, and
    all others of that model and value with each other.

    Where all have the baseline's name (one arm over an axis, recordings of several models), each with the first.
    """
    name = _baseline(spec, [subject.arm for subject in subjects])
    bases = [at for at, subject in enumerate(subjects) if subject.arm == name]
    if len(bases) == len(subjects):
        return [(at, 0) for at in range(1, len(subjects))]

    def nearness(at: int, base: int) -> tuple[bool, bool]:
        one, other = subjects[at].group, subjects[base].group
        return one.model == other.model, one.settings.get(spec.axis) == other.settings.get(spec.axis)

    others = [at for at in range(len(subjects)) if at not in bases]
    with_base = [(at, max(bases, key=lambda base: nearness(at, base))) for at in others]
    return with_base + [(b, a) for a, b in combinations(others, 2) if nearness(a, b) == (True, True)]


def _baseline(spec: ExperimentSpec, arms: Sequence[str]) -> str:
    """The arm that the others are compared with; the first, where the spec's is none of them."""
    return spec.baseline if spec.baseline in arms else arms[0]


def _group(identifier: str, subject: ArmResponses, measured: dict[str, Any]) -> dict[str, Any]:
    of = {"id": identifier, "task": subject.task.name, "arm": subject.arm}
    return of | measured | {"method": subject.method}


def _add(
    document: dict[str, Any],
    task: Task,
    subjects: Sequence[ArmResponses],
    analysis: Analysis,
    groups: Sequence[Mapping[str, Any]],
) -> None:
    """The comparisons, distributions and examples of one task."""
    ids = [group["id"] for group in groups]
    for compared in analysis.comparisons:
        of = {"task": task.name, "model": subjects[compared.a].group.model}
        document["comparisons"].append(of | compared.to_dict() | {"a": ids[compared.a], "b": ids[compared.b]})
    for distribution in analysis.distributions:
        shares = {ids[at]: share for at, share in distribution["groups"].items()}
        fits = {ids[at]: fit for at, fit in distribution["chi_square"].items()}
        document["distributions"].append({"task": task.name, **distribution, "groups": shares, "chi_square": fits})
    for calibrated in analysis.calibration:
        document["calibration"].append(calibrated.to_dict() | {"task": task.name, "group": ids[calibrated.group]})
    prompts = {asked.prompt_id: asked.prompt for subject in subjects for asked in subject.group.prompts}
    for prompt_id, prompt in list(prompts.items())[:_EXAMPLE_PROMPTS]:
        texts = {
            identifier: [shorten(response.text, _EXAMPLE_LENGTH) for response in asked.responses[:_EXAMPLE_TEXTS]]
            for identifier, subject in zip(ids, subjects, strict=True)
            for asked in subject.group.prompts
            if asked.prompt_id == prompt_id and asked.responses
        }
        document["examples"].append({"task": task.name, "prompt_id": prompt_id, "prompt": prompt, "groups": texts})
