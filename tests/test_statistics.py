from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proofs import repetitions, within
from scipy import stats

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.estimates import Comparison, Estimate
from outspoken.measure.power import detectable, prompts_needed
from outspoken.measure.statistics import compare, corrected, holm, mean_estimate, plugin_estimate

REPETITIONS = repetitions()
PROMPTS = 30


def means(generator: np.random.Generator, truth: float, *, skewed: bool) -> np.ndarray:
    """The mean of 10 responses for each of 30 prompts, which differ from each other too."""
    if skewed:
        between = truth * generator.gamma(2, 0.5, PROMPTS)
        within = generator.exponential(1, (PROMPTS, 10)) - 1
    else:
        between = generator.normal(truth, 0.3, PROMPTS)
        within = generator.normal(0, 0.5, (PROMPTS, 10))
    return (between[:, None] + within).mean(axis=1)


def rate(happens: Callable[[np.random.Generator, int], bool], seed: int) -> float:
    generator = np.random.default_rng(seed)
    return sum(happens(generator, at) for at in range(REPETITIONS)) / REPETITIONS


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.proof
def test_intervals_of_means_cover_a_planted_truth(skewed: bool) -> None:
    def covered(generator: np.random.Generator, at: int) -> bool:
        figure = mean_estimate(means(generator, 1.0, skewed=skewed))
        return figure.low <= 1.0 <= figure.high

    assert within(rate(covered, 11), 0.92, 0.98)


@pytest.mark.proof
def test_intervals_of_pooled_pairs_cover_when_prompts_have_different_numbers_of_responses() -> None:
    sizes = np.arange(2, 12)
    truth = 0.4 + 0.01 * (sizes * sizes * (sizes - 1)).sum() / (sizes * (sizes - 1)).sum()

    def covered(generator: np.random.Generator, at: int) -> bool:
        responses = generator.integers(2, 12, PROMPTS)
        pairs = responses * (responses - 1) // 2
        level = generator.beta(4, 6, PROMPTS) + 0.01 * responses
        total = pairs * level + generator.normal(0, 0.1, PROMPTS) * np.sqrt(pairs)
        figure = mean_estimate(total, pairs)
        return figure.low <= truth <= figure.high

    assert within(rate(covered, 12), 0.92, 0.98)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.proof
def test_intervals_of_a_difference_cover_a_planted_one(skewed: bool) -> None:
    def covered(generator: np.random.Generator, at: int) -> bool:
        prompt = generator.normal(0, 1, PROMPTS)
        a = prompt + means(generator, 1.3, skewed=skewed)
        b = prompt + means(generator, 1.0, skewed=skewed)
        compared = compare(a, b, resamples=2000, seed=at)
        return compared.low <= 0.3 <= compared.high

    assert within(rate(covered, 13), 0.92, 0.98)


@pytest.mark.parametrize("prompts", [10, PROMPTS])
@pytest.mark.proof
def test_the_permutation_test_rejects_a_true_null_at_the_stated_rate(prompts: int) -> None:
    def rejected(generator: np.random.Generator, at: int) -> bool:
        prompt = generator.normal(0, 1, prompts)
        a, b = (prompt + generator.exponential(1, prompts) for _ in range(2))
        wa, wb = (generator.integers(1, 9, prompts) for _ in range(2))
        return compare(a * wa, b * wb, wa, wb, resamples=2000, seed=at).p <= 0.05

    assert within(rate(rejected, 14), 0.025, 0.075)


@pytest.mark.proof
def test_holm_keeps_the_rate_of_any_false_alarm_in_a_family() -> None:
    def alarmed(generator: np.random.Generator, at: int) -> bool:
        methods = generator.normal(0, 1, (6, PROMPTS))
        family = corrected(compare(each, methods[0], resamples=2000, seed=at) for each in methods[1:])
        return any(compared.p_holm <= 0.05 for compared in family)

    assert within(rate(alarmed, 15), 0.005, 0.075)


