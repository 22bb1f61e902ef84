"""What an experiment is: the TOML file, checked, and what the command line puts in its place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.toml_library import TomlFile, TomlLibrary
from outspoken.settings import Settings
from outspoken.templates import METHODS

__all__ = ["AXES", "Arm", "ExperimentSpec", "load", "names"]

_LIBRARY = TomlLibrary("experiment", __package__)

_VERBALIZED = tuple(method for method in METHODS if method.startswith("vs-"))
AXES: Mapping[str, tuple[str, ...]] = {
    "k": ("sequence", *_VERBALIZED),
    "tau": _VERBALIZED,
    "template": _VERBALIZED,
    "temperature": METHODS,
    "top_p": METHODS,
    "min_p": METHODS,
    "words": METHODS,
    "max_tokens": METHODS,
    "capability": (),
}
"""What may vary over `values`, and the methods to which it means something: another method is asked once."""

_WEIGHTS = ("stated", "uniform")
_OF_ARM = ("name", "weights", "token_match")
# The grid says these itself.
_NOT_SETTINGS = ("method", "k", "turns")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to ask: a method with settings of its own.

    `weights` "uniform" says that its stated numbers are no probabilities and count for nothing. With
    `token_match` it asks on until it has used as many completion tokens for a prompt as that other arm, and what
    goes beyond is cut off.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "stated"
    token_match: str = ""

    @classmethod
    def read(cls, where: str, entry: Any) -> Arm:
        """From a method's name, or a table."""
        if isinstance(entry, str):
            entry = {"method": entry}
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: an arm must be a method's name or a table, not {entry!r}")
        known = (*_OF_ARM, *(name for name in Settings.__dataclass_fields__ if name != "turns"))
        for key in entry:
            if key not in known:
                raise UnknownNameError(f"key in an arm of {where}:", key, known)
        for key in (*_OF_ARM, "method"):
            if not isinstance(value := entry.get(key, ""), str):
                raise UsageError(f"{where}: {key} of an arm must be text, not {value!r}")
        if not entry.get("name", "-").strip():
            raise UsageError(f"{where}: an arm has an empty name: write one, or leave name out")
        own = {key: value for key, value in entry.items() if key not in (*_OF_ARM, "method")}
        method: str = entry.get("method", entry.get("name", "")) or ""
        if method not in METHODS:
            raise UnknownNameError(f"method in an arm of {where}:", method, METHODS)
        weights = entry.get("weights", "stated")
        if weights not in _WEIGHTS:
            raise UnknownNameError(f"weights in an arm of {where}:", weights, _WEIGHTS)
        return cls(entry.get("name") or method, method, own, weights, entry.get("token_match") or "")

    def to_dict(self) -> dict[str, Any]:
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

    `n` responses a prompt, by calls of `k` candidates (None: as the task says); `prompts` of each task (None: all
    of them); `settings` of every call. `axis` varies over `values`. `judge` names the model that judges quality
    by `rubric` ("": the task's own), `embedder` what embeds the texts. `capability` gives each model a number.
    `full` holds what `--full` puts in the place of the sizes.
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
    settings: Mapping[str, Any] = field(default_factory=dict)
    axis: str = ""
    values: tuple[Any, ...] = ()
    seed: int | None = None
    baseline: str = ""
    primary: str = ""
    judge: str = ""
    rubric: str = ""
    embedder: str = ""
    data: str = ""
    reference: str = ""
    capability: Mapping[str, float] = field(default_factory=dict)
    full: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arms = [arm.name for arm in self.arms]
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise UsageError(
                f"the experiment's name {self.name!r} becomes a folder's: write one of letters and digits, and of "
                "dots and hyphens after them"
            )
        if not self.tasks:
            raise UsageError(f'{self.name} has no tasks: write tasks = ["jokes"], or give --task')
        if not arms:
            raise UsageError(f'{self.name} has no arms: write arms = ["direct", "vs-standard"], or give --method')
        if twice := {name for name in arms if arms.count(name) > 1}:
            raise UsageError(f"two arms are called {min(twice)!r}: give each a name of its own")
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
                raise UsageError(f"[capability]: that of {model} must be a finite number, not {value!r}")
        if self.full:
            self.fullsize()  # its own checks

    def _check_arms(self, names: Sequence[str]) -> None:
        matched = {arm.name for arm in self.arms if arm.token_match}
        for arm in self.arms:
            if not arm.name.strip():
                raise UsageError("an arm has an empty name: give it one")
            if arm.token_match and arm.token_match not in names:
                raise UnknownNameError(f"token_match of the arm {arm.name}:", arm.token_match, names)
            if arm.token_match == arm.name:
                raise UsageError(f"the arm {arm.name} cannot be matched with itself")
            if arm.token_match in matched:
                raise UsageError(
                    f"the arm {arm.name} cannot be matched with {arm.token_match}, which is itself matched: name "
                    "one without token_match"
                )
            _check_settings(f"the arm {arm.name}", arm.method, arm.settings)

    def _check_axis(self) -> None:
        if not self.axis:
            if self.values:
                raise UsageError(f'{self.name} has values and no axis: write axis = "k", say')
            return
        if self.axis not in AXES:
            raise UnknownNameError("axis", self.axis, AXES)
        if self.axis == "capability":
            if self.values:
                raise UsageError("the axis capability takes its values from the table [capability]")
        elif not self.values:
            raise UsageError(f"the axis {self.axis} needs values = [...]")
        elif len({repr(value) for value in self.values}) < len(self.values):
            raise UsageError(f"the values of {self.axis} must differ from each other")
        elif not any(arm.method in AXES[self.axis] for arm in self.arms):
            raise UsageError(f"{self.axis} means nothing to any of the arms: add one of a vs- method")
        for value in self.values:
            if self.axis != "min_p":
                _check_settings("values", "vs-standard", {self.axis: value})
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"values: min_p must be a number from 0 to 1, not {value!r}")

    def fullsize(self) -> ExperimentSpec:
        """With the sizes of `full`. Raises `UsageError` where it says none."""
        if not self.full:
            raise UsageError(f"{self.name} has no table [full]: say the sizes with --n, -k and --prompts")
        sizes = _sizes(dict(self.full))
        own = sizes.pop("settings", {})
        if not isinstance(own, Mapping):
            raise UsageError(f"settings in [full] must be a table, not {own!r}")
        return replace(self, full={}, settings={**self.settings, **own}, **sizes)

    def changed(self, *, methods: Sequence[str] = (), **given: Any) -> ExperimentSpec:
        """With other values of its fields, where they are given (not None, not empty).

        `methods` keeps the arms of these names; one that is no arm is a method's name, and becomes one.
        """
        values = {name: value for name, value in given.items() if value is not None and value != ()}
        spec = self
        if methods:
            own = {arm.name: arm for arm in self.arms}
            arms = tuple(own.get(name) or Arm.read("--method", name) for name in methods)
            kept = {arm.name for arm in arms}
            spec = replace(spec, arms=arms, baseline=spec.baseline if spec.baseline in kept else "")
        return replace(spec, **values) if values else spec

    def to_dict(self) -> dict[str, Any]:
        """All fields but `full`, as they stand in the results."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "full"}
        return plain | {
            "tasks": list(self.tasks),
            "arms": [arm.to_dict() for arm in self.arms],
            "models": list(self.models),
            "values": list(self.values),
            "settings": dict(self.settings),
            "capability": dict(self.capability),
        }


def names() -> tuple[str, ...]:
    """The names of the experiments that ship with the package."""
    return _LIBRARY.names()


def load(name: str) -> ExperimentSpec:
    """A shipped experiment by its name, or a user's by its path, which ends in .toml.

    Paths in the file are relative to it. Raises `UsageError` where the file is not there or says something that no
    experiment has.
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
        arms=tuple(_rooted(Arm.read(where, entry), folder) for entry in table.pop("arms", ())),
        models=tuple(table.pop("models", ())),
        values=tuple(table.pop("values", ())),
        judge=quality.get("model", ""),
        rubric=_path(quality.get("rubric", ""), folder),
        full=full,
        **sizes,
        **table,
    )


def _check_settings(where: str, method: str, given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a value that a setting cannot have; a tau of 1 is none."""
    try:
        Settings(**{"method": method, **{key: given[key] for key in given if (key, given[key]) != ("tau", 1)}})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _sizes(table: dict[str, Any]) -> dict[str, Any]:
    """`prompts` may be "all"."""
    prompts = table.get("prompts")
    if isinstance(prompts, str):
        if prompts != "all":
            raise UsageError(f'prompts must be a whole number or "all", not {prompts!r}')
        table["prompts"] = None
    return table


def _path(name: str, folder: Path) -> str:
    return str(folder / name) if name.endswith(".toml") else name


def _rooted(arm: Arm, folder: Path) -> Arm:
    template = arm.settings.get("template")
    if isinstance(template, str):
        return replace(arm, settings={**arm.settings, "template": _path(template, folder)})
    return arm
