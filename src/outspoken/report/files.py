"""The files of a page, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from outspoken.io import atomic

__all__ = ["put"]


def put(path: Path, content: bytes) -> None:
    """Write the file, and its folder where there is none. Raises `OutputError` where that cannot be."""
    with atomic.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, lambda file: file.write(content))
