"""Probabilities of one call brought to one scale: shares of 1, percentages with and without a sign, weights."""

from __future__ import annotations

from collections.abc import Sequence

from outspoken.io.text import plural

__all__ = ["mixed_scales", "on_one_scale"]


def on_one_scale(stated: Sequence[tuple[float, bool]]) -> list[float] | None:
    """The numbers of one call, each given with whether it has a percent sign, on one scale; None for mixed scales.

    Numbers with a sign are percentages. Those without one ("bare") are
    - percentages beside a sign, if none lies between 0 and 1 and one is above 1 or all together make about 100;
    - percentages without any sign, if one is above 1 and they add up to about 100;
    - otherwise what they are: shares up to 1, or weights in any unit.
    Scales are mixed if one bare number is above 1, another lies between 0 and 1, and they are not percentages.
    """
    bare = [value for value, percent in stated if not percent]
    signs = len(bare) < len(stated)
    total = sum(value for value, _ in stated)  # weights may be large: infinity is no error
    above, fractions = any(value > 1 for value in bare), any(0 < value < 1 for value in bare)
    # A fraction among percentages is plausible only if the sum is hardly off.
    hundred = abs(total - 100) <= (1 if fractions else 5)
    if above and fractions and (signs or not hundred):
        return None
    percentages = not fractions and (above or hundred) if signs else above and hundred
    return [value / 100 if percent or percentages else value for value, percent in stated]


def mixed_scales(calls: int) -> str:
    """A sentence about calls whose probabilities are on several scales."""
    number_of = plural(calls, "call states", "calls state")
    return f"{number_of} probabilities on several scales (40%, 60, 0.1): their responses have equal weights"
