"""The manifest of a step, a JSON file that alone decides whether the step is done again; manifests as a spec."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outspoken.io.atomic import write_bytes
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import json_bytes
from outspoken.synth.steps.base import StepCost, StepFiles

__all__ = ["StepManifest", "spec_text", "without_folders"]

_REQUIRED = {"step", "key", "files", "kept", "records", "removed", "figures", "warnings", "partly", "seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepManifest:
    """The settings, the inputs and the results of a step.

    `do` is its name, or FILE.py:FUNCTION; `settings` are its options, `seed` and `model` those that it used (None:
    no model), `source` the file that it read. `key` is the digest of everything its records depend on, see
    `step_key`. Of `records` it `kept` some and `removed` others, by reason; `figures` are further results.
    `partly` says why it is not finished ("" if it is). `files` are the sizes of its files; times are in ISO 8601.
    """

    step: str
    do: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    model: str | None = None
    source: str | None = None
    key: str = ""
    records: int = 0
    kept: int
    removed: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    partly: str = ""
    begun: str | None = None
    finished: str | None = None
    seconds: float | None = None
    version: str | None = None
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def spent(self) -> StepCost | None:
        """The cost of the step's requests, None if it asked no model."""
        return from_json(StepCost, self.figures) if "requests" in self.figures else None

    def to_dict(self) -> dict[str, object]:
        return dict(to_json(self))

    @classmethod
    def from_dict(cls, document: object) -> StepManifest:
        """What `to_dict` returned; missing keys take defaults. Raises `ValueError` for anything else."""
        return from_json(cls, document)

    @classmethod
    def load(cls, files: StepFiles) -> StepManifest | None:
        """The manifest of a step, None if there is no complete one."""
        try:
            document = json.loads(files.manifest.read_bytes())
            if not isinstance(document, dict) or not document.keys() >= _REQUIRED:
                return None
            return cls.from_dict(document)
        except (OSError, ValueError):
            return None

    def save(self, files: StepFiles) -> StepManifest:
        """Write the manifest; returns it as it will be read."""
        data = json_bytes(self.to_dict(), indent=2, default=str) + b"\n"
        write_bytes(files.manifest, data)
        return StepManifest.from_dict(json.loads(data))

    def is_current(self, key: str, folder: Path) -> bool:
        """Whether the step was finished with this `key`, and its files have not changed since."""
        sizes = {name: path.stat().st_size for name in self.files if (path := folder / name).is_file()}
        return self.key == key and not self.partly and sizes == self.files


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def spec_text(name: str, source: str | None, steps: Sequence[StepManifest], text: str = "text") -> str:
    """The spec of these steps with all settings; None is left out, because TOML cannot express it.

    `source` is the file of records that they began with, `text` its column. The model and the seed of the last
    step are the pipeline's. Paths are reduced to the names of the files.
    """
    last = steps[-1]
    of_input = {"input": source, "text": text} if source else {}
    lines = _entries({"name": name, "model": last.model or None, "seed": last.seed or 0, **of_input})
    for manifest in steps:
        settings = dict(manifest.settings)
        asking = settings.pop("asking", None)
        settings |= asking if isinstance(asking, Mapping) else {}
        lines += ["", "[[step]]", *_entries({"do": manifest.do, **settings})]
    return "\n".join(lines) + "\n"


def _entries(table: Mapping[str, object]) -> list[str]:
    values = {key: value for key, value in table.items() if value is not None and value != {}}
    return [f"{_key(key)} = {_value(without_folders(value))}" for key, value in values.items()]


def without_folders(value: object) -> object:
    """The value; existing absolute paths are reduced to the name, because folders are private."""
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str) and os.path.isabs(value):
        file, colon, function = value.partition(".py:")
        with contextlib.suppress(OSError, ValueError):
            if Path(f"{file}.py" if colon else value).exists():
                return Path(file).name + colon + function
    return value


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else f'"{_escaped(key)}"'


def _value(value: object) -> str:
    """A value in TOML; a text of several lines is written on several lines."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{_key(str(key))} = {_value(entry)}" for key, entry in value.items() if entry is not None
        )
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(entry) for entry in value if entry is not None)}]"
    lines = [_escaped(line) for line in str(value).split("\n")]
    return f'"{lines[0]}"' if len(lines) == 1 else '"""\n' + "\n".join(lines) + '"""'


def _escaped(line: str) -> str:
    return json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
