"""The specification of an experiment: read from a TOML file, checked, and changed by the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError, errors_at
from outspoken.io.dataclass_json import to_json
from outspoken.io.toml_library import TomlFile, TomlLibrary, check_table
from outspoken.methods.table import METHODS, Method, find
from outspoken.settings import Settings, check_values, option

__all__ = ["Arm", "ExperimentSpec", "load", "names", "varies"]

_LIBRARY = TomlLibrary("experiment", __package__)

_AXES: Mapping[str, Callable[[Method], bool]] = {
    "k": lambda method: method.candidates_per_request == "k",
    **dict.fromkeys(("tau", "template"), lambda method: method.states_probabilities),
    **dict.fromkeys(("temperature", "top_p", "min_p", "words", "max_tokens"), lambda _: True),
    "capability": lambda _: False,
}
"""The settings that may vary, and whether they apply to a method."""

_WEIGHTS = ("stated", "uniform")
# The grid sets the method, k and the turns itself.
_SETTINGS = [name for name in Settings.__dataclass_fields__ if name not in ("method", "k", "turns")]
_ARM_TEXTS = ("name", "method", "weights", "token_match")
_ARM_KEYS: Mapping[str, type | None] = dict.fromkeys((*_SETTINGS, "k")) | dict.fromkeys(_ARM_TEXTS, str)


def varies(axis: str, method: str) -> bool:
    """Whether the setting that varies applies to a method. If it does not, the method is asked once."""
    return axis in _AXES and _AXES[axis](METHODS[method])


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking: a method with its own settings.

    With `weights` "uniform", the stated numbers are ignored, and all responses have equal weights. With
    `token_match`, the arm is asked until it has used as many completion tokens for each prompt as the arm of that
    name; the responses beyond that are removed.
    """

    name: str
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    weights: str = "stated"
    token_match: str = ""

    @classmethod
    def read(cls, where: str, entry: object) -> Arm:
        """An arm from the name of a method, or a table; `where` names the file in errors. Raises `UsageError`."""
        if isinstance(entry, str):
            entry = {"method": entry}
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: an arm must be a method's name or a table, not {entry!r}")
        check_table(entry, _ARM_KEYS, f"an arm of {where}")
        method: str = entry.get("method") or entry.get("name") or ""
        with errors_at(f"an arm of {where}"):
            find(method)
        weights = entry.get("weights", "stated")
        if weights not in _WEIGHTS:
            raise UnknownNameError(f"weights in an arm of {where}:", weights, _WEIGHTS)
        settings = {key: value for key, value in entry.items() if key not in _ARM_TEXTS}
        return cls(entry.get("name", method), method, settings, weights, entry.get("token_match", ""))

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        entry = to_json(self)
        return {**entry.pop("settings"), **entry}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """An experiment: a grid of tasks, arms, models and values of one setting.

    Each prompt is asked for `n` responses in calls of `k` candidates (None: the numbers of the task). `prompts` is
    the number of prompts of each task (None: all), `settings` are those of every call. The setting `axis` varies
    over `values`. `baseline` is the arm that the others are compared with, `primary` the measure of interest. The
    model `judge` scores the quality by `rubric` ("": that of the task), `embedder` names the embedding model.
    `data` is a file of prompts, `reference` a file of counts. `capability` is a number for each model. `full`
    holds the sizes that `--full` uses.

    Raises `UsageError` for an invalid experiment.
    """

    name: str
    title: str = ""
    about: str = ""
    tasks: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    models: tuple[str, ...] = ()
    n: int | None = option(None, "Responses to each prompt.", low=1)
    k: int | None = option(None, "Candidates per call.", low=1)
    prompts: int | None = option(None, "Prompts of each task.", low=1)
    settings: Mapping[str, object] = field(default_factory=dict)
    axis: str = ""
    values: tuple[object, ...] = ()
    seed: int | None = None
    baseline: str = ""
    primary: str = ""
    judge: str = ""
    rubric: str = ""
    embedder: str = ""
    data: str = ""
    reference: str = ""
    capability: Mapping[str, float] = field(default_factory=dict)
    full: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arms = [arm.name for arm in self.arms]
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise UsageError(
                f"the experiment's name {self.name!r} becomes the name of a folder: start with a letter or digit, "
                "and use only letters, digits, dots and hyphens"
            )
        if not self.tasks:
            raise UsageError(f'{self.name} has no tasks: write tasks = ["jokes"], or give --tasks')
        if not arms:
            raise UsageError(f'{self.name} has no arms: write arms = ["direct", "vs-standard"], or give --methods')
        check_values(self)
        self._check_axis()
        self._check_arms(arms)
        if self.baseline and self.baseline not in arms:
            raise UnknownNameError("baseline", self.baseline, arms)
        if unknown := [name for name in self.settings if name not in _SETTINGS]:
            raise UnknownNameError("setting", unknown[0], _SETTINGS)
        _check_settings("[settings]", "vs-standard", self.settings)
        for model, value in self.capability.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"[capability]: the number of {model} must be finite, not {value!r}")
        if self.full:
            self.fullsize()  # checks the sizes

    def _check_arms(self, names: Sequence[str]) -> None:
        matched = {arm.name for arm in self.arms if arm.token_match}
        for arm in self.arms:
            if names.count(arm.name) > 1:
                raise UsageError(f"two arms are called {arm.name!r}: give them different names")
            if not arm.name.strip():
                raise UsageError(f"{self.name}: an arm has an empty name: write one, or leave name out")
            if arm.token_match and arm.token_match not in names:
                raise UnknownNameError(f"token_match of the arm {arm.name}:", arm.token_match, names)
            if arm.token_match == arm.name:
                raise UsageError(f"the arm {arm.name} cannot be matched with itself")
            if arm.token_match in matched:
                raise UsageError(
                    f"the arm {arm.name} cannot be matched with {arm.token_match}, which is itself matched: name "
                    "an arm without token_match"
                )
            _check_settings(f"the arm {arm.name}", arm.method, arm.settings)

    def _check_axis(self) -> None:
        if not self.axis:
            if self.values:
                raise UsageError(f'{self.name} has values but no axis: write axis = "k", for example')
            return
        if self.axis not in _AXES:
            raise UnknownNameError("axis", self.axis, _AXES)
        if self.axis == "capability":
            if self.values:
                raise UsageError("the axis capability takes its values from the table [capability]")
        elif not self.values:
            raise UsageError(f"the axis {self.axis} needs values = [...]")
        elif len({repr(value) for value in self.values}) < len(self.values):
            raise UsageError(f"the values of {self.axis} must differ from each other")
        elif not any(varies(self.axis, arm.method) for arm in self.arms):
            raise UsageError(f"{self.axis} applies to none of the arms: add one with a vs- method")
        for value in self.values:
            if self.axis != "min_p":
                _check_settings("values", "vs-standard", {self.axis: value})
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"values: min_p must be a number from 0 to 1, not {value!r}")

    def fullsize(self) -> ExperimentSpec:
        """The experiment with the sizes of `full`. Raises `UsageError` if there are none."""
        if not self.full:
            raise UsageError(f"{self.name} has no table [full]: give the sizes with -n, -k and --prompts")
        sizes = _sizes(self.full)
        check_table(sizes, _SIZES, "[full]")
        settings = {**self.settings, **sizes.pop("settings", {})}
        return replace(self, full={}, settings=settings, **sizes)

    def changed(self, *, methods: Sequence[str] = (), **fields_given: Any) -> ExperimentSpec:
        """The experiment with other values of its fields; None and () leave a field as it is.

        `methods` selects the arms with these names; other names are those of methods, which become arms.
        """
        values = {name: value for name, value in fields_given.items() if value is not None and value != ()}
        if methods:
            by_name = {arm.name: arm for arm in self.arms}
            arms = tuple(by_name.get(name) or Arm.read("--methods", name) for name in methods)
            baseline = self.baseline if self.baseline in {arm.name for arm in arms} else ""
            values = {"arms": arms, "baseline": baseline, **values}
        return replace(self, **values)

    def to_dict(self) -> dict[str, object]:
        """All fields except `full`, in JSON values."""
        document: dict[str, object] = to_json(self, methods=True)
        del document["full"]
        return document


