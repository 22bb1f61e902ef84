"""What is known of a finished step, in a small JSON file beside its records: the one truth of a resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io.atomic import write_file
from outspoken.synth.spec import PipelineSpec, PlannedStep
from outspoken.synth.steps.base import Step

__all__ = ["finished", "in_folder", "key_of", "read", "write"]

_FORMAT = 1
_KEYS = {"step", "key", "files", "kept", "records", "removed", "figures", "warnings", "partly", "seconds"}


def key_of(planned: PlannedStep, spec: PipelineSpec, before: Mapping[str, Any] | None) -> str:
    """A digest of all that the step's records depend on: its settings, the files they name, the step before it."""
    settings = planned.settings()
    hashed = {
        "format": _FORMAT,
        "do": planned.do if not planned.is_own else planned.do.rpartition(":")[2],
        "settings": settings,
        "files": [_digest(path) for path in _files(planned, spec)],
        "seed": spec.seed,
        "model": spec.model,
        "text": spec.text if before is None else "",
        "source": None if before is None else [before["key"], before["files"]],
    }
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _files(planned: PlannedStep, spec: PipelineSpec) -> list[str]:
    if planned.is_own:
        return [planned.do.rpartition(":")[0]]
    names: list[str] = [] if planned.number > 1 or spec.input is None else [str(spec.input)]
    for entry in planned.options.__dataclass_fields__.values():
        value = getattr(planned.options, entry.name)
        if entry.metadata.get("path"):
            names += [value] if isinstance(value, str) and value else value if isinstance(value, tuple) else []
    asking = getattr(planned.options, "asking", {})
    return names + [asking[name] for name in ("template", "prices") if name in asking]


def _digest(path: str) -> str:
    file = Path(path.rpartition(":")[0] if ".py:" in path else path)
    if not file.is_file():
        return ""  # the step says what it misses; a rubric may be one that ships
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): the spec names it") from error


def read(step: Step) -> dict[str, Any] | None:
    """The manifest of a step, None where there is none that can be read."""
    try:
        manifest = json.loads((step.folder / f"{step.name}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return manifest if _is_manifest(manifest) else None


def _is_manifest(found: Any) -> bool:
    return isinstance(found, dict) and found.keys() >= _KEYS


def finished(step: Step, key: str) -> dict[str, Any] | None:
    """The manifest where the step was done with this very `key`, wholly, and its files are as it left them."""
    manifest = read(step)
    if manifest is None or manifest["key"] != key or manifest.get("partly"):
        return None
    found = [step.folder / name for name in manifest["files"]]
    sizes = [path.stat().st_size if path.is_file() else None for path in found]
    return manifest if sizes == [*manifest["files"].values()] else None


def files_of(step: Step, folder: str | None = None) -> dict[str, int]:
    """The sizes of the files that a step left, by name: its records, and all of a `folder` of its own."""
    own = sorted((step.folder / folder).rglob("*")) if folder else []
    found = [path for path in (step.out, step.removed, *own) if path.is_file()]
    return {path.relative_to(step.folder).as_posix(): path.stat().st_size for path in found}


def write(step: Step, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, ensure_ascii=False, indent=2, default=str) + "\n"
    write_file(step.folder / f"{step.name}.json", lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def in_folder(folder: Path) -> list[dict[str, Any]]:
    """The manifests of all steps in a folder, in their order."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9]-*.json")):
        with contextlib.suppress(ValueError):
            manifest = json.loads(path.read_bytes())
            if _is_manifest(manifest) and manifest["step"] == path.stem:
                found.append(manifest)
    return found
