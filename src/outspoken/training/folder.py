"""The folder of a training: which of its files belong to the training, and what was begun there earlier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io import atomic, disk
from outspoken.training.base_models import MODEL, TRAINING
from outspoken.training.record import TrainingRecord

__all__ = ["LOCK", "TrainingFolder", "check_room"]

LOCK = ".lock"

_ADAPTER = "adapter"
_CHECKPOINTS, _STATE = "checkpoints", "trainer_state.json"
_OURS = (MODEL, f".{MODEL}.part", _ADAPTER, _CHECKPOINTS, TRAINING, "loss.html", "loss.png")


class TrainingFolder:
    """The output folder: `training.json` is the record, `checkpoints/` the state, `model/` the result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.adapter = path / MODEL, path / _ADAPTER
        self.checkpoints, self.record = path / _CHECKPOINTS, path / TRAINING

    def read(self) -> TrainingRecord | None:
        """The record of an earlier training. Raises `UsageError` if the folder belongs to something else."""
        if not self.record.exists():
            others = sorted(path.name for path in self.path.iterdir() if path.name != LOCK)
            if others:
                raise UsageError(
                    f"{self.path} holds files of something else ({', '.join(others[:3])}): name a new folder with "
                    "--out"
                )
            return None
        try:
            return TrainingRecord.from_dict(json.loads(self.record.read_bytes()))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.record} is not a record of `outspoken train` ({error}): name a new folder with --out"
            ) from error

    def clear(self) -> None:
        """Remove what training wrote there, and nothing else."""
        for name in _OURS:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def last_checkpoint(self) -> Path | None:
        """The last complete checkpoint. Incomplete ones, which a killed process left, are removed."""
        complete: list[tuple[int, Path]] = []
        for path in self.checkpoints.glob("checkpoint-*"):
            try:
                # The state is the last file of a checkpoint that is written.
                complete.append((int(json.loads((path / _STATE).read_bytes())["global_step"]), path))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(path, ignore_errors=True)
        return max(complete)[1] if complete else None

    def write(self, record: TrainingRecord) -> None:
        """Replace the record."""
        text = json.dumps(record.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)
        atomic.write_bytes(self.record, text.encode("utf-8", "backslashreplace"))

    def remove_checkpoints(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def check_room(folder: Path, model: Any, rank: int | None) -> None:
    """Raise `OutputError` if the disk has no room for the weights and two checkpoints with the state of AdamW.

    With a `rank`, adapters of that rank are trained instead of the whole model.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(
        shape.numel() if rank is None else rank * sum(shape) for shape in shapes if rank is None or len(shape) == 2
    )
    disk.check_room(
        folder,
        weights + 2 * 3 * 4 * trained,
        what="training (the weights, and two checkpoints with the state of AdamW)",
        remedy="make room, name another folder with --out, or train adapters with --lora",
    )
