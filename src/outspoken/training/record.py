"""The record of a training, `training.json`: what it started from, its settings and data, and the loss of each
step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import shorten
from outspoken.training.training_data import DataSummary

__all__ = ["KIND", "BaseEntry", "StepLoss", "TrainingRecord"]

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
    """A training as `training.json` has it. Until it has ended or was stopped, `steps`, `seconds` and `tokens` are
    None; until it has ended, `finished` is."""

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
        document: dict[str, object] = {"kind": KIND, **to_json(self)}
        if self.steps is None:
            return {
                name: document[name] for name in document if name not in ("steps", "losses", "seconds", "tokens")
            }
        return {**document, "losses": [loss.to_dict() for loss in self.losses]}

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
