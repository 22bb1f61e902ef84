"""Diverse synthetic data, in steps: generate, deduplicate, decontaminate, answer, verify, balance, export.

`synthesize` does what a spec says and goes on where it stopped; `load` reads a spec, a `Pipeline` is one at work.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "dedup.search": ("near_duplicates",),
    "pipeline": ("Pipeline", "synthesize"),
    "spec": ("PipelineSpec", "load"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
