"""What a pipeline is: the TOML file, checked to its last key before anything is done."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.toml_library import TomlLibrary, parse
from outspoken.measure.embedding import embedder

__all__ = [
    "STEPS",
    "PipelineSpec",
    "PlannedStep",
    "ReportOptions",
    "load",
    "names",
    "options_of",
    "spec_text",
    "without_folders",
]

_LIBRARY = TomlLibrary("pipeline", __package__)

STEPS: Mapping[str, str] = {
    "generate": "GenerateOptions",
    "deduplicate": "DeduplicateOptions",
    "decontaminate": "DecontaminateOptions",
    "answer": "AnswerOptions",
    "verify": "VerifyOptions",
    "balance": "BalanceOptions",
    "export": "ExportOptions",
}
"""The steps, each a module of this package, and the class of its options."""

_KEYS = ("name", "about", "model", "seed", "input", "text", "report", "step")
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What the report measures: on how many records of each step, embedded by what (`none`: no embeddings)."""

    embedder: str = "minilm"
    sample: int = 2000

    def __post_init__(self) -> None:
        if self.embedder != "none":
            embedder(self.embedder)
        if self.sample < 2:
            raise UsageError(f"sample in [report] must be at least 2, not {self.sample}")


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as the spec has it: `do` is its name, or FILE.py:FUNCTION of the user's own, without `options`."""

    number: int
    do: str
    options: Any = None

    @property
    def name(self) -> str:
        """The beginning of the names of its files: 02-deduplicate."""
        return f"{self.number:02}-{self.do.rpartition(':')[2]}"

    @property
    def is_own(self) -> bool:
        return self.options is None

    def settings(self) -> dict[str, Any]:
        """All its options, as they stand in its manifest."""
        return (
            {} if self.options is None else {entry.name: getattr(self.options, entry.name) for entry in _own(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A pipeline: its steps in their order. `input` is a file of records for one that generates none, `text` the
    column that holds what they say, `folder` where the spec stands."""

    name: str
    about: str = ""
    model: str | None = None
    seed: int = 0
    input: Path | None = None
    text: str = "text"
    report: ReportOptions = ReportOptions()
    steps: tuple[PlannedStep, ...] = ()
    folder: Path = field(default_factory=Path)
    source: str = ""

    def step(self, name: str) -> PlannedStep:
        """The step of this name, with its number or without. Raises `UnknownNameError`."""
        for planned in self.steps:
            if name in (planned.name, planned.name.partition("-")[2], str(planned.number)):
                return planned
        raise UnknownNameError("step", name, [planned.name for planned in self.steps])

    def changed(
        self, *, model: str | None = None, count: int | None = None, seed: int | None = None
    ) -> PipelineSpec:
        """With another model for the steps that name none, another number of records, another seed."""
        spec = replace(self, model=model or self.model, seed=self.seed if seed is None else seed)
        if count is None:
            return spec
        if not any(planned.do == "generate" for planned in self.steps):
            raise UsageError(f"{self.name} generates nothing: leave the number of records out")
        return replace(
            spec,
            steps=tuple(
                replace(planned, options=replace(planned.options, count=count))
                if planned.do == "generate"
                else planned
                for planned in spec.steps
            ),
        )


def names() -> tuple[str, ...]:
    """The names of the specs that ship with the package."""
    return _LIBRARY.names()


def load(name: str) -> PipelineSpec:
    """A shipped spec by its name, or a user's by its path, which ends in .toml.

    Paths in the file are relative to it. Raises `UsageError` where the file is not there, and for whatever in it
    means nothing: an unknown key is told with the nearest one that there is.
    """
    file = _LIBRARY.find(name)
    return read(file.text, where=file.where, stem=file.stem, folder=file.folder)


def read(text: str, *, where: str, stem: str = "pipeline", folder: Path = Path()) -> PipelineSpec:
    """A spec from its text; `where` names it in errors, `stem` where it has no name."""
    table = parse(text, where)
    _known(table, _KEYS, f"key in {where}:")
    given = table.pop("step", None)
    if not isinstance(given, list) or not given:
        raise UsageError(f'{where} has no steps: write [[step]] and below it do = "generate"')
    report = table.pop("report", {})
    if not isinstance(report, dict):
        raise UsageError(f"{where}: [report] must be a table, not {report!r}")
    hints = get_type_hints(PipelineSpec)
    values = {
        key: _fitting(value, hints[key], f"{where}: {key}") for key, value in table.items() if key != "input"
    }
    if "input" in table:
        values["input"] = folder / str(table["input"])
    values.setdefault("name", stem)
    name = values["name"]
    if not name.strip() or name[0] == "." or not name.isprintable() or set("/\\") & {*name} or len(name) > 60:
        raise UsageError(f"{where}: the name {name[:100]!r} becomes a folder's: write a short one without slashes")
    steps = [_planned(number, entry, where, folder) for number, entry in enumerate(given, 1)]
    if sum(planned.do == "export" for planned in steps) > 1:
        raise UsageError(f"{where}: a pipeline exports once, into its folder export: give all formats to one step")
    if any(planned.do == "generate" for planned in steps[1:]):
        raise UsageError(f"{where}: generate begins a pipeline, and stands once in it")
    if steps[0].do == "generate" and "input" in values:
        raise UsageError(f"{where}: the first step generates, and the input would be for nothing: leave one out")
    if steps[0].do != "generate" and "input" not in values:
        raise UsageError(
            f"{where}: the first step, {steps[0].do}, needs records: put a step generate before it, or name a "
            'file with input = "records.jsonl"'
        )
    made = _options(ReportOptions, report, f"[report] of {where}", folder)
    return PipelineSpec(**values, report=made, steps=tuple(steps), folder=folder, source=text)


def options_of(do: str) -> type[Any]:
    """The class of a step's options."""
    if do not in STEPS:
        raise UnknownNameError("step", do, STEPS, see="or your own: mine.py:function")
    return getattr(importlib.import_module(f"{__package__}.steps.{do}"), STEPS[do])  # type: ignore[no-any-return]


def _planned(number: int, entry: Any, where: str, folder: Path) -> PlannedStep:
    if not isinstance(entry, dict) or not isinstance(entry.get("do"), str):
        raise UsageError(f'{where}: step {number} must say what to do: do = "deduplicate"')
    do = entry["do"]
    rest = {key: value for key, value in entry.items() if key != "do"}
    place = f"step {number} ({do}) of {where}"
    if ".py:" in do:
        file, _, function = do.rpartition(":")
        if rest:
            raise UsageError(f"{place}: a step of your own takes nothing beside do: leave {min(rest)} out")
        if not (folder / file).is_file():
            raise UsageError(f"{place}: there is no file {folder / file}")
        if not function.isidentifier():
            raise UsageError(f"{place}: write the file and the function in it: mine.py:function")
        return PlannedStep(number, f"{folder / file}:{function}")
    return PlannedStep(number, do, _options(options_of(do), rest, place, folder))


def _options(kind: type[Any], given: Mapping[str, Any], place: str, folder: Path) -> Any:
    """Options of this class from a table. Its field `asking` takes the settings of a run, where it has one."""
    hints = get_type_hints(kind)
    entries = {entry.name: entry for entry in fields(kind)}
    asking = tuple(getattr(kind, "ASKING", ()))
    _known(given, (*(name for name in entries if name != "asking"), *asking), f"key in {place}:")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in entries:
            values[key] = _path(entries[key], _fitting(value, hints[key], f"{place}: {key}"), folder)
        else:
            is_file = key == "prices" or (key == "template" and str(value).endswith(".toml"))
            values.setdefault("asking", {})[key] = str(folder / value) if is_file else value
    try:
        return kind(**values)
    except UsageError as error:
        raise type(error)(f"{place}: {error}") if type(error) is UsageError else error from error


def _path(entry: Field[Any], value: Any, folder: Path) -> Any:
    """A path of the spec is relative to it, and so is the file in FILE.py:FUNCTION."""
    if not entry.metadata.get("path"):
        return value
    if isinstance(value, tuple):
        return tuple(str(folder / each) for each in value)
    return str(folder / value) if isinstance(value, str) and value else value


def _fitting(value: Any, kind: Any, place: str) -> Any:
    """A value of TOML as the option's type wants it."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for each in kinds:
        origin = get_origin(each) or each
        if origin is tuple and isinstance(value, list):
            inner = get_args(each)[0]
            return tuple(_fitting(item, inner, f"{place}[{at}]") for at, item in enumerate(value, 1))
        if origin in (dict, Mapping) and isinstance(value, dict):
            return value
        if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if origin in (str, int, bool) and type(value) is origin:
            return value
    wanted = [_KINDS.get(each, "a list of texts" if get_origin(each) is tuple else "a table") for each in kinds]
    told = " or ".join(
        dict.fromkeys(name for name, each in zip(wanted, kinds, strict=True) if each is not type(None))
    )
    raise UsageError(f"{place} must be {told}, not {value!r}")


def _known(given: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    for key in given:
        if key not in known:
            raise UnknownNameError(kind, key, known)


def _own(planned: PlannedStep) -> tuple[Field[Any], ...]:
    return fields(planned.options)


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def spec_text(name: str, source: str | None, steps: Sequence[Mapping[str, Any]], text: str = "text") -> str:
    """The spec of these manifests, with all settings; None is left out, as TOML has no word for it.

    `source` is the file of records that they began with, `text` its column; the last step's model and seed are the
    pipeline's. Paths are told by their last part alone.
    """
    lines = [f"name = {_written(name)}"]
    if steps[-1].get("model"):
        lines.append(f"model = {_written(steps[-1]['model'])}")
    lines.append(f"seed = {int(steps[-1].get('seed') or 0)}")
    if source:
        lines += [f"input = {_written(source)}", f"text = {_written(text)}"]
    for manifest in steps:
        lines += ["", "[[step]]", f"do = {_written(without_folders(str(manifest.get('do', ''))))}"]
        settings = dict(manifest.get("settings") or {})
        settings |= settings.pop("asking", None) or {}
        lines += [
            f"{_key(key)} = {_written(without_folders(value))}"
            for key, value in settings.items()
            if value is not None and value != {}
        ]
    return "\n".join(lines) + "\n"


def without_folders(value: Any) -> Any:
    """A path that stands on this machine without the folders before its name, as they are nobody's business."""
    if isinstance(value, list | tuple):
        return [without_folders(each) for each in value]
    if isinstance(value, str) and os.path.isabs(value):
        file, colon, function = value.rpartition(".py:")
        try:
            is_there = Path(f"{file}.py" if colon else value).exists()
        except (OSError, ValueError):
            is_there = False
        if is_there:
            return Path(file).name + colon + function if colon else Path(value).name
    return value


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else f'"{_escaped(key)}"'


def _written(value: Any) -> str:
    """A value in TOML; a text of several lines stands as such."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{_key(str(key))} = {_written(each)}" for key, each in value.items() if each is not None
        )
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(each) for each in value if each is not None)}]"
    lines = [_escaped(line) for line in str(value).split("\n")]
    return f'"{lines[0]}"' if len(lines) == 1 else '"""\n' + "\n".join(lines) + '"""'


def _escaped(line: str) -> str:
    return json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