def names() -> tuple[str, ...]:
    """The names of the experiments that ship with the package."""
    return _LIBRARY.names()


def load(name: str) -> ExperimentSpec:
    """A shipped experiment by its name, or a user's by its path, which ends in .toml.

    Paths in the file are relative to it. Raises `UsageError` if the file does not exist or is invalid.
    """
    return _read(_LIBRARY.find(name))


_SIZES: Mapping[str, type | None] = {"n": int, "k": int, "prompts": None, "settings": dict}
_KEYS: Mapping[str, type | None] = {
    **dict.fromkeys(("tasks", "arms", "models", "values"), list),
    **dict.fromkeys(("name", "title", "about", "axis", "baseline", "primary"), str),
    **dict.fromkeys(("embedder", "data", "reference"), str),
    **dict.fromkeys(("capability", "quality", "full"), dict),
    "seed": int,
    **_SIZES,
}


def _read(file: TomlFile) -> ExperimentSpec:
    where, folder, table = file.where, file.folder, _sizes(file.table())
    check_table(table, _KEYS, where)
    for key in ("tasks", "models"):
        if wrong := [entry for entry in table.get(key, ()) if not isinstance(entry, str)]:
            raise UsageError(f"{where}: {key} must be texts, not {wrong[0]!r}")
    for key in ("data", "reference"):
        if key in table:
            table[key] = str(folder / table[key])
    quality = table.pop("quality", {})
    check_table(quality, {"model": str, "rubric": str}, f"[quality] of {where}")
    table |= {key: tuple(table.get(key, ())) for key in ("models", "values")}
    table["tasks"] = tuple(_path(task, folder) for task in table.get("tasks", ()))
    table["arms"] = tuple(_with_paths(Arm.read(where, entry), folder) for entry in table.get("arms", ()))
    table["judge"], table["rubric"] = quality.get("model", ""), _path(quality.get("rubric", ""), folder)
    return ExperimentSpec(**{"name": file.stem} | table)


def _check_settings(where: str, method: str, settings: Mapping[str, object]) -> None:
    """Raise `UsageError` for invalid settings. A tau of 1 stands for no threshold."""
    given = {name: value for name, value in settings.items() if (name, value) != ("tau", 1)}
    with errors_at(where):
        Settings.read({"method": method, **given})


def _sizes(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table, with None instead of "all" `prompts`."""
    prompts = table.get("prompts")
    if isinstance(prompts, str) and prompts != "all":
        raise UsageError(f'prompts must be a whole number or "all", not {prompts!r}')
    return {**table, **({"prompts": None} if prompts == "all" else {})}


def _path(name: str, folder: Path) -> str:
    return str(folder / name) if name.endswith(".toml") else name


def _with_paths(arm: Arm, folder: Path) -> Arm:
    template = arm.settings.get("template")
    if isinstance(template, str):
        return replace(arm, settings={**arm.settings, "template": _path(template, folder)})
    return arm
