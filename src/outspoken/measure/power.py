"""The number of prompts that an experiment needs, and the smallest difference that it can detect."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student

from outspoken.errors import UndefinedError, UsageError

__all__ = ["detectable", "prompts_needed"]


def prompts_needed(sd: float, difference: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """The smallest number of prompts (at least 2) with which a paired two-sided t-test detects `difference`.

    `sd` is the standard deviation of the prompts' differences between two methods. The `power` is that of the
    noncentral t with noncentrality sqrt(n) difference / sd. Raises `UndefinedError` for a difference of 0.
    """
    _check_plan(sd, power, alpha)
    if not math.isfinite(difference) or difference == 0:
        raise UndefinedError(f"no number of prompts shows a difference of {difference:g}: give another one")
    if sd == 0:
        return 2
    d = min(abs(difference) / sd, 1000.0)
    tail = float(norm.isf(alpha / 2))
    # The normal approximation with its first correction; above a million it is exact enough.
    n = max(2, math.ceil(((tail + float(norm.ppf(power))) / d) ** 2 + tail**2 / 2))
    if n > 1_000_000:
        return n
    while n > 2 and _power(d, n - 1, alpha) >= power:
        n -= 1
    while _power(d, n, alpha) < power:
        n += 1
    return n


def detectable(sd: float, prompts: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest difference that a paired two-sided t-test over `prompts` detects with this `power`.

    The inverse of `prompts_needed`, in the units of `sd`. Raises `UndefinedError` for fewer than 2 prompts.
    """
    _check_plan(sd, power, alpha)
    if prompts < 2:
        raise UndefinedError(f"{prompts} prompts show no difference, however large: use at least 2")
    high = 1.0
    while _power(high, prompts, alpha) < power:
        high *= 2
    return sd * float(brentq(lambda d: _power(d, prompts, alpha) - power, 0.0, high, xtol=1e-12))


def _power(d: float, n: int, alpha: float) -> float:
    critical, shift = student.isf(alpha / 2, n - 1), d * math.sqrt(n)
    return float(nct.sf(critical, n - 1, shift) + nct.sf(critical, n - 1, -shift))


def _check_plan(sd: float, power: float, alpha: float) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise UsageError(f"a standard deviation must be at least 0, not {sd:g}")
    if not 0 < alpha < power < 1:
        raise UsageError(f"the power must lie between alpha and 1, not {power:g} with alpha {alpha:g}")
