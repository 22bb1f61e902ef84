"""The manifest of a step, a JSON file beside its records: it alone decides whether the step is done again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outspoken.io.atomic import write_bytes
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.synth.steps.base import StepCost, StepFiles

__all__ = ["StepManifest"]

_REQUIRED = {"step", "key", "files", "kept", "records", "removed", "figures", "warnings", "partly", "seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepManifest:
    """What is recorded about a step.

    `do` is its name, or FILE.py:FUNCTION; `settings` are its options, `seed` and `model` those that it used (None:
    no model), `source` the file that it read. `key` is the digest of everything its records depend on, see
    `step_key`. Of `records` it `kept` some and `removed` others, by reason. `figures` are its own. `partly` says
    why it is not finished ("" if it is). `files` are the sizes of its files by name; times are in ISO 8601.
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
        return StepCost.from_figures(self.figures)

    def to_dict(self) -> dict[str, object]:
        document: dict[str, object] = to_json(self)
        return document

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

    @classmethod
    def load_all(cls, folder: Path) -> Iterator[StepManifest]:
        """The manifests of all steps in a folder, in their order."""
        for path in sorted(folder.glob("[0-9][0-9]-*.json")):
            manifest = cls.load(StepFiles(path.stem, folder))
            if manifest is not None and manifest.step == path.stem:
                yield manifest

    def save(self, files: StepFiles) -> StepManifest:
        """Write the manifest; returns it as it will be read."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2, default=str) + "\n"
        write_bytes(files.manifest, text.encode("utf-8", "backslashreplace"))
        return StepManifest.from_dict(json.loads(text))

    def is_current(self, key: str, folder: Path) -> bool:
        """Whether the step was finished completely with this `key`, and its files have not changed since."""
        sizes = {name: path.stat().st_size for name in self.files if (path := folder / name).is_file()}
        return self.key == key and not self.partly and sizes == self.files
