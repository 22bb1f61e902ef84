"""Theory: why aligned models collapse, measured on preference data and on real models.

`api` and `typicality` estimate the typicality bias alpha, `sharpening` holds the closed form,
`sharpening_exponent` measures gamma of a real model, `level_simulation` simulates the three levels of asking. A
result has its own module `*_result`, its JSON document a type in `documents`; `report`, `*_charts` and `page/`
draw documents and nothing else. It may import `report`, `measure` and what lies below them; nothing here knows the
command line. A new analysis gets a module, a document type, and an entry in `report`.
"""

from __future__ import annotations

from outspoken._imports import attach, need

need("numpy", "theory", "measure")

_HOMES = {
    "sharpening_exponent": ("gamma_from_counts", "gamma_from_logprobs"),
    "gamma_result": ("Gamma", "Point"),
    "level_simulation": ("Levels", "simulate_levels"),
    "answer_likelihoods": ("Likelihoods", "likelihoods"),
    "api": ("atypicality_bias", "typicality_bias"),
    "preferences": ("PreferencePair", "Preferences", "read_preferences"),
    "sharpening": ("effective_size", "entropy", "gamma_of", "aligned_optimum", "sharpen", "apply_reward"),
    "preference_simulation": ("simulate_preferences",),
    "controls": ("ScoredPair",),
    "typicality": ("estimate_alpha",),
    "typicality_result": ("ModelBias", "Typicality"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
