"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from outspoken.errors import OutputError, OutspokenError

__all__ = ["put", "put_in_place", "replace", "temporary_name", "why", "writing"]


def replace(target: Path, write: Callable[[Any], object]) -> int:
    """Write `target` whole or not at all, safe from a power cut once this returns; its size in bytes."""
    temporary = temporary_name(target)
    try:
        with writing(target), temporary.open("wb") as file:
            write(file)
            size = file.tell()
            put_in_place(file, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return size


def put(path: Path, content: bytes) -> None:
    """Write the file, and its folder where there is none. Raises `OutputError` where that cannot be."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda file: file.write(content))


def temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.tmp")


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """What goes wrong meanwhile is an `OutputError` that names `target`."""
    try:
        yield
    except OutspokenError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{target} cannot be written: {why(error)}") from error


def put_in_place(file: IO[Any], target: Path) -> None:
    """Flush and close the `file` under `temporary_name(target)`, and rename it; safe from a power cut then."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary_name(target), target)
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def why(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then give the same command again (run: with --resume)"
    return getattr(error, "strerror", None) or str(error)
