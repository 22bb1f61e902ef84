"""The specification of an experiment: read from a TOML file, checked, and changed by the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.dataclass_json import to_json
from outspoken.io.toml_library import TomlFile, TomlLibrary
from outspoken.methods.table import METHODS, Method, find
from outspoken.settings import Settings

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
_ARM_KEYS = ("name", "weights", "token_match")
# The grid sets these itself.
_NOT_SETTINGS = ("method", "k", "turns")


def varies(axis: str, method: str) -> bool:
    """Whether the setting that varies applies to a method; a method to which it does not is asked once."""
    return axis in _AXES and _AXES[axis](METHODS[method])


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking: a method with its own settings.

    With `weights` "uniform", the stated numbers are no probabilities, and all responses have equal weights. With
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
        known = (*_ARM_KEYS, *(name for name in Settings.__dataclass_fields__ if name != "turns"))
        for key in entry:
            if key not in known:
                raise UnknownNameError(f"key in an arm of {where}:", key, known)
        for key in (*_ARM_KEYS, "method"):
            if not isinstance(value := entry.get(key, ""), str):
                raise UsageError(f"{where}: {key} of an arm must be text, not {value!r}")
        if not entry.get("name", "-").strip():
            raise UsageError(f"{where}: an arm has an empty name: write one, or leave name out")
        settings = {key: value for key, value in entry.items() if key not in (*_ARM_KEYS, "method")}
        method: str = entry.get("method", entry.get("name", "")) or ""
        try:
            find(method)
        except UnknownNameError:
            raise UnknownNameError(f"method in an arm of {where}:", method, METHODS) from None
        weights = entry.get("weights", "stated")
        if weights not in _WEIGHTS:
            raise UnknownNameError(f"weights in an arm of {where}:", weights, _WEIGHTS)
        return cls(entry.get("name") or method, method, settings, weights, entry.get("token_match") or "")

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        return {
            "name": self.name,
            "method": self.method,
            **self.settings,
            "weights": self.weights,
            "token_match": self.token_match,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """An experiment: a grid of tasks, arms, models and values of one setting.

    Each prompt is asked for `n` responses in calls of `k` candidates (None: as the task says). `prompts` is the
    number of prompts of each task (None: all), `settings` are those of every call. The setting `axis` varies over
    `values`. `baseline` is the arm that the others are compared with, `primary` the measure of interest. The model
    `judge` scores the quality by `rubric` ("": that of the task), `embedder` names the embedding model. `data` is
    a file of prompts, `reference` a file of counts. `capability` is a number for each model. `full` holds the
    sizes that `--full` uses.

    Raises `UsageError` for an invalid experiment.
    """

    name: str
    title: str = ""
    about: str = ""
    tasks: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    models: tuple[str, ...] = ()
    n: int | None = None
    k: int | None = None
    prompts: int | None = None
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
        if repeated := {name for name in arms if arms.count(name) > 1}:
            raise UsageError(f"two arms are called {min(repeated)!r}: give them different names")
        for name in ("n", "k", "prompts"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number from 1, not {value!r}")
        self._check_axis()
        self._check_arms(arms)
        if self.baseline and self.baseline not in arms:
            raise UnknownNameError("baseline", self.baseline, arms)
        for name in self.settings:
            if name in _NOT_SETTINGS or name not in Settings.__dataclass_fields__:
                known = [each for each in Settings.__dataclass_fields__ if each not in _NOT_SETTINGS]
                raise UnknownNameError("setting", name, known)
        _check_settings("[settings]", "vs-standard", self.settings)
        for model, value in self.capability.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"[capability]: the number of {model} must be finite, not {value!r}")
        if self.full:
            self.fullsize()  # checks the sizes

    def _check_arms(self, names: Sequence[str]) -> None:
        matched = {arm.name for arm in self.arms if arm.token_match}
        for arm in self.arms:
            if not arm.name.strip():
                raise UsageError("an arm has an empty name: write one")
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
        sizes = _sizes(dict(self.full))
        settings = sizes.pop("settings", {})
        if not isinstance(settings, Mapping):
            raise UsageError(f"settings in [full] must be a table, not {settings!r}")
        return replace(self, full={}, settings={**self.settings, **settings}, **sizes)

    def changed(self, *, methods: Sequence[str] = (), **fields_given: Any) -> ExperimentSpec:
        """The experiment with other values of its fields; None and () leave a field as it is.

        `methods` selects the arms with these names; other names are those of methods, which become arms.
        """
        values = {name: value for name, value in fields_given.items() if value is not None and value != ()}
        spec = self
        if methods:
            by_name = {arm.name: arm for arm in self.arms}
            arms = tuple(by_name.get(name) or Arm.read("--methods", name) for name in methods)
            baseline = spec.baseline if spec.baseline in {arm.name for arm in arms} else ""
            spec = replace(spec, arms=arms, baseline=baseline)
        return replace(spec, **values) if values else spec

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


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("tasks", "arms", "models", "values"), list),
    **dict.fromkeys(("n", "k", "seed"), int),
    **dict.fromkeys(("settings", "capability", "quality", "full"), dict),
    **dict.fromkeys(
        ("name", "title", "about", "axis", "baseline", "primary", "embedder", "data", "reference"), str
    ),
    "prompts": (int, str),
}


def _read(file: TomlFile) -> ExperimentSpec:
    where, folder, table = file.where, file.folder, file.table()
    for key, value in table.items():
        if key not in _TYPES:
            raise UnknownNameError(f"key in {where}:", key, _TYPES)
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise UsageError(f"{where}: {key} has the wrong kind of value: {value!r}")
    table.setdefault("name", file.stem)
    quality = table.pop("quality", {})
    for key in quality:
        if key not in ("model", "rubric"):
            raise UnknownNameError(f"key in [quality] of {where}:", key, ("model", "rubric"))
        if not isinstance(quality[key], str):
            raise UsageError(f"{where}: {key} in [quality] must be text, not {quality[key]!r}")
    for key in ("tasks", "models"):
        if wrong := [entry for entry in table.get(key, ()) if not isinstance(entry, str)]:
            raise UsageError(f"{where}: {key} must be texts, not {wrong[0]!r}")
    for key in ("data", "reference"):
        if key in table:
            table[key] = str(folder / table[key])
    sizes = _sizes({key: table.pop(key) for key in ("n", "k", "prompts") if key in table})
    full = table.pop("full", {})
    for key in full:
        if key not in ("n", "k", "prompts", "settings"):
            raise UnknownNameError(f"key in [full] of {where}:", key, ("n", "k", "prompts", "settings"))
    return ExperimentSpec(
        tasks=tuple(_path(task, folder) for task in table.pop("tasks", ())),
        arms=tuple(_with_paths(Arm.read(where, entry), folder) for entry in table.pop("arms", ())),
        models=tuple(table.pop("models", ())),
        values=tuple(table.pop("values", ())),
        judge=quality.get("model", ""),
        rubric=_path(quality.get("rubric", ""), folder),
        full=full,
        **sizes,
        **table,
    )


def _check_settings(where: str, method: str, settings: Mapping[str, object]) -> None:
    """Raise `UsageError` for invalid settings. A tau of 1 stands for no threshold."""
    try:
        given = {name: value for name, value in settings.items() if (name, value) != ("tau", 1)}
        Settings.read({"method": method, **given})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _sizes(table: dict[str, Any]) -> dict[str, Any]:
    """The sizes in a table, in which `prompts` may be "all"."""
    prompts = table.get("prompts")
    if isinstance(prompts, str):
        if prompts != "all":
            raise UsageError(f'prompts must be a whole number or "all", not {prompts!r}')
        table["prompts"] = None
    return table


def _path(name: str, folder: Path) -> str:
    return str(folder / name) if name.endswith(".toml") else name


def _with_paths(arm: Arm, folder: Path) -> Arm:
    template = arm.settings.get("template")
    if isinstance(template, str):
        return replace(arm, settings={**arm.settings, "template": _path(template, folder)})
    return arm
