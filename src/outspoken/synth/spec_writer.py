"""A spec as TOML, from the manifests of its steps."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from outspoken.synth.manifest import StepManifest

__all__ = ["spec_text", "without_folders"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def spec_text(name: str, source: str | None, steps: Sequence[StepManifest], text: str = "text") -> str:
    """The spec of these steps with all settings; None is left out, because TOML cannot express it.

    `source` is the file of records that they began with, `text` its column. The model and the seed of the last
    step are the pipeline's. Paths are reduced to the names of the files.
    """
    last = steps[-1]
    lines = [f"name = {_value(name)}"]
    if last.model:
        lines.append(f"model = {_value(last.model)}")
    lines.append(f"seed = {last.seed or 0}")
    if source:
        lines += [f"input = {_value(source)}", f"text = {_value(text)}"]
    for manifest in steps:
        lines += ["", "[[step]]", f"do = {_value(without_folders(manifest.do))}"]
        settings = dict(manifest.settings)
        asking = settings.pop("asking", None)
        settings |= asking if isinstance(asking, Mapping) else {}
        lines += [
            f"{_key(key)} = {_value(without_folders(value))}"
            for key, value in settings.items()
            if value is not None and value != {}
        ]
    return "\n".join(lines) + "\n"


def without_folders(value: object) -> object:
    """The value; existing absolute paths are reduced to the name, because folders are private."""
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str) and os.path.isabs(value):
        file, colon, function = value.rpartition(".py:")
        try:
            exists = Path(f"{file}.py" if colon else value).exists()
        except (OSError, ValueError):
            exists = False
        if exists:
            return Path(file).name + colon + function if colon else Path(value).name
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
