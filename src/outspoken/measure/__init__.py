"""Measures: is it more diverse, is it as good, and how sure are we.

`measure` takes recorded responses and `compare` asks; the formulas stand in `lexical`, `sets`, `divergence`,
`calibration` and `agreement`, the intervals and tests in `statistics`, the judge in `judge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._imports import need
from outspoken._lazy import attach

need("numpy", "measuring", "measure")

if TYPE_CHECKING:
    from outspoken.measure.agreement import gwet_ac1, krippendorff_alpha
    from outspoken.measure.analysis import Analysis, analyse
    from outspoken.measure.answer_sets import Answers
    from outspoken.measure.api import acompare, ameasure, compare, measure
    from outspoken.measure.cost import Cost
    from outspoken.measure.embedding import Embedder, embedder
    from outspoken.measure.judge import Judge
    from outspoken.measure.lexical import compression_ratio, distinct_n, rouge_l, self_bleu
    from outspoken.measure.sets import (
        distinct_k,
        effective_size,
        entropy,
        partition,
        semantic_diversity,
        utility_k,
        vendi,
    )
    from outspoken.measure.values import Group, PromptGroup, Response

_HOMES = {
    "agreement": ("gwet_ac1", "krippendorff_alpha"),
    "analysis": ("Analysis", "analyse"),
    "answer_sets": ("Answers",),
    "cost": ("Cost",),
    "embedding": ("Embedder", "embedder"),
    "judge": ("Judge",),
    "lexical": ("compression_ratio", "distinct_n", "rouge_l", "self_bleu"),
    "api": ("acompare", "ameasure", "compare", "measure"),
    "sets": (
        "distinct_k",
        "effective_size",
        "entropy",
        "partition",
        "semantic_diversity",
        "utility_k",
        "vendi",
    ),
    "values": ("PromptGroup", "Group", "Response"),
}

__all__ = [
    "Analysis",
    "Answers",
    "Cost",
    "Embedder",
    "Group",
    "Judge",
    "PromptGroup",
    "Response",
    "acompare",
    "ameasure",
    "analyse",
    "compare",
    "compression_ratio",
    "distinct_k",
    "distinct_n",
    "effective_size",
    "embedder",
    "entropy",
    "gwet_ac1",
    "krippendorff_alpha",
    "measure",
    "partition",
    "rouge_l",
    "self_bleu",
    "semantic_diversity",
    "utility_k",
    "vendi",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