@pytest.mark.proof
def test_the_basic_interval_covers_a_divergence_where_percentiles_do_not() -> None:
    truth = 1 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()
    wanted = (truth * np.log(50 * truth)).sum()
    generator = np.random.default_rng(16)
    basic = percentile = 0
    for at in range(REPETITIONS):
        answers = np.eye(50)[generator.choice(50, 300, p=truth)]

        def divergence(counts: np.ndarray, answers: np.ndarray = answers) -> np.ndarray:
            shares = counts @ answers / 300
            return (shares * np.log(np.where(shares > 0, 50 * shares, 1))).sum(axis=1)

        figure = plugin_estimate(divergence, 300, resamples=400, seed=at, unit="answer")
        basic += figure.low <= wanted <= figure.high
        percentile += 2 * figure.value - figure.high <= wanted <= 2 * figure.value - figure.low
    assert within(basic / REPETITIONS, 0.88, 0.98)
    assert percentile / REPETITIONS < 0.5


def test_an_interval_is_that_of_hall() -> None:
    values, weights = np.array([1.0, 9.0, 2.0, 7.0, 4.0]), np.array([1.0, 6.0, 3.0, 10.0, 6.0])
    mean = 23 / 26
    figures = mean + (values - mean * weights) / weights.mean()
    error = figures.std(ddof=1) / math.sqrt(5)
    skewness = stats.skew(figures, bias=False)
    a, b = skewness / (3 * math.sqrt(5)), skewness / (6 * math.sqrt(5))
    critical = stats.t.isf(0.25, weights.sum() ** 2 / (weights**2).sum() - 1)
    figure = mean_estimate(values, weights, level=0.5)
    assert figure.value == pytest.approx(mean)
    for end, t in ((figure.low, critical), (figure.high, -critical)):
        assert end == pytest.approx(mean - (np.cbrt(1 + 3 * a * (t - b)) - 1) / a * error)


def test_a_plugin_that_is_a_mean_has_the_percentiles_of_its_resamples_mirrored() -> None:
    values = np.sort(np.random.default_rng(1).gamma(2, 1, 25))
    mirrored = plugin_estimate(lambda counts: counts @ values / 25, 25, seed=5)
    mean = mean_estimate(values)
    assert mirrored.value == pytest.approx(mean.value)
    assert mirrored.high - mirrored.low == pytest.approx(mean.high - mean.low, rel=0.15)


