"""Diverse synthetic data, in steps: generate, deduplicate, decontaminate, answer, verify, balance, export.

`synthesize` does what a spec says and goes on where it stopped; `load` reads a spec, a `Pipeline` is one at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._lazy import attach

if TYPE_CHECKING:
    from outspoken.synth.dedup.search import near_duplicates
    from outspoken.synth.pipeline import Pipeline, synthesize
    from outspoken.synth.spec import PipelineSpec, load

_HOMES = {
    "dedup.search": ("near_duplicates",),
    "pipeline": ("Pipeline", "synthesize"),
    "spec": ("PipelineSpec", "load"),
}

__all__ = ["Pipeline", "PipelineSpec", "load", "near_duplicates", "synthesize"]

__getattr__, __dir__ = attach(__name__, _HOMES)
