"""Files that are written completely or not at all, and the room for them on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from outspoken.errors import OutputError, OutspokenError

__all__ = [
    "check_room",
    "output_errors",
    "owner_only",
    "put_in_place",
    "reason_of",
    "remove",
    "replacing",
    "temporary_name",
    "write_bytes",
    "write_file",
]


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace the content of a file as `replacing` does, and create its folder if necessary."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, private=private) as file:
        file.write(content)


def write_file(target: Path, write: Callable[[Any], object], *, private: bool = False) -> int:
    """Replace a file as `replacing` does: `write` receives the binary file. Returns the size in bytes."""
    with replacing(target, private=private) as file:
        write(file)
        return file.tell()


@contextlib.contextmanager
def replacing(target: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that replaces `target` at the end of the block, and then survives a power failure.

    With `private` only its owner can read it, as suits working files with prompts and replies. An error in the
    block leaves `target` as it was. Raises `OutputError` if the file cannot be written.
    """
    temporary = temporary_name(target)
    try:
        with output_errors(target), open(temporary, "wb", opener=owner_only if private else None) as file:
            yield file
            put_in_place(file, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn system errors in the block into an `OutputError` that names `target`."""
    try:
        yield
    except OutspokenError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{target} cannot be written: {reason_of(error)}") from error


def temporary_name(target: Path) -> Path:
    """The name under which `target` is written before `put_in_place` renames it."""
    return target.with_name(f".{target.name}.tmp")


def owner_only(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file as `os.open` does, for the `opener` of `open`; if it is created, only its owner can read it."""
    return os.open(path, flags, 0o600)


def put_in_place(file: IO[Any], target: Path) -> None:
    """Flush, close and rename the `file` that was opened under `temporary_name(target)`."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary_name(target), target)
    if os.name == "posix":  # the new name must reach the disk, too; Windows cannot open folders
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove these entries of a folder that exist; of a link, not what it points to."""
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def reason_of(error: BaseException) -> str:
    """The reason of a system error, without the names of files; for a full disk also the remedy."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then give the same command again"
    if isinstance(error, FileExistsError):
        return "there is a file of that name"
    return getattr(error, "strerror", None) or str(error)


def check_room(folder: Path, needed: int, *, what: str = "", remedy: str = "") -> None:
    """Raise `OutputError` if the disk of `folder` has fewer than `needed` bytes free.

    In the message, `what` names the work that needs them, and `remedy` replaces the usual advice.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        size = f"{needed / 2**20:,.0f}"
        subject = f"{what} needs about {size}" if what else f"about {size} are needed"
        advice = remedy or "make room, then give the same command again; what is done is kept"
        raise OutputError(f"the disk of {folder} has {free / 2**20:,.0f} MiB left, and {subject}: {advice}")
