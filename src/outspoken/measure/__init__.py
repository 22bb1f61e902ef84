"""Measures: is it more diverse, is it as good, and how sure are we.

`measure` takes recorded responses and `compare` asks; the formulas stand in `lexical`, `sets`, `divergence`,
`calibration` and `agreement`, the intervals and tests in `statistics`, the judge in `judge`.
"""

from __future__ import annotations

from outspoken._imports import attach, need

need("numpy", "measuring", "measure")

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

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
