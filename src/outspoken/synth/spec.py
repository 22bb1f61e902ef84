"""The spec of a pipeline, a TOML file that is checked completely before any step is done; the table of steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.toml_library import TomlLibrary, parse
from outspoken.measure.embedding import embedder
from outspoken.settings import check_values, option
from outspoken.synth.manifest import StepManifest
from outspoken.synth.steps import answer, balance, decontaminate, deduplicate, export, generate, verify
from outspoken.synth.steps.base import Step, StepOptions, StepOutcome
from outspoken.synth.steps.generate import GenerateOptions

__all__ = ["STEPS", "PipelineSpec", "PlannedStep", "ReportOptions", "digest", "load", "names", "read", "step_key"]

_LIBRARY = TomlLibrary("pipeline", __package__)
_KEYS = ("name", "about", "model", "seed", "input", "text", "report", "step")
_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts"}

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class StepKind:
    """The `name` of a step in specs, the class of its `options`, and the function that does its work."""

    name: str
    options: type[StepOptions]
    run: Callable[[Any, Step], Awaitable[StepOutcome]]


STEPS: Mapping[str, StepKind] = {
    row.name: row
    for row in (
        StepKind("generate", generate.GenerateOptions, generate.run),
        StepKind("deduplicate", deduplicate.DeduplicateOptions, deduplicate.run),
        StepKind("decontaminate", decontaminate.DecontaminateOptions, decontaminate.run),
        StepKind("answer", answer.AnswerOptions, answer.run),
        StepKind("verify", verify.VerifyOptions, verify.run),
        StepKind("balance", balance.BalanceOptions, balance.run),
        StepKind("export", export.ExportOptions, export.run),
    )
}
"""All steps by name, in the usual order. A row makes a step known to specs, pipelines and `synth --steps`."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The embedding model of the report (`none`: no embeddings), and the size of its sample of each step."""

    embedder: str = "minilm"
    sample: int = option(2000, "Records of each step that are measured, at most.", low=2)

    def __post_init__(self) -> None:
        check_values(self)
        if self.embedder != "none":
            embedder(self.embedder)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a spec: `do` is its name, or FILE.py:FUNCTION for a custom step, which has no `options`."""

    number: int
    do: str
    options: StepOptions | None = None

    @property
    def name(self) -> str:
        """Its number and name, with which its file names begin: 02-deduplicate."""
        return f"{self.number:02}-{self.do.rpartition(':')[2]}"

    @property
    def is_custom(self) -> bool:
        return self.options is None

    def settings(self) -> dict[str, object]:
        """All options by name."""
        options = self.options
        return {} if options is None else {entry.name: getattr(options, entry.name) for entry in fields(options)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A pipeline and its steps in order.

    `input` is a file of records instead of generated ones, `text` the column of their text. `folder` is the folder
    of the spec, `source` its TOML.
    """

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

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that the steps run, as FILE.py:FUNCTION: code of whoever wrote them, with full rights.

        Reading a spec imports none of their files.
        """
        values = [value for planned in self.steps for value in (planned.do, *planned.settings().values())]
        return tuple(dict.fromkeys(value for value in values if isinstance(value, str) and ".py:" in value))

    def step(self, name: str) -> PlannedStep:
        """The step of this name, with or without its number. Raises `UnknownNameError`."""
        for planned in self.steps:
            if name in (planned.name, planned.name.partition("-")[2], str(planned.number)):
                return planned
        raise UnknownNameError("step", name, [planned.name for planned in self.steps])

    def changed(
        self, *, model: str | None = None, count: int | None = None, seed: int | None = None
    ) -> PipelineSpec:
        """The spec with another default model, another number of records to generate, another seed."""
        spec = replace(self, model=model or self.model, seed=self.seed if seed is None else seed)
        if count is None:
            return spec
        first, *others = spec.steps
        if not isinstance(first.options, GenerateOptions):
            raise UsageError(f"{self.name} generates nothing: leave the number of records out")
        return replace(spec, steps=(replace(first, options=replace(first.options, count=count)), *others))


def names() -> tuple[str, ...]:
    """The names of the specs that ship with the package."""
    return _LIBRARY.names()


def load(name: str) -> PipelineSpec:
    """A shipped spec by its name, or a user's by its path, which ends in .toml.

    Paths in the file are relative to it. Raises `UsageError` for a file that cannot be read and for any mistake in
    it; unknown keys are reported with the closest match.
    """
    file = _LIBRARY.find(name)
    return read(file.text, where=file.where, stem=file.stem, folder=file.folder)


def read(text: str, *, where: str, stem: str = "pipeline", folder: Path = Path()) -> PipelineSpec:
    """The spec in a text. `where` names it in errors; `stem` is its name unless the text gives one."""
    table = parse(text, where)
    _check_keys(table, _KEYS, f"key in {where}:")
    step_tables = table.pop("step", None)
    if not isinstance(step_tables, list) or not step_tables:
        raise UsageError(f'{where} has no steps: write [[step]] and below it do = "generate"')
    report = table.pop("report", {})
    if not isinstance(report, dict):
        raise UsageError(f"{where}: [report] must be a table, not {report!r}")
    hints = get_type_hints(PipelineSpec)
    source = table.pop("input", None)
    values = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in table.items()}
    if source is not None:
        values["input"] = folder / str(source)
    name = values.setdefault("name", stem)
    if not name.strip() or name[0] == "." or not name.isprintable() or set("/\\") & {*name} or len(name) > 60:
        raise UsageError(f"{where}: the name {name[:100]!r} is also the folder's: use a short one without slashes")
    steps = [_planned(number, entry, where, folder) for number, entry in enumerate(step_tables, 1)]
    _check_order(steps, where, has_input="input" in values)
    report_options = _options(ReportOptions, report, f"[report] of {where}", folder)
    return PipelineSpec(**values, report=report_options, steps=tuple(steps), folder=folder, source=text)


def _check_order(steps: list[PlannedStep], where: str, *, has_input: bool) -> None:
    if sum(planned.do == "export" for planned in steps) > 1:
        raise UsageError(f"{where}: a pipeline exports once, into its folder export: give all formats to one step")
    if any(planned.do == "generate" for planned in steps[1:]):
        raise UsageError(f"{where}: generate begins a pipeline: it must be the first step, and occur once")
    if steps[0].do == "generate" and has_input:
        raise UsageError(f"{where}: the first step generates, so the input would not be used: leave one out")
    if steps[0].do != "generate" and not has_input:
        raise UsageError(
            f"{where}: the first step, {steps[0].do}, needs records: put a step generate before it, or name a "
            'file with input = "records.jsonl"'
        )


def _planned(number: int, table: object, where: str, folder: Path) -> PlannedStep:
    if not isinstance(table, dict) or not isinstance(table.get("do"), str):
        raise UsageError(f'{where}: step {number} must say what to do: do = "deduplicate"')
    do = table["do"]
    options = {key: value for key, value in table.items() if key != "do"}
    place = f"step {number} ({do}) of {where}"
    if ".py:" in do:
        file, _, function = do.rpartition(":")
        if options:
            raise UsageError(f"{place}: a custom step has no options beside do: leave {min(options)} out")
        if not (folder / file).is_file():
            raise UsageError(f"{place}: there is no file {folder / file}")
        if not function.isidentifier():
            raise UsageError(f"{place}: write the file and the function in it: mine.py:function")
        return PlannedStep(number, f"{folder / file}:{function}")
    if do not in STEPS:
        raise UnknownNameError("step", do, STEPS, see="or your own: mine.py:function")
    return PlannedStep(number, do, _options(STEPS[do].options, options, place, folder))


def _options(kind: type[OptionsT], table: Mapping[str, object], place: str, folder: Path) -> OptionsT:
    """Options of this class from a table. Settings of a batch run are put into its field `asking`."""
    hints = get_type_hints(kind)
    entries = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    run_settings = kind.ASKING if issubclass(kind, StepOptions) else ()
    _check_keys(table, [*(name for name in entries if name != "asking"), *run_settings], f"key in {place}:")
    values: dict[str, object] = {}
    asking: dict[str, object] = {}
    for key, value in table.items():
        if key in entries:
            values[key] = _path(entries[key], _convert(value, hints[key], f"{place}: {key}"), folder)
        else:
            is_file = key == "prices" or (key == "template" and str(value).endswith(".toml"))
            asking[key] = str(folder / str(value)) if is_file else value
    if asking:
        values["asking"] = asking
    try:
        return kind(**values)
    except UsageError as error:
        raise type(error)(f"{place}: {error}") if type(error) is UsageError else error from error


def _path(entry: Field[Any], value: Any, folder: Path) -> Any:
    """The value of an option with its paths, also that of FILE.py:FUNCTION, relative to the spec's folder."""
    if not entry.metadata.get("path"):
        return value
    if isinstance(value, tuple):
        return tuple(str(folder / each) for each in value)
    return str(folder / value) if isinstance(value, str) and value else value


