"""The grid of an experiment: one cell for each task, model, arm and value of the axis."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from outspoken import models, tasks, templates
from outspoken.batch.plan import RunPlan
from outspoken.batch.settings import RunOptions
from outspoken.chat import ChatRequest, Message
from outspoken.engine import SingleCall
from outspoken.errors import ProviderError, UsageError
from outspoken.experiment.spec import Arm, ExperimentSpec, varies
from outspoken.io.text import json_bytes
from outspoken.methods.table import METHODS
from outspoken.models.base import Model
from outspoken.tasks import Task

__all__ = ["Grid", "GridCell", "tasks_of"]

# Settings that do not describe how a cell was asked, or that the results hold under another name.
_NOT_DISPLAYED = ("method", "extra", "stop", "top_up", "on_short")


@dataclass(frozen=True, slots=True)
class GridCell:
    """One task, one arm, one model, and one `value` of the axis (None if the axis does not apply).

    `wanted` is the number of responses per prompt, `options` are those of the run of the cell.
    """

    id: str
    task: Task
    arm: Arm
    model: Model
    value: object
    wanted: int
    options: RunOptions

    @property
    def name(self) -> str:
        """The task, the arm and the model, for messages."""
        return f"{self.task.name}, {self.arm.name}, {self.model.name}"

    def plan(self, wanted: int | None = None) -> RunPlan:
        """The plan of the cell's run, for `wanted` responses instead if given. Raises `UsageError`."""
        changed = {} if wanted is None else {"n": wanted}
        return RunPlan.make(self.model, None, {**self.options, **changed})

    def settings(self, axis: str) -> dict[str, object]:
        """The settings of the cell, for the results; the value of the `axis` is always among them."""
        given = self.plan().settings
        hidden = _NOT_DISPLAYED if METHODS[self.arm.method].turns else (*_NOT_DISPLAYED, "turns")
        settings: dict[str, object] = {
            "n": self.wanted,
            **{name: getattr(given, name) for name in type(given).__dataclass_fields__ if name not in hidden},
            **given.extra,
            "weights": None if self.arm.weights == "stated" else self.arm.weights,
            "token_match": self.arm.token_match or None,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        return settings | ({axis: self.value} if axis else {})


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of an experiment, in the order of its tasks, models, arms and values."""

    spec: ExperimentSpec
    tasks: tuple[Task, ...]
    cells: tuple[GridCell, ...]

    @classmethod
    def make(cls, spec: ExperimentSpec, *, concurrency: int | None = None) -> Grid:
        """The grid of a spec, with at most `concurrency` requests at once.

        Raises `UsageError` for an invalid task, template, model or setting; nothing is sent.
        """
        names = spec.models or (models.default_name(),)
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"the model {min(repeated)} is named twice")
        if spec.axis == "capability" and len(names) < 2:
            raise UsageError(f"{spec.name} compares models: name two or more with --models")
        spec = replace(spec, models=tuple(names))
        loaded = tasks_of(spec)
        cells = tuple(_cells(spec, loaded, [models.get_model(name) for name in names], concurrency))
        for cell in cells:
            _check(cell)
        return cls(spec, loaded, cells)

    def matched(self, cell: GridCell) -> GridCell:
        """The cell whose tokens this one must use, if possible with the same value of the axis."""
        candidates = [
            other
            for other in self.cells
            if other.arm.name == cell.arm.token_match and other.task is cell.task and other.model is cell.model
        ]
        return next((other for other in candidates if other.value == cell.value), candidates[0])

    def content(self) -> dict[str, object]:
        """Everything on which the responses depend, in JSON values, to recognise an earlier run in a folder."""
        spec = self.spec.to_dict()
        names = ("arms", "models", "n", "k", "prompts", "settings", "axis", "values", "seed")
        used = {str(cell.plan().settings.template) for cell in self.cells}
        content = {
            "tasks": {task.name: _digest(task) for task in self.tasks},
            **{name: spec[name] for name in names},
            "templates": {name: templates.load(name).hash for name in sorted(used)},
        }
        return dict(json.loads(json.dumps(content)))

    async def probe(self) -> None:
        """Send one short request to each model that receives settings by its provider's own names.

        Only the reply of the server shows whether it accepts a setting such as `min_p`. Raises `UsageError` if it
        does not.
        """
        for cell in {cell.model.name: cell for cell in self.cells if cell.options.get("extra")}.values():
            plan = cell.plan()
            sampling = replace(plan.settings.sampling, max_tokens=1, seed=None, stop=())
            try:
                await SingleCall(cell.model, plan.run).complete(ChatRequest((Message("user", "Hi"),), sampling))
            except ProviderError as error:
                if error.status in (400, 422):
                    settings = ", ".join(cell.options["extra"])
                    raise UsageError(
                        f"{cell.model.name} refused the setting {settings} ({error}): leave it out, or name a "
                        "model that accepts it with --models"
                    ) from error
                raise


def tasks_of(spec: ExperimentSpec) -> tuple[Task, ...]:
    """The tasks with their prompts and references, cut to the number of prompts in the spec."""
    loaded = [tasks.load(name) for name in spec.tasks]
    names = [task.name for task in loaded]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two tasks are called {min(repeated)!r}: give their files different names")
    if spec.data:
        if len(loaded) > 1 and all(task.prompts for task in loaded):
            raise UsageError("every task has its own prompts: name the one that --data is for with --tasks")
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
                f"{task.name} has no list of its answers: write known = [...], add answers to its prompts, or "
                "give counts with --reference FILE"
            )
    return tuple(replace(task, prompts=task.prompts[: spec.prompts]) for task in loaded)


def _cells(
    spec: ExperimentSpec, loaded: tuple[Task, ...], resolved: list[Model], concurrency: int | None
) -> Iterator[GridCell]:
    number = 0
    for task in loaded:
        for name, model in zip(spec.models, resolved, strict=True):
            capability = spec.capability.get(name) if spec.axis == "capability" else None
            for arm in spec.arms:
                varied = varies(spec.axis, arm.method)
                for value in spec.values if varied else (capability,):
                    number += 1
                    parts = [f"{number:02}", task.name, arm.name, *([f"{spec.axis}-{value}"] if varied else [])]
                    wanted = spec.n or task.n
                    options = _options(spec, task, arm, value if varied else None, wanted)
                    if concurrency is not None:
                        options["concurrency"] = concurrency
                    yield GridCell(_slug(".".join(parts)), task, arm, model, value, wanted, options)


def _options(spec: ExperimentSpec, task: Task, arm: Arm, value: object, wanted: int) -> RunOptions:
    """The options of the run of one cell. The calls and turns of a method are those of table 1 of the paper."""
    method = METHODS[arm.method]
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
    if method.conversation and method.candidates_per_request == "one":
        # One conversation with a turn for each response. With n, repeated answers would begin another one.
        return cast(RunOptions, options | {"k": wanted})
    options |= {"n": wanted, "k": 1 if method.independent else k}
    if method.turns:
        options["turns"] = -(-wanted // k)
    return cast(RunOptions, options)


def _check(cell: GridCell) -> None:
    settings = cell.plan().settings
    capabilities = cell.model.capabilities
    if settings.seed is not None and not capabilities.seed:
        raise UsageError(f"{cell.model.name} takes no seed: leave the seed out, or name another model")
    if settings.extra and not capabilities.extra:
        names = ", ".join(settings.extra)
        raise UsageError(
            f"{cell.model.name} does not take the setting {names}: leave it out, or name another model"
        )
    if cell.arm.weights == "uniform" and cell.wanted % settings.k:
        raise UsageError(
            f"n ({cell.wanted}) must be a multiple of k ({settings.k}) for the arm {cell.arm.name}: otherwise its "
            "stated numbers, which are to be ignored, would decide which responses of the last call are kept"
        )


def _digest(task: Task) -> str:
    prompts = json_bytes([[prompt.id, prompt.prompt] for prompt in task.prompts])
    return f"{len(task.prompts)} prompts, {hashlib.sha256(prompts).hexdigest()[:16]}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:80]
