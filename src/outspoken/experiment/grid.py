"""An experiment as the cells of its grid: one task, asked in one way, of one model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outspoken import models, tasks, templates
from outspoken.batch.plan import RunPlan
from outspoken.chat import ChatRequest, Message
from outspoken.errors import ProviderError, UsageError
from outspoken.experiment.spec import AXES, Arm, ExperimentSpec
from outspoken.models.base import Model
from outspoken.tasks import Task

__all__ = ["Grid", "GridCell", "tasks_of"]

_ONE_A_CALL = ("direct", "direct-cot")
# Settings that say nothing of how a cell was asked, or stand in the results under another name.
_UNTOLD = ("method", "extra", "stop", "retries", "on_short")


@dataclass(frozen=True, slots=True)
class GridCell:
    """One task, asked by one arm, of one model, at one value of the axis (None where that means nothing to it).

    `wanted` is the number of responses for a prompt; `options` are those of a run, which gets them.
    """

    id: str
    task: Task
    arm: Arm
    model: Model
    value: Any
    wanted: int
    options: Mapping[str, Any]

    def plan(self, wanted: int | None = None) -> RunPlan:
        """What a run asks; `wanted` for another number of responses. Raises `UsageError` for what cannot be."""
        options = dict(self.options)
        if wanted is not None:
            options["n"] = wanted
        return RunPlan.make(self.model, None, options)

    def settings(self, axis: str) -> dict[str, Any]:
        """How it was asked, for the results; the `axis` is always among them."""
        plan = self.plan()
        names = [name for name in type(plan.settings).__dataclass_fields__ if name not in _UNTOLD]
        told = {name: getattr(plan.settings, name) for name in names}
        if self.arm.method != "vs-multi":
            del told["turns"]
        told = {"n": self.wanted} | {name: value for name, value in told.items() if value is not None}
        told |= plan.settings.extra
        if self.arm.weights != "stated":
            told["weights"] = self.arm.weights
        if self.arm.token_match:
            told["token_match"] = self.arm.token_match
        return told | ({axis: self.value} if axis else {})


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of an experiment, in the order of its tasks, models, arms and values."""

    spec: ExperimentSpec
    tasks: tuple[Task, ...]
    cells: tuple[GridCell, ...]

    @classmethod
    def make(cls, spec: ExperimentSpec, *, concurrency: int | None = None) -> Grid:
        """Raises `UsageError` for a task, a template, a model or a setting that cannot be; nothing is sent."""
        names = spec.models or (models.default_name(),)
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"the model {min(twice)} is named twice")
        if spec.axis == "capability" and len(names) < 2:
            raise UsageError(f"{spec.name} compares models: name two or more, each with --model")
        spec = replace(spec, models=tuple(names))
        asked = tasks_of(spec)
        resolved = [models.get_model(name) for name in names]
        cells = tuple(_cells(spec, asked, resolved, concurrency))
        for cell in cells:
            _check(cell)
        return cls(spec, asked, cells)

    def matched(self, cell: GridCell) -> GridCell:
        """The cell whose tokens this one is to use up: of the same task, model and value of the axis."""
        there = [
            other
            for other in self.cells
            if other.arm.name == cell.arm.token_match and other.task is cell.task and other.model is cell.model
        ]
        return next((other for other in there if other.value == cell.value), there[0])

    def asked(self) -> dict[str, Any]:
        """All that the replies depend on, for the comparison with an earlier run in the same folder."""
        plain = self.spec.to_dict()
        named = ("arms", "models", "n", "k", "prompts", "settings", "axis", "values", "seed")
        used = {str(cell.plan().settings.template) for cell in self.cells}
        told = {
            "tasks": {task.name: _digest(task) for task in self.tasks},
            **{name: plain[name] for name in named},
            "templates": {name: templates.load(name).hash for name in sorted(used)},
        }
        # As it is read again.
        return dict(json.loads(json.dumps(told, ensure_ascii=False)))

    async def probe(self) -> None:
        """Ask each model that gets settings by its provider's own names one small thing with them.

        Such a server says only when it is asked that it does not take `min_p`. Raises `UsageError` then.
        """
        for cell in {cell.model.name: cell for cell in self.cells if cell.options.get("extra")}.values():
            sampling = replace(cell.plan().settings.sampling, max_tokens=1, seed=None, stop=())
            try:
                await cell.model.complete(ChatRequest((Message("user", "Hi"),), sampling))
            except ProviderError as error:
                if error.status in (400, 422):
                    given = ", ".join(cell.options["extra"])
                    raise UsageError(
                        f"{cell.model.name} refused the setting {given} ({error}): leave it out, or name a model "
                        "that takes it with --model"
                    ) from error
                raise


