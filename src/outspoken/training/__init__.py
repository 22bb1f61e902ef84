"""Training a student on data (`train`) and measuring what it has learned (`evaluate`).

`fitting` and `trainers` train, `evaluation` and `accuracy` measure; `record` and `evaluation_result` are the files
that they write, `settings` declares their options. It may import `checking`, `batch` and the rooms below them;
torch, transformers and TRL are imported when they are needed. A new shape of data belongs in `training_data` or
`questions`, a new kind of student in `students`.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "evaluation": ("evaluate",),
    "evaluation_result": ("Evaluation",),
    "fitting": ("TrainedStudent", "train"),
    "record": ("TrainingRecord",),
    "settings": ("EvalSettings", "TrainSettings"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
