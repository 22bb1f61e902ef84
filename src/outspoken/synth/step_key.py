"""The key of a step: a digest of everything that its records depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.synth.manifest import StepManifest
from outspoken.synth.spec import PipelineSpec, PlannedStep

__all__ = ["step_key"]

_FORMAT = 1


def step_key(planned: PlannedStep, spec: PipelineSpec, before: StepManifest | None) -> str:
    """The digest of the step's settings, the files that they name, and the step `before` it.

    Raises `UsageError` if one of the files cannot be read.
    """
    hashed = {
        "format": _FORMAT,
        "do": planned.do.rpartition(":")[2] if planned.is_custom else planned.do,
        "settings": planned.settings(),
        "files": [_digest(path) for path in _files(planned, spec)],
        "seed": spec.seed,
        "model": spec.model,
        "text": spec.text if before is None else "",
        "source": None if before is None else [before.key, before.files],
    }
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _files(planned: PlannedStep, spec: PipelineSpec) -> list[str]:
    options = planned.options
    if options is None:
        return [planned.do.rpartition(":")[0]]
    names: list[str] = [] if planned.number > 1 or spec.input is None else [str(spec.input)]
    for entry in fields(options):
        value = getattr(options, entry.name)
        if entry.metadata.get("path"):
            names += [value] if isinstance(value, str) and value else value if isinstance(value, tuple) else []
    asking = getattr(options, "asking", {})
    return names + [asking[name] for name in ("template", "prices") if name in asking]


def _digest(path: str) -> str:
    file = Path(path.rpartition(":")[0] if ".py:" in path else path)
    if not file.is_file():
        return ""  # the step reports what is missing; a rubric may be one that ships with the package
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): the spec names it") from error
