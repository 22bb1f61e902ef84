"""Theory: why aligned models collapse, measured on preference data and on real models.

`typicality` estimates the typicality bias alpha, `sharpening` holds the closed form,
`sharpening_exponent` measures gamma of a real model, `level_simulation` simulates the three levels of asking.
`to_dict` of a result is its JSON document, the only input of `report`, `report_text`, `charts` and `page/`. The
package may import `report`, `measure` and the layers below them; nothing here knows the command line. A new
analysis gets a module, and an entry for its kind in `charts`, `report` and `report_text`.
"""

from __future__ import annotations

from outspoken._imports import attach, need

need("numpy", "theory", "measure")

_HOMES = {
    "sharpening_exponent": ("gamma_from_counts", "gamma_from_logprobs"),
    "gamma_result": ("Gamma", "Point"),
    "level_simulation": ("Levels", "simulate_levels"),
    "answer_likelihoods": ("Likelihoods", "likelihoods"),
    "preferences": ("PreferencePair", "Preferences", "read_preferences"),
    "sharpening": ("effective_size", "entropy", "gamma_of", "aligned_optimum", "sharpen", "apply_reward"),
    "controls": ("ScoredPair",),
    "typicality": ("atypicality_bias", "estimate_alpha", "simulate_preferences", "typicality_bias"),
    "typicality_result": ("ModelBias", "Typicality"),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
