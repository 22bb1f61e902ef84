"""Theory: why aligned models collapse, measured. Typicality bias in preferences, and the sharpening it leads to.

`typicality_bias` reads preference data and estimates alpha under base models; `sharpening` holds the closed form,
`exponent` measures gamma of a real model, `levels` simulates the three levels of asking, and `likelihood` scores
answers.
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
    "typicality": ("ScoredPair", "Typicality", "estimate_alpha"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
