"""Experiments: a grid of tasks, methods, models and settings, run in one folder, measured, and reported.

`spec` reads an experiment, `grid` expands it into cells, `runner` runs them, `analysis` measures the responses,
`results` holds the types of `results.json`, and `report` shows them. It may import `tasks`, `report`, `measure`,
`batch` and the layers below them. A new experiment is a TOML file in `library`; a new part of the report is a
module `report_*` here.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "api": ("arun", "run"),
    "results": ("ExperimentResults",),
    "spec": ("Arm", "ExperimentSpec", "load", "names"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
