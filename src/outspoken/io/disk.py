"""Room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from outspoken.errors import OutputError

__all__ = ["check_room", "free_bytes"]


def free_bytes(folder: Path) -> int:
    """The number of bytes that are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def check_room(folder: Path, needed: int, *, what: str = "", remedy: str = "") -> None:
    """Raise `OutputError` if the disk of `folder` has fewer than `needed` bytes free.

    `what` is the work that needs them and `remedy` what else helps, both for the message.
    """
    free = free_bytes(folder)
    if free < needed:
        size = f"{needed / 2**20:,.0f}"
        subject = f"{what} needs about {size}" if what else f"about {size} are needed"
        advice = remedy or "make room, then give the same command again; what is done is kept"
        raise OutputError(f"the disk of {folder} has {free / 2**20:,.0f} MiB left, and {subject}: {advice}")
