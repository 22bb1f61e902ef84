"""Theory: why aligned models collapse, measured. Typicality bias in preferences, and the sharpening it leads to.

`typicality_bias` reads preference data and estimates alpha under base models; `sharpening` holds the closed form,
`exponent` measures gamma of a real model, `levels` simulates the three levels of asking, and `likelihood` scores
answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._extras import need
from outspoken._lazy import attach

need("numpy", "theory", "measure")

if TYPE_CHECKING:
    from outspoken.theory.answer_likelihoods import Likelihoods, likelihoods
    from outspoken.theory.api import atypicality_bias, typicality_bias
    from outspoken.theory.gamma_result import Gamma, Point
    from outspoken.theory.level_simulation import Levels, simulate_levels
    from outspoken.theory.preference_simulation import simulate_preferences
    from outspoken.theory.preferences import PreferencePair, Preferences, read_preferences
    from outspoken.theory.sharpening import (
        aligned_optimum,
        apply_reward,
        effective_size,
        entropy,
        gamma_of,
        sharpen,
    )
    from outspoken.theory.sharpening_exponent import gamma_from_counts, gamma_from_logprobs
    from outspoken.theory.typicality import ScoredPair, Typicality, estimate_alpha

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

__all__ = [
    "Gamma",
    "Levels",
    "Likelihoods",
    "Point",
    "PreferencePair",
    "Preferences",
    "ScoredPair",
    "Typicality",
    "aligned_optimum",
    "apply_reward",
    "atypicality_bias",
    "effective_size",
    "entropy",
    "estimate_alpha",
    "gamma_from_counts",
    "gamma_from_logprobs",
    "gamma_of",
    "likelihoods",
    "read_preferences",
    "sharpen",
    "simulate_levels",
    "simulate_preferences",
    "typicality_bias",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