@pytest.mark.parametrize("units", [1, 3, 6, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_exact_test_is_that_of_all_swaps_listed(units: int, weighted: bool) -> None:
    generator = np.random.default_rng(units)
    # Whole numbers, so that many swaps tie with what was observed.
    a, b = (generator.integers(0, 4, units) * 1.0 for _ in range(2))
    wa, wb = (generator.integers(1, 5, units) if weighted else np.ones(units) for _ in range(2))
    observed = abs(a.sum() / wa.sum() - b.sum() / wb.sum())
    reached = 0
    for swap in product([False, True], repeat=units):
        x, y = np.where(swap, b, a).sum(), np.where(swap, a, b).sum()
        wx, wy = np.where(swap, wb, wa).sum(), np.where(swap, wa, wb).sum()
        reached += abs(x / wx - y / wy) >= observed - 1e-9
    assert compare(a, b, wa, wb).p == (None if units == 1 else reached / 2**units)


def test_the_random_swaps_agree_with_all_of_them() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(0.3, 1, 15), generator.normal(0, 1, 15)
    signs = np.array(list(product([1, -1], repeat=15)))
    exact = np.mean(np.abs(signs @ (a - b)) >= abs((a - b).sum()) - 1e-9)
    assert compare(a, b, resamples=50_000).p == pytest.approx(exact, abs=0.01)
    assert compare(a + 100, b, resamples=999).p == 1 / 1000


def test_a_comparison_by_hand() -> None:
    compared = compare([3, 5, 4, 8, 6, 7, 9], [2, 3, 4, 5, 4, 6, 5])
    gaps = np.array([1, 2, 0, 3, 2, 1, 4])
    assert compared.difference == pytest.approx(gaps.mean())
    assert compared.p == 2 / 64  # all of one sign but for a tie
    # Hedges' exact factor for 6 degrees of freedom: Gamma(3) / (sqrt(3) Gamma(2.5)).
    factor = 2 / (math.sqrt(3) * 0.75 * math.sqrt(math.pi))
    assert compared.effect == pytest.approx(gaps.mean() / gaps.std(ddof=1) * factor)
    assert compared.needed == max(6, prompts_needed(gaps.std(ddof=1), gaps.mean()))
    assert compared.low <= compared.difference <= compared.high
    assert (compared.units, compared.p_holm, compared.note) == (7, compared.p, "")


def test_a_pooled_difference_is_the_difference_of_the_two_estimates() -> None:
    generator = np.random.default_rng(8)
    a, b = generator.random((2, 20))
    wa, wb = generator.integers(1, 50, (2, 20))
    wanted = mean_estimate(a * wa, wa).value - mean_estimate(b * wb, wb).value
    assert compare(a * wa, b * wb, wa, wb).difference == pytest.approx(wanted)


def test_holm_by_hand() -> None:
    # statsmodels 0.14 multipletests(method="holm") for the numbers.
    p_values = [0.01, None, 0.04, 0.03, 0.005, 0.2]
    assert holm(p_values) == pytest.approx([0.04, None, 0.09, 0.09, 0.025, 0.2])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []
    compared = Comparison(0.0, None, None, 0.03, 0.03, None, 9, None)
    family = corrected([compared, replace(compared, p=None, p_holm=None), replace(compared, p=0.01)])
    assert [each.p_holm for each in family] == [0.03, None, 0.02]
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(UsageError, match=r"p_values\[1\]"):
            holm([0.5, wrong])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ranked = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize(
    ("d", "power", "alpha", "prompts"),
    [
        # statsmodels 0.14, TTestPower().solve_power, rounded up.
        (0.5, 0.8, 0.05, 34),
        (0.8, 0.8, 0.05, 15),
        (0.2, 0.8, 0.05, 199),
        (0.5, 0.9, 0.05, 44),
        (0.5, 0.8, 0.01, 51),
        (1.2, 0.8, 0.05, 8),
        (0.1, 0.95, 0.05, 1302),
        (2.0, 0.8, 0.05, 5),
    ],
)
def test_prompts_needed_are_those_of_statsmodels(d: float, power: float, alpha: float, prompts: int) -> None:
    assert prompts_needed(3.0, -3.0 * d, power=power, alpha=alpha) == prompts


@pytest.mark.parametrize(("prompts", "d"), [(5, 1.6819970833), (10, 0.9960019108), (30, 0.5292357045)])
def test_detectable_is_that_of_statsmodels(prompts: int, d: float) -> None:
    assert detectable(2.0, prompts) == pytest.approx(2.0 * d, rel=1e-6)


@given(st.integers(2, 3000), st.floats(0.2, 0.99))
def test_the_plan_reads_both_ways(prompts: int, power: float) -> None:
    d = detectable(1.0, prompts, power=power)
    assert prompts_needed(1.0, d * 1.000001, power=power) <= prompts
    assert prompts == 2 or prompts_needed(1.0, d * 0.999999, power=power) >= prompts


def test_plans_at_the_ends() -> None:
    assert prompts_needed(1.0, 1e9) == prompts_needed(0.0, 1.0) == 2
    # The normal approximation, (1.95996 + 0.84162)^2 / d^2.
    assert prompts_needed(1.0, 1e-4) == pytest.approx(7.8488798e8, rel=1e-6)
    with pytest.raises(UndefinedError, match="difference of 0"):
        prompts_needed(1.0, 0.0)
    with pytest.raises(UndefinedError, match="at least 2"):
        detectable(1.0, 1)
    with pytest.raises(UsageError, match="power"):
        prompts_needed(1.0, 1.0, power=0.04)
    with pytest.raises(UsageError, match="standard deviation"):
        detectable(math.nan, 10)


rows = st.lists(st.tuples(*[st.floats(-1e6, 1e6), st.integers(1, 99)] * 2), min_size=2, max_size=20)


@given(rows, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_seeds_repeat(units: list[tuple[float, int, float, int]], chance) -> None:
    shuffled = chance.sample(units, len(units))
    one, other = (list(zip(*order, strict=True)) for order in (units, shuffled))
    kept = {"resamples": 300, "seed": 4}
    assert mean_estimate(one[0], one[1]) == mean_estimate(other[0], other[1])
    compared = compare(one[0], one[2], one[1], one[3], **kept)
    assert compared == compare(other[0], other[2], other[1], other[3], **kept)
    assert 0 < compared.p <= 1
    json.dumps(compared.to_dict(), allow_nan=False)


def test_another_seed_draws_other_resamples() -> None:
    values = np.random.default_rng(0).normal(size=12)
    figures = [
        plugin_estimate(lambda counts: counts @ values / 12, 12, resamples=500, seed=seed) for seed in range(5)
    ]
    assert len({figure.low for figure in figures}) == 5


def test_many_units_are_resampled_in_blocks() -> None:
    values = np.random.default_rng(2).normal(size=30_000)
    for figure in (
        mean_estimate(values),
        plugin_estimate(lambda counts: counts @ values / 30_000, 30_000, resamples=400),
    ):
        assert (figure.high - figure.low) / (2 * 1.96) == pytest.approx(values.std() / math.sqrt(30_000), rel=0.15)


def test_few_units_say_so() -> None:
    lone = mean_estimate([3.0], [2])
    assert lone == Estimate(1.5, None, None, 1, "prompt", "one prompt: nothing to compare it with")
    assert plugin_estimate(lambda counts: counts[:, 0], 1, unit="answer").note == "one answer: nothing to resample"
    few = mean_estimate([1, 2, 3, 4, 5], unit="question")
    assert few.note == "fewer than 6 questions: the interval is a rough guide"
    assert few.low < few.value < few.high
    assert mean_estimate([1, 2, 3, 4, 5, 6]).note == ""
    assert "no permutation test can reach" in compare([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]).note
    single = compare([1], [0])
    assert (single.p, single.low, single.high, single.effect, single.needed) == (None,) * 5
    assert single.note == "one prompt: nothing to test"
    assert compare([1, 2], [0, 0]).effect is None


def test_constants_without_a_grain_have_no_width_and_say_so() -> None:
    flat = mean_estimate([0.6, 1.2, 1.8] * 4, [2, 4, 6] * 4)
    assert flat.low == pytest.approx(0.3)
    assert flat.high == pytest.approx(0.3)
    assert flat.note == "no variation: the interval is not to be trusted"
    assert mean_estimate([0.0] * 6).note == "no variation: the interval is not to be trusted"
    assert plugin_estimate(lambda counts: np.full(len(counts), 2.0), 9).note == "no variation among 9 prompts"
    shifted = compare([1.1, 2.1, 3.1, 4.1, 5.1, 6.1], [1, 2, 3, 4, 5, 6])
    assert (shifted.effect, shifted.needed) == (None, None)
    assert shifted.note.startswith("the same difference for each of 6 prompts")
    assert shifted.p == 2 / 64
    equal = compare([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    assert (equal.difference, equal.p, equal.needed, equal.effect) == (0.0, 1.0, None, 0.0)
    assert math.copysign(1, equal.difference) == 1


def test_resamples_without_a_figure_are_counted() -> None:
    values = np.arange(40.0)

    def lost(share: float) -> Estimate:
        def statistic(counts: np.ndarray) -> np.ndarray:
            figures = counts @ values / 40
            if len(counts) > 1:
                figures[: round(share * len(counts))] = np.nan
            return figures

        return plugin_estimate(statistic, 40, resamples=1000)

    assert lost(0.05).note == "50 of 1,000 resamples left out, which have no finite figure"
    assert lost(0.05).low < 19.5 < lost(0.05).high
    assert (lost(0.051).low, lost(0.051).high) == (None, None)
    assert lost(0.051).note == "no interval: 51 of 1,000 resamples have no finite figure"


def test_a_figure_that_resampling_moves_says_so() -> None:
    distinct = plugin_estimate(lambda counts: (counts > 0).sum(axis=1), 100, resamples=500, unit="answer")
    assert distinct.note.startswith("biased with so few answers")


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1, math.nan, 2], None, r"values\[1\] is nan"),
        ([1, None, 2], None, r"values\[1\] is nan"),
        ([1, 2, math.inf], None, r"values\[2\] is inf"),
        ([1, 2], [1, math.nan], r"weights\[1\] is nan"),
        ([1, 0], [1, 0], r"weights\[1\] is 0, not above 0: leave out"),
        ([1, 0], [1, -2], r"weights\[1\] is -2"),
        ([1, 2], [1], "one weight per value"),
        ([[1, 2]], None, "a flat list of numbers"),
        (["咖啡"], None, "must be numbers"),
    ],
)
def test_invalid_numbers_are_named(values: list, weights: list | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mean_estimate(values, weights)
    with pytest.raises(UsageError, match=message):
        compare(values, values, weights, weights)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(UndefinedError, match="no prompt"):
        mean_estimate([])
    with pytest.raises(UndefinedError, match="no answer"):
        plugin_estimate(lambda counts: counts.sum(axis=1), 0, unit="answer")
    with pytest.raises(UndefinedError, match="no prompt"):
        compare([], [])
    with pytest.raises(UndefinedError, match="nan"):
        plugin_estimate(lambda counts: np.full(len(counts), np.nan), 3)
    with pytest.raises(UsageError, match="not one figure each"):
        plugin_estimate(lambda counts: counts, 3)
    with pytest.raises(UsageError, match="a has 2 prompts and b 3"):
        compare([1, 2], [1, 2, 3])
    with pytest.raises(UsageError, match="level"):
        mean_estimate([1, 2], level=95)
    with pytest.raises(UsageError, match="resamples"):
        compare([1, 2], [2, 1], resamples=0)


def test_to_dict_has_no_nan_and_a_note_only_if_there_is_one() -> None:
    entry = Estimate(1.0, math.nan, math.inf, 7).to_dict()
    assert entry == {"value": 1.0, "low": None, "high": None, "units": 7, "unit": "prompt"}
    assert Estimate(1.0, None, None, 1, "prompt", "why").to_dict()["note"] == "why"
    compared = Comparison(1.0, -math.inf, 2.0, 0.5, 0.5, math.nan, 7, 12).to_dict()
    assert (compared["low"], compared["effect"], compared["needed"], compared["note"]) == (None, None, 12, "")


def test_needed_takes_account_of_the_number_of_comparisons() -> None:
    """Seven groups make 21 pairs: with 8 prompts no test can reach 0.05 / 21, so 6 prompts are never enough."""
    random = np.random.default_rng(0)
    family = [compare(random.normal(1, 0.1, 8), random.normal(0, 0.1, 8)) for _ in range(21)]
    assert all(one.needed == 6 for one in family)
    for one in corrected(family):
        assert one.needed == 10
        assert 2 / 2 ** (one.needed - 1) > 0.05 / 21 >= 2 / 2**one.needed
        assert "at least 10 are needed" in one.note
    assert corrected(family[:1])[0].needed == 6


def test_a_comparison_the_other_way_round() -> None:
    one = compare([1.0, 2, 4, 4, 5, 9], [0.0, 1, 2, 5, 3, 1])
    other = compare([0.0, 1, 2, 5, 3, 1], [1.0, 2, 4, 4, 5, 9])
    assert one.swapped().difference == other.difference
    assert one.swapped().low == pytest.approx(other.low)
    assert one.swapped().effect == pytest.approx(other.effect)
