"""A pipeline as TOML again, from the settings in its manifests."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["spec_text", "without_folders"]

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
