"""The folder of a training: which files in it are ours, who may write there, and what was begun there before."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from outspoken.errors import OutputError, UsageError
from outspoken.io import atomic
from outspoken.training.base_models import MODEL, TRAINING

__all__ = ["KIND", "TrainingFolder", "check_room", "claimed", "differing"]

KIND = "training"
"""What `training.json` calls itself."""

_ADAPTER = "adapter"
_CHECKPOINTS, _LOCK, _STATE = "checkpoints", ".outspoken.lock", "trainer_state.json"
_OURS = (MODEL, f".{MODEL}.part", _ADAPTER, _CHECKPOINTS, TRAINING, "loss.html", "loss.png")
# What may differ between a run and the one that goes on with it: nothing of the result hangs on these.
_FREE = ("save_every", "threads")


@contextmanager
def claimed(path: Path, doing: str) -> Iterator[None]:
    """Make a folder, and keep other processes out. Raises `UsageError` where that cannot be, or others write
    there."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: name a folder with --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(path / _LOCK, timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"{path} cannot be written ({error}): name another folder with --out") from error
    try:
        # The system ends an exclusive transaction when the process ends, however it ends.
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        raise UsageError(
            f"another process is {doing} in {path} ({error}): wait for it, or name another folder"
        ) from error
    try:
        yield
    finally:
        (path / _LOCK).unlink(missing_ok=True)
        lock.close()
        with suppress(OSError):  # what came to nothing leaves nothing
            path.rmdir()


class TrainingFolder:
    """OUT of a training: `training.json` says what it is, `checkpoints/` where it stands, `model/` what it
    gave."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.adapter = path / MODEL, path / _ADAPTER
        self.checkpoints, self.training = path / _CHECKPOINTS, path / TRAINING

    def earlier(self) -> dict[str, Any] | None:
        """What an earlier training into it says of itself. Raises `UsageError` where the folder is not of
        training."""
        if not self.training.exists():
            others = sorted(path.name for path in self.path.iterdir() if path.name != _LOCK)
            if others:
                raise UsageError(
                    f"{self.path} holds files of something else ({', '.join(others[:3])}): name a new folder with "
                    "--out"
                )
            return None
        try:
            found = json.loads(self.training.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.training} cannot be read ({error}): name a new folder with --out") from error
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise UsageError(f"{self.training} is not of `outspoken train`: name a new folder with --out")
        return found

    def clear(self) -> None:
        """Remove what training wrote there, and nothing else."""
        for name in _OURS:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def checkpoint(self) -> Path | None:
        """The last whole checkpoint. Halves, which a killed process left, are removed."""
        found: list[tuple[int, Path]] = []
        for path in self.checkpoints.glob("checkpoint-*"):
            try:
                # It is written last of all.
                found.append((int(json.loads((path / _STATE).read_bytes())["global_step"]), path))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(path, ignore_errors=True)
        return max(found)[1] if found else None

    def write(self, document: Mapping[str, Any]) -> None:
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        atomic.replace(self.training, lambda file: file.write(text.encode("utf-8", "backslashreplace")))

    def drop_checkpoints(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def differing(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was, each as "seed was 1, now 2"."""
    pairs = {name: (earlier.get("settings", {}).get(name), value) for name, value in now["settings"].items()}
    pairs["data"] = (earlier.get("data", {}).get("sha256"), now["data"]["sha256"])
    pairs["model"] = (earlier.get("base", {}).get("fingerprint"), now["base"]["fingerprint"])
    return [
        f"{name} was {_short(was)}, now {_short(value)}"
        for name, (was, value) in pairs.items()
        if name not in _FREE and was != value
    ]


def check_room(folder: Path, model: Any, rank: int | None) -> None:
    """Raise `OutputError` where the disk has no room for the weights and two checkpoints with what AdamW keeps.

    With a `rank` adapters learn, and not the whole model.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    learned = sum(
        shape.numel() if rank is None else rank * sum(shape) for shape in shapes if rank is None or len(shape) == 2
    )
    wanted = weights + 2 * 3 * 4 * learned
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OutputError(
            f"the disk of {folder} has {free / 2**20:,.0f} MiB left, and training needs about "
            f"{wanted / 2**20:,.0f} (the weights, and two checkpoints with the state of AdamW): make room, name "
            "another folder with --out, or train adapters with --lora"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
