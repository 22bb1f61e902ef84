"""Training a student on data, and seeing what it has learned: `train` and `evaluate`."""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "evaluation": ("evaluate",),
    "fitting": ("TrainedStudent", "train"),
    "settings": ("EvalSettings", "TrainSettings"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
