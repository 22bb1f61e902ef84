"""Synthetic data: pipelines of steps that generate, clean, answer, verify and export records, and their report.

`spec` reads a pipeline, `pipeline` executes it, `manifest` records what is done; `steps`, `dedup` and `report` are
packages of their own. It may import every room below it, but not `serve` or `cli`. A new step is a module in
`steps` and a row in `STEPS` of `spec`; a new pipeline that ships with the package is a TOML file in `library`.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "dedup.search": ("near_duplicates",),
    "pipeline": ("Pipeline", "PipelineSummary", "synthesize"),
    "spec": ("PipelineSpec", "load"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
