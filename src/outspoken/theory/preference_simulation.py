"""Preferences with a known typicality bias, to test estimates of it."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, ndtr

from outspoken.errors import UsageError
from outspoken.models.base import Score
from outspoken.theory.controls import ScoredPair
from outspoken.theory.preference_formats import PreferencePair

__all__ = ["simulate_preferences"]

# SD of a response's mean log-likelihood, nats a token: differences have an SD of 0.6, as in the published data.
_SPREAD = 0.45
_TYPICAL = -2.5
_TOKENS = 40
_LENGTH_CORRELATION = 0.6  # correlation of a response's length with its mean log-likelihood
_PROMPT_CORRELATION = 0.5  # correlation of the noise of two pairs of one prompt, and of their differences


def simulate_preferences(
    alpha: float, *, prompts: int, pairs_per_prompt: int, length: float = 0.0, seed: int = 0
) -> list[ScoredPair]:
    """Scored pairs with P(first preferred) = sigmoid(alpha d_mean + length d_tokens), d being first minus second.

    `alpha` is the typicality bias per nat a token, `length` a preference for longer responses per token. Longer
    responses have a higher mean log-likelihood, so that a preference for length looks like a typicality bias
    unless length is held equal. The pairs of a prompt are correlated in their differences and in their noise (a
    Gaussian copula of the uniforms behind the preferences, so that the model holds for each single pair). There
    are no ratings of correctness.

    Raises `UsageError` for fewer than one prompt or pair.
    """
    if prompts < 1 or pairs_per_prompt < 1:
        raise UsageError(f"prompts and pairs per prompt must be at least 1, not {prompts} x {pairs_per_prompt}")
    if not (math.isfinite(alpha) and math.isfinite(length)):
        raise UsageError(f"alpha and length must be finite, not {alpha} and {length}")
    rng = np.random.default_rng(seed)
    shape = (prompts, pairs_per_prompt)

    def correlated() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Standard normal, correlated within a prompt."""
        shared = rng.standard_normal((prompts, 1))
        return math.sqrt(_PROMPT_CORRELATION) * shared + math.sqrt(1 - _PROMPT_CORRELATION) * rng.standard_normal(
            shape
        )

    likely = np.stack([correlated(), correlated()])
    log_length = _LENGTH_CORRELATION * likely + math.sqrt(1 - _LENGTH_CORRELATION**2) * rng.standard_normal(
        likely.shape
    )
    tokens = np.maximum(1, np.rint(_TOKENS * np.exp(0.3 * log_length))).astype(int)
    means = _TYPICAL + _SPREAD * likely
    probability = expit(alpha * (means[0] - means[1]) + length * (tokens[0] - tokens[1]))
    preferred = ndtr(correlated()) < probability
    return [
        ScoredPair(
            PreferencePair(
                f"prompt {at}", "first", "second", bool(preferred[at, of]), None, at * pairs_per_prompt + of + 1
            ),
            *(Score((float(means[side, at, of]),) * int(tokens[side, at, of])) for side in (0, 1)),
        )
        for at in range(prompts)
        for of in range(pairs_per_prompt)
    ]
