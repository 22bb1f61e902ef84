"""The record of a training, `training.json`, with settings, data and losses; and the output folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io import atomic
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import json_bytes, shorten
from outspoken.training.base_models import MODEL, TRAINING
from outspoken.training.training_data import DataSummary

__all__ = ["KIND", "LOCK", "BaseEntry", "Progress", "StepLoss", "TrainingFolder", "TrainingRecord", "check_room"]

Progress = Callable[[int, int, float | None], None]
"""Called with the step, the number of steps, and the loss of the last step (None before the first)."""

KIND = "training"
"""The value of "kind" in `training.json`."""

# Settings that may differ when a training is continued: the result does not depend on them.
_FREE = ("save_every", "threads")


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """The model that a training started from; the fingerprint identifies its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StepLoss:
    """One step: its loss, learning rate, gradient norm, seconds and tokens.

    For dpo, `preferred` is the share of pairs whose chosen answer the model prefers, and `margin` by how much.
    """

    step: int
    loss: float
    seconds: float
    tokens: int
    epoch: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    preferred: float | None = None
    margin: float | None = None

    def to_dict(self) -> dict[str, float]:
        """The figures that exist, JSON-ready."""
        return {name: value for name, value in to_json(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """A training as `training.json` stores it.

    `steps`, `seconds` and `tokens` are None until it ends or is stopped, `finished` until it ends.
    """

    version: str
    created: str
    settings: Mapping[str, object]
    base: BaseEntry
    data: DataSummary
    device: str
    versions: Mapping[str, str | None]
    finished: str | None = None
    steps: int | None = None
    losses: tuple[StepLoss, ...] = ()
    seconds: float | None = None
    tokens: int | None = None

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        unknown = ("steps", "losses", "seconds", "tokens") if self.steps is None else ()
        document = {"kind": KIND, **to_json(self, methods=True)}
        return {name: value for name, value in document.items() if name not in unknown}

    @classmethod
    def from_dict(cls, document: object) -> TrainingRecord:
        """The inverse of `to_dict`. Raises `ValueError` for anything else."""
        if not isinstance(document, dict) or document.get("kind") != KIND:
            raise ValueError(f"the kind is not {KIND!r}")
        return from_json(cls, document)

    def changes(self, now: TrainingRecord) -> list[str]:
        """The settings, data and model that differ, each as "seed was 1, now 2"."""
        pairs = {
            name: (self.settings.get(name), value) for name, value in now.settings.items() if name not in _FREE
        }
        pairs["data"] = (self.data.sha256, now.data.sha256)
        pairs["model"] = (self.base.fingerprint, now.base.fingerprint)
        return [
            f"{name} was {_short(was)}, now {_short(value)}"
            for name, (was, value) in pairs.items()
            if was != value
        ]


def _short(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), 40)


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
                names = ", ".join(others[:3])
                raise UsageError(
                    f"{self.path} holds files of something else ({names}): name a new folder with --out"
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
        atomic.remove(self.path, _OURS)

    def last_checkpoint(self) -> Path | None:
        """The last complete checkpoint. Incomplete ones, which a killed process left, are removed."""
        complete: list[tuple[int, Path]] = []
        for path in self.checkpoints.glob("checkpoint-*"):
            try:
                # The state is written last.
                complete.append((int(json.loads((path / _STATE).read_bytes())["global_step"]), path))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(path, ignore_errors=True)
        return max(complete)[1] if complete else None

    def write(self, record: TrainingRecord) -> None:
        """Replace the record."""
        atomic.write_bytes(self.record, json_bytes(record.to_dict(), indent=2, allow_nan=False))


def check_room(folder: Path, model: Any, rank: int | None) -> None:
    """Raise `OutputError` if the disk has no room for the weights and two checkpoints with the state of AdamW.

    With a `rank`, adapters of that rank are trained instead of the whole model.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(
        shape.numel() if rank is None else rank * sum(shape) for shape in shapes if rank is None or len(shape) == 2
    )
    atomic.check_room(
        folder,
        weights + 2 * 3 * 4 * trained,
        what="training (the weights, and two checkpoints with the state of AdamW)",
        remedy="make room, name another folder with --out, or train adapters with --lora",
    )
