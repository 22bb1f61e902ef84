from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.answer_sets import Answers, load
from outspoken.measure.divergence import (
    Significance,
    chi_square,
    coverage,
    is_weight,
    js,
    kl_shared,
    kl_smoothed,
    kl_uniform,
    kl_uniform_published,
    ks,
    ks_distance,
    l1_histogram,
    precision,
    shares,
    tv,
)

STATES = Path(__file__).parents[2] / "shared/data/states"
weights = st.dictionaries(
    st.sampled_from(["Texas", "東京", "กรุงเทพ", "القاهرة", "🦙", "Ohio"]), st.floats(1e-3, 1e3), min_size=1
)


def states() -> tuple[dict[str, float], Counter[str]]:
    if not STATES.is_dir():
        pytest.skip("the recorded answers of ../shared/data/states are absent")
    reference = load(STATES / "reference_redpajama_counts.json")
    assert isinstance(reference, Answers)
    direct: Counter[str] = Counter()
    for trial in json.loads((STATES / "direct_gpt-4.1_500.json").read_text()):
        for answer, count in trial.items():
            direct[reference.label(answer)] += count
    assert reference.reference is not None
    return dict(reference.reference), direct


def test_the_recorded_figures_of_the_states() -> None:
    reference, direct = states()
    assert len(reference) == 50
    assert direct.total() == 500
    assert kl_smoothed(reference, direct) == pytest.approx(14.886465, abs=1e-6)
    assert kl_shared(reference, direct) == pytest.approx(0.584276, abs=1e-6)
    assert kl_uniform(direct, len(reference)) == pytest.approx(2.479683, abs=1e-6)
    assert kl_uniform_published(direct) == pytest.approx(0.513570, abs=1e-6)
    assert coverage(direct, reference) == pytest.approx(7 / 50)
    assert precision(direct, reference) == 1


def test_the_constant_makes_the_smoothed_figure_and_no_other() -> None:
    reference, direct = states()
    missing = sum(share for answer, share in reference.items() if answer not in direct)
    step = kl_smoothed(reference, direct, 1e-12) - kl_smoothed(reference, direct, 1e-10)
    assert step == pytest.approx(missing * math.log(100), rel=1e-3)


def test_from_uniform_over_the_faces_of_a_die() -> None:
    skewed = {"1": 1, "4": 3}
    by_hand = 0.25 * math.log(0.25 * 6) + 0.75 * math.log(0.75 * 6)
    assert kl_uniform(skewed, 6) == pytest.approx(by_hand)
    assert kl_uniform(dict.fromkeys("123456", 7), 6) == pytest.approx(0, abs=1e-12)
    with pytest.raises(UsageError, match="7 answers have weight and only 6"):
        kl_uniform(dict.fromkeys("1234567", 1), 6)
    assert kl_uniform({"a": 1, "b": 0}, 1) == 0