def _convert(value: Any, kind: Any, place: str) -> Any:
    """A TOML value as the type of an option. Raises `UsageError` for a value of another type."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for each in kinds:
        origin = get_origin(each) or each
        if origin is tuple and isinstance(value, list):
            inner = get_args(each)[0]
            return tuple(_convert(item, inner, f"{place}[{at}]") for at, item in enumerate(value, 1))
        if origin in (dict, Mapping) and isinstance(value, dict):
            return value
        if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if origin in (str, int, bool) and type(value) is origin:
            return value
    expected = [_TYPES.get(get_origin(each) or each, "a table") for each in kinds if each is not NoneType]
    raise UsageError(f"{place} must be {' or '.join(dict.fromkeys(expected))}, not {value!r}")


def _check_keys(table: Mapping[str, object], known: Collection[str], kind: str) -> None:
    for key in table:
        if key not in known:
            raise UnknownNameError(kind, key, known)


_FORMAT = 1


def digest(value: object) -> str:
    """32 hexadecimal digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def step_key(planned: PlannedStep, spec: PipelineSpec, before: StepManifest | None) -> str:
    """The digest of the step's settings, the files that they name, and the step `before` it.

    Raises `UsageError` if one of the files cannot be read.
    """
    return digest(
        {
            "format": _FORMAT,
            "do": planned.do.rpartition(":")[2],
            "settings": planned.settings(),
            "files": [_file_digest(path) for path in _files(planned, spec)],
            "seed": spec.seed,
            "model": spec.model,
            "text": spec.text if before is None else "",
            "source": None if before is None else [before.key, before.files],
        }
    )


def _files(planned: PlannedStep, spec: PipelineSpec) -> list[str]:
    if planned.options is None:
        return [planned.do.rpartition(":")[0]]
    values: list[object] = [str(spec.input)] if spec.input and planned.number == 1 else []
    values += [
        getattr(planned.options, entry.name) for entry in fields(planned.options) if "path" in entry.metadata
    ]
    names = [name for value in values for name in (value if isinstance(value, tuple) else (value,))]
    asking = getattr(planned.options, "asking", {})
    names += [asking.get("template"), asking.get("prices")]
    return [name for name in names if isinstance(name, str) and name]


def _file_digest(path: str) -> str:
    file = Path(path.rpartition(":")[0] if ".py:" in path else path)
    if not file.is_file():
        return ""  # the step reports a missing file; a rubric may be one that ships with the package
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): the spec names it") from error
