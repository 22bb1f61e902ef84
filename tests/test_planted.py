"""Simulated responses whose diversity is known: the intervals cover it, and the tests err, at the stated rates.

Each prompt has its own distribution over five answers, drawn from a symmetric Dirichlet, so that diversity varies
between prompts as it does in life; its expectation over prompts is known in closed form.
"""

from __future__ import annotations

import numpy as np
import pytest
from proofs import repetitions, within
from scipy.special import betaln

from outspoken.measure import Answers, Response
from outspoken.measure.measure_definition import compute
from outspoken.measure.measure_input import MeasureInput
from outspoken.measure.measures import MEASURES
from outspoken.measure.statistics import compare, mean_estimate

pytestmark = pytest.mark.proof

ANSWERS = ("Assam", "Oolong", "Sencha", "龙井茶", "قهوة ☕")
PROMPTS, RESPONSES, REPETITIONS, RESAMPLES = 24, 6, repetitions(), 1_000
NARROW, WIDE = 0.2, 1.0
NAMES = ("semantic_diversity", "distinct_answers", "rouge_l")


def truth(name: str, concentration: float) -> float:
    """The expectation over prompts of a measure of `RESPONSES` responses."""
    k, a = len(ANSWERS), concentration
    same = (a + 1) / (k * a + 1)  # E sum p^2: two responses are the same answer
    if name == "semantic_diversity":
        return 1 - same
    if name == "rouge_l":
        return same
    never = np.exp(betaln(a, (k - 1) * a + RESPONSES) - betaln(a, (k - 1) * a))  # E (1 - p)^n
    return float(k * (1 - never))


def measured(generator: np.random.Generator, concentration: float) -> dict[str, np.ndarray]:
    """Sums and weights of each prompt, as an analysis makes them from its responses."""
    result: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for shares in generator.dirichlet([concentration] * len(ANSWERS), PROMPTS):
        drawn = generator.choice(len(ANSWERS), RESPONSES, p=shares)
        responses = tuple(Response(ANSWERS[at], call=number) for number, at in enumerate(drawn))
        # Different answers are at right angles, so their cosine distance is 1.
        material = MeasureInput(responses, Answers.free(), np.eye(len(ANSWERS))[drawn])
        for name in NAMES:
            result[name].append(compute(MEASURES[name], material))
    return {name: np.array(pairs).T for name, pairs in result.items()}


@pytest.fixture(scope="module")
def samples() -> list[tuple[dict[str, np.ndarray], ...]]:
    """Repetitions of an experiment with a narrow method, a wide one, and the narrow one once more."""
    generator = np.random.default_rng(20251001)
    return [tuple(measured(generator, a) for a in (NARROW, WIDE, NARROW)) for _ in range(REPETITIONS)]


@pytest.mark.parametrize("name", NAMES)
def test_intervals_cover_the_known_diversity(samples: list[tuple[dict[str, np.ndarray], ...]], name: str):
    covered = 0
    for sample in samples:
        estimate = mean_estimate(*sample[1][name])
        covered += estimate.low <= truth(name, WIDE) <= estimate.high  # type: ignore[operator]
    assert within(covered / REPETITIONS, 0.92, 0.98)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_cover_the_known_difference_and_the_test_sees_it(
    samples: list[tuple[dict[str, np.ndarray], ...]], name: str
):
    difference = truth(name, WIDE) - truth(name, NARROW)
    covered = seen = 0
    for narrow, wide, _ in samples:
        result = compare(wide[name][0], narrow[name][0], wide[name][1], narrow[name][1], resamples=RESAMPLES)
        covered += result.low <= difference <= result.high  # type: ignore[operator]
        seen += result.p <= 0.05  # type: ignore[operator]
    assert within(covered / REPETITIONS, 0.92, 0.98)
    assert seen / REPETITIONS > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_equal_methods_differ_no_more_often_than_stated(
    samples: list[tuple[dict[str, np.ndarray], ...]], name: str
):
    false = 0
    for narrow, _, again in samples:
        result = compare(narrow[name][0], again[name][0], narrow[name][1], again[name][1], resamples=RESAMPLES)
        false += result.p <= 0.05  # type: ignore[operator]
    # If many differences tie (counts of answers), the test is conservative.
    assert within(false / REPETITIONS, 0.01, 0.075)