def vectors(p: dict[str, float], q: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    union = sorted({*p, *q})
    first, second = (np.array([side.get(answer, 0.0) for answer in union]) for side in (p, q))
    return first / first.sum(), second / second.sum()


@given(weights, weights)
def test_against_scipy(p: dict[str, float], q: dict[str, float]) -> None:
    first, second = vectors(p, q)
    assert kl_smoothed(p, q) == pytest.approx(stats.entropy(first + 1e-10, second + 1e-10), abs=1e-9)
    assert js(p, q) == pytest.approx(jensenshannon(first, second) ** 2, abs=1e-9)
    assert tv(p, q) == pytest.approx(np.abs(first - second).sum() / 2, abs=1e-12)
    both = (first > 0) & (second > 0)
    if both.any():
        assert kl_shared(p, q) == pytest.approx(stats.entropy(first[both], second[both]), abs=1e-9)
    else:
        with pytest.raises(UndefinedError, match="share no answer"):
            kl_shared(p, q)
    assert kl_uniform(p, 6) == pytest.approx(math.log(6) - stats.entropy(list(p.values())), abs=1e-9)
    assert kl_uniform_published(p) == pytest.approx(math.log(len(p)) - stats.entropy(list(p.values())), abs=1e-9)


@given(weights, weights, weights)
def test_properties_of_a_distance(p: dict[str, float], q: dict[str, float], r: dict[str, float]) -> None:
    assert js(p, q) == pytest.approx(js(q, p), abs=1e-12)
    assert 0 <= js(p, q) <= math.log(2)
    assert 0 <= tv(p, q) <= 1
    assert tv(p, r) <= tv(p, q) + tv(q, r) + 1e-12
    assert kl_smoothed(p, q) >= 0
    assert kl_smoothed(p, q) >= 2 * tv(p, q) ** 2 - 1e-6  # Pinsker
    assert js(p, q) <= tv(p, q) * math.log(2) + 1e-12  # Lin 1991, theorem 3


@given(weights, weights, st.floats(1e-3, 1e3))
def test_zero_only_for_equal_distributions(p: dict[str, float], q: dict[str, float], scale: float) -> None:
    same = {answer: weight * scale for answer, weight in reversed(p.items())}
    for measure in (kl_smoothed, kl_shared, js, tv):
        assert measure(p, same) == pytest.approx(0, abs=1e-12)
    assume(tv(p, q) > 1e-3)
    assert min(kl_smoothed(p, q), js(p, q)) > 1e-7


def test_swapping_gives_the_other_direction() -> None:
    p, q = {"a": 9, "b": 1}, {"a": 1, "b": 1}
    assert kl_shared(p, q) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    assert kl_shared(q, p) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5))
    assert kl_smoothed({"a": 1}, {"a": 1, "b": 1}) == pytest.approx(math.log(2), abs=1e-8)
    assert kl_smoothed({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(
        0.5 * math.log(0.5) + 0.5 * math.log(5e9), abs=1e-6
    )


def test_coverage_and_precision() -> None:
    result = {"France": 3, "日本": 1, "Atlantis": 4, "Peru": 0}
    known = ["France", "日本", "Peru", "Ghana"]
    assert coverage(result, known) == 0.5
    assert precision(result, known) == 0.5
    assert coverage({"Atlantis": 1}, known) == 0 == precision({"Atlantis": 1}, known)
    for measure in (coverage, precision):
        with pytest.raises(UndefinedError, match="no answer is known"):
            measure(result, [])
        with pytest.raises(UndefinedError, match="nothing can be compared"):
            measure({}, known)


def test_chi_square() -> None:
    result = chi_square({"1": 20, "2": 30, "3": 10}, {"1": 1, "2": 1, "3": 2})
    reference = stats.chisquare([20, 30, 10], [15, 15, 30])
    assert (result.statistic, result.p) == pytest.approx((reference.statistic, reference.pvalue))
    assert result.dof == 2
    assert result.to_dict() == {"statistic": result.statistic, "p": result.p, "dof": 2}
    few = chi_square({"heads": 3}, {"heads": 0.5, "tails": 0.5})
    assert few.statistic == pytest.approx(3)
    assert few.to_dict()["note"] == "2 of 2 expected counts are below 5: p is rough"


@pytest.mark.parametrize(
    ("counts", "p", "says"),
    [
        ({"a": 1, "Ω": 2}, {"a": 1, "b": 1}, "leave out 'Ω'"),
        ({"a": 1}, {"a": 1, "b": 0}, "leave out 'b'"),
        (dict.fromkeys("abcdef", 1), {"a": 1, "b": 1}, r"leave out 'c', 'd', 'e', \.\.\."),
        ({"a": 0.5, "b": 1}, {"a": 1, "b": 1}, "whole counts, not 0.5 for 'a'"),
        ({"a": 5}, {"a": 1}, "at least two possible"),
        ({"a": 0}, {"a": 1, "b": 1}, "nothing can be compared"),
    ],
)
def test_undefined_chi_square(counts: dict[str, float], p: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        chi_square(counts, p)


def test_ks() -> None:
    a, b = [0.0, 0.5, 1.0, 2.0], [0.5, 1.5, 2.0, 2.0, 2.0]
    reference = stats.ks_2samp(a, b)
    assert ks(a, b) == Significance(reference.statistic, reference.pvalue)
    assert ks(a, b).statistic == pytest.approx(
        max(abs(np.mean(np.array(a) <= x) - np.mean(np.array(b) <= x)) for x in a)
    )
    assert ks(a, a).p == 1
    assert "dof" not in ks(a, a).to_dict()


def test_answers_that_are_one_number_are_added_up_for_ks() -> None:
    assert ks_distance({"1": 1, "1.0": 1, "2": 2}, {"1": 1, "2": 1}) == pytest.approx(0)
    assert ks_distance({"$1": 1, "one": 1, "1.0": 1, "４": 1}, {"1": 3, "4": 1}) == pytest.approx(0)
    for answer in ("many", "nan"):
        with pytest.raises(
            UndefinedError, match=f"1 answer is none, with 25.0% of the weight, such as '{answer}'"
        ):
            ks_distance({"1": 1}, {"1": 3, answer: 1})
    assert ks_distance({"1": 1, "many": 0}, {"1": 1}) == 0


def test_l1_histogram() -> None:
    assert l1_histogram([0, 1, 2], [0, 1, 2]) == 0
    assert l1_histogram([0, 0.05], [2, 2]) == pytest.approx(2)
    rng = np.random.default_rng(0)
    a, b = rng.random(50) * 2, rng.random(80)
    dense = [np.histogram(x, 20, (0, 2), density=True)[0] for x in (a, b)]
    assert l1_histogram(list(a), list(b)) == pytest.approx(np.abs(dense[0] - dense[1]).sum() * 0.1)
    with pytest.raises(UsageError, match=r"2\.5 lies outside 0 to 2"):
        l1_histogram([1, 2.5], [1])
    with pytest.raises(UsageError, match="no histogram"):
        l1_histogram([1], [1], bins=0)


@pytest.mark.parametrize("sample", [[math.nan], [1, math.inf], ["x"], [[1, 2]], []])
def test_invalid_samples(sample: list[float]) -> None:
    for measure in (ks, l1_histogram):
        with pytest.raises(UndefinedError if sample == [] else UsageError, match="a sample"):
            measure([1.0], sample)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "3", None, True, 10**400])
def test_invalid_weights(bad: float) -> None:
    assert not is_weight(bad)
    for measure in (kl_smoothed, kl_shared, js, tv):
        with pytest.raises(UsageError, match="the weight of 'ü' must be"):
            measure({"a": 1}, {"ü": bad})


@pytest.mark.parametrize("nothing", [{}, {"a": 0, "b": 0.0}])
def test_the_share_of_nothing(nothing: dict[str, float]) -> None:
    for measure in (shares, kl_uniform_published, lambda q: kl_uniform(q, 3), lambda q: js({"a": 1}, q)):
        with pytest.raises(UndefinedError, match="nothing can be compared"):
            measure(nothing)


def test_shares_of_the_greatest_and_the_least_numbers() -> None:
    assert shares({"a": 1e308, "b": 1e308}) == {"a": 0.5, "b": 0.5}
    assert shares({"a": 5e-324}) == {"a": 1.0}


def test_smoothing_needs_a_constant() -> None:
    for epsilon in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="epsilon must be above 0"):
            kl_smoothed({"a": 1}, {"a": 1}, epsilon)
