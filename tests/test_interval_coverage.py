"""The coverage of intervals by simulation, where it is hard: near 1, skewed, of few values, of unequal weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from proofs import PROOFS, repetitions

from outspoken.measure.statistics import mean_estimate

pytestmark = pytest.mark.proof
REPETITIONS = repetitions(2_000, 100)
UNITS = (10, 20, 50)
Sample = tuple[np.ndarray, np.ndarray]
SHARE = {"bounds": (0.0, 1.0), "step": 1.0}
COUNT = {"step": 1.0}


def share(responses: int, alike: float) -> Callable[[np.random.Generator, int], Sample]:
    """Shares of 0.95 of the responses; `alike` is the correlation of the responses to one prompt."""

    def sample(random: np.random.Generator, units: int) -> Sample:
        scale = 1 / alike - 1 if alike else 0.0
        p = random.beta(0.95 * scale, 0.05 * scale, units) if alike else np.full(units, 0.95)
        return random.binomial(responses, p) / responses, np.ones(units)

    return sample


def counts(values: tuple[int, ...], shares: tuple[float, ...]) -> Callable[[np.random.Generator, int], Sample]:
    return lambda random, units: (random.choice(values, units, p=shares).astype(float), np.ones(units))


def pairs(random: np.random.Generator, units: int) -> Sample:
    """A figure pooled over the pairs of 2 responses to half of the prompts, and of 30 to the others."""
    responses = np.where(np.arange(units) % 2 == 0, 2, 30)
    weights = responses * (responses - 1) / 2
    figures = random.normal(0.5, 0.15, units) + random.normal(0, 0.2, units) * np.sqrt(2 / responses)
    return figures * weights, weights


MANY_VALUED = {
    "lognormal": (lambda random, units: (random.lognormal(0, 1, units), np.ones(units)), math.exp(0.5), {}),
    "normal": (lambda random, units: (random.normal(3, 1, units), np.ones(units)), 3.0, {}),
    "pooled pairs": (pairs, 0.5, {}),
    "shares of 30 alike": (share(30, 0.2), 0.95, SHARE),
}
FEW_VALUED = {
    "shares of 1": (share(1, 0), 0.95, SHARE),
    "shares of 10": (share(10, 0), 0.95, SHARE),
    "shares of 10 alike": (share(10, 0.2), 0.95, SHARE),
    "shares of 30": (share(30, 0), 0.95, SHARE),
    "mostly 1": (counts((1, 2), (0.9, 0.1)), 1.1, COUNT),
    "mostly 1, some 3": (counts((1, 2, 3), (0.85, 0.1, 0.05)), 1.2, COUNT),
    "1 to 5": (counts((1, 2, 3, 4, 5), (0.2, 0.3, 0.3, 0.1, 0.1)), 2.6, COUNT),
    "nearly all 10": (counts((8, 9, 10), (0.02, 0.08, 0.9)), 9.88, COUNT),
}


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", [*MANY_VALUED, *FEW_VALUED])
def test_an_interval_covers_the_truth(name, units):
    sample, truth, options = {**MANY_VALUED, **FEW_VALUED}[name]
    random = np.random.default_rng(len(name) + units)
    covered = 0
    for _ in range(REPETITIONS):
        estimate = mean_estimate(*sample(random, units), **options)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
        if options is SHARE:
            assert 0 <= estimate.low < estimate.high <= 1
    rate, slack = covered / REPETITIONS, 0.0 if PROOFS else 0.05
    assert rate >= 0.91 - slack, rate
    if name in MANY_VALUED:
        assert rate <= 0.985 + slack, rate


@pytest.mark.parametrize(("units", "low"), [(6, 0.4), (10, 0.6), (50, 0.9)])
def test_units_that_all_agree_leave_room(units, low):
    all_right = mean_estimate([1.0] * units, **SHARE)
    assert low < all_right.low < 1 == all_right.high  # type: ignore[operator]
    ones = mean_estimate([1.0] * units, **COUNT)
    assert ones.low < 1 < ones.high < 2  # type: ignore[operator]
    assert "not to be trusted" in mean_estimate([0.3] * units).note
