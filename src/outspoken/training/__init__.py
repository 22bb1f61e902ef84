"""Training a student on data, and seeing what it has learned: `train` and `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._lazy import attach

if TYPE_CHECKING:
    from outspoken.training.evaluation import evaluate
    from outspoken.training.fitting import TrainedStudent, train
    from outspoken.training.settings import EvalSettings, TrainSettings

__all__ = ["EvalSettings", "TrainSettings", "TrainedStudent", "evaluate", "train"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "evaluation": ["evaluate"],
        "settings": ["EvalSettings", "TrainSettings"],
        "fitting": ["TrainedStudent", "train"],
    },
)
