"""How many answers are in the model: the bounds hold by simulation over laws whose answers are known."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from proofs import PROOFS, repetitions

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.richness import mean_curve, richness

TIMES = repetitions(500, 100)
SLACK = 0.0 if PROOFS else 0.04
EXPONENTS = {"uniform": 0.0, "zipf 1": 1.0, "zipf 1.5": 1.5}


@pytest.mark.proof
@pytest.mark.parametrize("draws", [30, 100, 300])
@pytest.mark.parametrize(("law", "answers"), list(itertools.product(EXPONENTS, (50, 200, 1_000))))
def test_the_bound_and_the_coverage_hold(law, answers, draws):
    shares = np.arange(1, answers + 1) ** -EXPONENTS[law]
    shares /= shares.sum()
    random = np.random.default_rng(answers + draws)
    above_truth = above_seen = covered = 0
    errors = []
    on_curve: Counter[int] = Counter()
    for _ in range(TIMES):
        counts = random.multinomial(draws, shares)
        found = richness(counts[counts > 0], points=4)
        above_truth += found.at_least > answers
        above_seen += found.at_least > found.seen
        if found.once == 0:
            assert found.at_least == found.seen
        true = shares[counts > 0].sum()
        errors.append(found.coverage - true)
        covered += found.coverage_low <= true <= found.coverage_high
        for point in found.curve:
            expected = (1 - (1 - shares) ** point.draws).sum()
            on_curve[point.draws] += point.low - 1e-9 <= expected <= point.high + 1e-9
    assert above_truth / TIMES <= 0.07 + SLACK
    if law == "uniform" and answers == 200 and draws >= 100:
        assert above_seen / TIMES >= 0.9 - SLACK
    if draws >= 100:
        assert abs(np.mean(errors)) <= 0.01 + SLACK / 4
    if draws >= 300:
        assert covered / TIMES >= 0.88 - SLACK
    for size, held in on_curve.items():
        assert held / TIMES >= (0.92 if size <= draws else 0.86) - SLACK


def test_the_curve_is_that_of_all_subsets():
    counts = [3, 2, 1, 1]
    labels = [answer for answer, count in enumerate(counts) for _ in range(count)]
    curve = {point.draws: point.distinct for point in richness(counts, points=14).curve}
    for size in (1, 3, 5, 7):
        subsets = list(itertools.combinations(labels, size))
        assert curve[size] == pytest.approx(np.mean([len(set(subset)) for subset in subsets]))
    assert curve[14] > curve[7] == 4


def test_published_formulas_by_hand():
    found = richness([1, 1, 1, 1, 2, 2, 5])
    assert (found.draws, found.seen, found.once, found.twice) == (13, 7, 4, 2)
    assert found.estimate == pytest.approx(7 + 12 / 13 * 16 / 4)
    assert found.coverage == pytest.approx(1 - 4 / 13 * 48 / (48 + 4))
    assert found.at_least >= found.seen
    assert found.coverage_low < found.coverage < found.coverage_high
    assert found.new_in_as_many > 0


def test_edges():
    one = richness([1])
    assert (one.seen, one.at_least, one.coverage) == (1, 1, 0.0)
    same = richness([40])
    assert (same.estimate, same.at_least, same.coverage, same.new_in_as_many) == (1, 1, 1.0, 0.0)
    different = richness([1] * 10)
    assert different.estimate > 10
    assert different.coverage_high == pytest.approx(0.3)
    seen = richness([6] * 50).curve[-1]
    assert (seen.draws, seen.distinct) == (600, 50)
    assert seen.low < 50
    assert all(point.low <= point.distinct <= point.high + 1e-9 for point in different.curve)
    with pytest.raises(UndefinedError, match="no draw"):
        richness([])
    for wrong in ([0.5], [-1], [float("nan")]):
        with pytest.raises(UsageError, match="whole numbers"):
            richness(wrong)


def test_the_mean_curve_of_prompts():
    curve = mean_curve([richness([5, 5]), richness([1] * 10)])
    assert curve[0].distinct == pytest.approx(1)
    assert curve[-1].draws == 20
    assert [point.distinct for point in curve] == sorted(point.distinct for point in curve)
    assert mean_curve([]) == ()
