"""Measures of diversity and quality, with intervals, and comparisons of methods.

`measure` takes recorded responses, `compare` asks prompts. The formulas are in `lexical`, `sets`, `divergence`,
`answer_table`, `richness`, `fidelity`, `calibration` and `agreement`, the intervals and tests in `intervals` and
`statistics`, the judge of quality in `judge`, the verdict in `effect`. Imports `report`, `batch` and what is
below them. A new measure is a formula in one of these modules and a row in `measures.MEASURES`.
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
    "measured": ("GroupComparison", "MeasuredGroup"),
    "sets": ("distinct_k", "effective_size", "entropy", "partition", "semantic_diversity", "utility_k", "vendi"),
    "estimates": ("Comparison", "Estimate"),
    "values": ("PromptGroup", "Group", "Response"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