def tasks_of(spec: ExperimentSpec) -> tuple[Task, ...]:
    """The tasks with their prompts and references, cut to the number of prompts that is wanted."""
    loaded = [tasks.load(name) for name in spec.tasks]
    names = [task.name for task in loaded]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two tasks are called {min(twice)!r}: give each file a name of its own")
    if spec.data:
        if len(loaded) > 1 and all(task.prompts for task in loaded):
            raise UsageError("every task has prompts of its own: name the one that --data is for with --task")
        loaded = [
            task.with_prompts(spec.data) if len(loaded) == 1 or not task.prompts else task for task in loaded
        ]
    if spec.reference:
        if all(task.answers == "free" for task in loaded):
            raise UsageError(f"the answers of {', '.join(names)} cannot be listed: leave --reference out")
        loaded = [task if task.answers == "free" else task.with_reference(spec.reference) for task in loaded]
    for task in loaded:
        if not task.prompts:
            raise UsageError(f"{task.name} takes its prompts from a file: name it with --data FILE")
        if task.answers == "listed" and not (task.expected or any(prompt.expected for prompt in task.prompts)):
            raise UsageError(
                f"the answers of {task.name} are to be listed, and none are: write known = [...], give its "
                "prompts answers, or name counts with --reference FILE"
            )
    return tuple(replace(task, prompts=task.prompts[: spec.prompts]) for task in loaded)


def _cells(
    spec: ExperimentSpec, asked: tuple[Task, ...], resolved: list[Model], concurrency: int | None
) -> Iterator[GridCell]:
    number = 0
    for task in asked:
        for name, model in zip(spec.models, resolved, strict=True):
            alone = spec.capability.get(name) if spec.axis == "capability" else None
            for arm in spec.arms:
                varied = arm.method in AXES.get(spec.axis, ())
                for value in spec.values if varied else (alone,):
                    number += 1
                    parts = [f"{number:02}", task.name, arm.name, *([f"{spec.axis}-{value}"] if varied else [])]
                    wanted = spec.n or task.n
                    options = _options(spec, task, arm, value if varied else None, wanted)
                    if concurrency is not None:
                        options["concurrency"] = concurrency
                    yield GridCell(_slug(".".join(parts)), task, arm, model, value, wanted, options)


def _options(spec: ExperimentSpec, task: Task, arm: Arm, value: Any, wanted: int) -> dict[str, Any]:
    """The settings of the run of one cell; the calls and turns of a method are those of the paper's table 1."""
    options: dict[str, Any] = {"words": task.words, **spec.settings, **arm.settings, "method": arm.method}
    k = options.pop("k", spec.k or task.k)
    if value is not None:
        if spec.axis == "min_p":
            options["extra"] = {**options.get("extra", {}), "min_p": value}
        elif spec.axis == "k":
            k = value
        else:
            options[spec.axis] = value
    if options.get("tau") == 1:
        del options["tau"]  # no threshold
    if spec.seed is not None:
        options["seed"] = spec.seed
    if arm.method == "multi-turn":
        # One conversation of so many turns: a goal of n would have it begin another one where answers repeat.
        return options | {"k": wanted}
    options |= {"n": wanted, "k": 1 if arm.method in _ONE_A_CALL else k}
    if arm.method == "vs-multi":
        options["turns"] = -(-wanted // k)
    return options


def _check(cell: GridCell) -> None:
    settings = cell.plan().settings
    can = cell.model.capabilities
    if settings.seed is not None and not can.seed:
        raise UsageError(f"{cell.model.name} takes no seed: leave the seed out, or name another model")
    if settings.extra and not can.extra:
        names = ", ".join(settings.extra)
        raise UsageError(
            f"{cell.model.name} does not take the setting {names}: leave it out, or name another model"
        )
    if cell.arm.weights == "uniform" and cell.wanted % settings.k:
        raise UsageError(
            f"n ({cell.wanted}) must be a multiple of k ({settings.k}) for the arm {cell.arm.name}: else the last "
            "call's surplus would be cut by numbers that mean nothing"
        )


def _digest(task: Task) -> str:
    asked = json.dumps([[prompt.id, prompt.prompt] for prompt in task.prompts], ensure_ascii=False)
    return f"{len(task.prompts)} prompts, {hashlib.sha256(asked.encode()).hexdigest()[:16]}"


def _slug(text: str) -> str:
    """As the name of a file."""
    return re.sub(r"[^\w.-]+", "-", text)[:80]
