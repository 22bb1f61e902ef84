"""Training a student on data, and seeing what it has learned: `train` and `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._lazy import attach

if TYPE_CHECKING:
    from outspoken.training.evaluating import evaluate
    from outspoken.training.settings import EvalSettings, TrainSettings
    from outspoken.training.tuning import Trained, train

__all__ = ["EvalSettings", "TrainSettings", "Trained", "evaluate", "train"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "evaluating": ["evaluate"],
        "settings": ["EvalSettings", "TrainSettings"],
        "tuning": ["Trained", "train"],
    },
)
