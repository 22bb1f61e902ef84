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
    from outspoken.theory.preferences import Pair, Preferences, read_preferences
    from outspoken.theory.sharpening import effective_size, entropy, gamma_of, optimum, sharpen, tilt
    from outspoken.theory.sharpening_exponent import gamma_from_counts, gamma_from_logprobs
    from outspoken.theory.typicality import Scored, Typicality, estimate

_HOMES = {
    "sharpening_exponent": ("gamma_from_counts", "gamma_from_logprobs"),
    "gamma_result": ("Gamma", "Point"),
    "level_simulation": ("Levels", "simulate_levels"),
    "answer_likelihoods": ("Likelihoods", "likelihoods"),
    "api": ("atypicality_bias", "typicality_bias"),
    "preferences": ("Pair", "Preferences", "read_preferences"),
    "sharpening": ("effective_size", "entropy", "gamma_of", "optimum", "sharpen", "tilt"),
    "preference_simulation": ("simulate_preferences",),
    "typicality": ("Scored", "Typicality", "estimate"),
}

__all__ = [
    "Gamma",
    "Levels",
    "Likelihoods",
    "Pair",
    "Point",
    "Preferences",
    "Scored",
    "Typicality",
    "atypicality_bias",
    "effective_size",
    "entropy",
    "estimate",
    "gamma_from_counts",
    "gamma_from_logprobs",
    "gamma_of",
    "likelihoods",
    "optimum",
    "read_preferences",
    "sharpen",
    "simulate_levels",
    "simulate_preferences",
    "tilt",
    "typicality_bias",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
