"""Sharpening against direct optimisation, brute force, and what must hold of any distribution."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax

from outspoken.candidate import Candidate
from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.provenance import Provenance
from outspoken.theory.sharpening import (
    Sharpened,
    aligned_optimum,
    apply_reward,
    draws_to_new,
    effective_size,
    entropy,
    expected_distinct,
    gamma_of,
    objective,
    sharpen,
    variety_curve,
)

NAMES = ["Texas", "東京", "กรุงเทพ", "القاهرة", "🦙", "Ohio"]
weights = st.dictionaries(st.sampled_from(NAMES), st.floats(1e-3, 1e3), min_size=2)
powers = st.floats(-3, 20)


def optimised(p: np.ndarray, reward: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """The maximum of the objective over softmax logits, by scipy; the objective is written out again here."""

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        pi = softmax(logits)
        gain = reward + alpha * np.log(p) - beta * (np.log(pi) - np.log(p))
        value = pi @ gain
        return -value, -pi * (gain - value)

    found = minimize(loss, np.zeros(len(p)), jac=True, method="BFGS", options={"gtol": 1e-12, "maxiter": 5000})
    polished = minimize(loss, found.x, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-14})
    return softmax(polished.x)


@pytest.mark.parametrize("seed", range(12))
def test_the_closed_form_is_the_optimum(seed: int) -> None:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(6))
    reward, alpha, beta = random.normal(size=6), random.uniform(-0.3, 1.2), random.uniform(0.3, 2)
    closed = aligned_optimum(p, reward, alpha, beta)
    assert np.abs(closed - optimised(p, reward, alpha, beta)).max() < 1e-8
    best = objective(closed, p, reward, alpha, beta)
    for other in random.dirichlet(np.ones(6), size=50):
        assert objective(other, p, reward, alpha, beta) < best


def test_flat_reward_leaves_the_power_alone() -> None:
    p = {"a": 5.0, "b": 3.0, "c": 0.0}
    assert aligned_optimum(p, None, 0.57, 0.2) == pytest.approx(sharpen(p, 3.85))
    assert aligned_optimum(p, {"a": 2.0, "b": 2.0, "c": 2.0}, 0.57, 0.2) == pytest.approx(sharpen(p, 3.85))
    assert objective({"c": 1.0}, p, None, 1, 1) == objective(np.array([0, 0, 1]), np.array([5, 3, 0]), None, 1, 1)
    assert objective({"c": 1.0}, p, None, 1, 1) == -math.inf


@given(weights, st.floats(1, 10), st.floats(1, 10))
def test_sharper_is_less_various(p: dict[str, float], a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert entropy(sharpen(p, high)) <= entropy(sharpen(p, low)) + 1e-9


@given(weights, st.floats(-2, 3), st.floats(-2, 3))
def test_powers_multiply(p: dict[str, float], a: float, b: float) -> None:
    assert sharpen(sharpen(p, a), b) == pytest.approx(sharpen(p, a * b), abs=1e-9)


@given(weights, st.floats(-50, 50), st.floats(0.01, 10))
def test_a_constant_reward_changes_nothing(p: dict[str, float], reward: float, beta: float) -> None:
    assert apply_reward(p, dict.fromkeys(p, reward), beta) == pytest.approx(sharpen(p, 1.0))


@given(weights, powers)
def test_ties_stay_ties_and_order_stays_order(p: dict[str, float], gamma: float) -> None:
    tied = {**p, "zwei": next(iter(p.values()))}
    after = sharpen(tied, gamma)
    assert after["zwei"] == after[next(iter(p))]
    assert math.fsum(after.values()) == pytest.approx(1)
    ranked = sorted(p, key=lambda name: p[name])
    steps = [after[b] - after[a] for a, b in pairwise(ranked)]
    assert all(step * (1 if gamma > 0 else -1) >= -1e-15 for step in steps)


def test_extremes_neither_overflow_nor_bring_back_what_was_zero() -> None:
    p = {"a": 1e-200, "b": 3e-200, "c": 0.0}
    assert sharpen(p, 500)["b"] == pytest.approx(1)
    assert sharpen(p, 0) == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert sharpen(p, -500) == {"a": pytest.approx(1), "b": pytest.approx(3.0**-500), "c": 0.0}
    with pytest.raises(UsageError, match="too large"):
        sharpen(dict.fromkeys(NAMES, 1.0), 1.7e308)
    rows = np.array([[1.0, 3, 0], [2, 2, 4]])
    assert sharpen(rows, 2) == pytest.approx(np.array([[0.1, 0.9, 0], [1 / 6, 1 / 6, 2 / 3]]))


@pytest.mark.parametrize("gamma", [2.5, 1.0, 0.5, 0.0, -1.0])
def test_a_distribution_stays_one(gamma: float) -> None:
    made = Provenance(prompt="說一個州", model="m", method="vs-standard")
    before = Distribution((Candidate("b", 0.3, stated=0.4), Candidate("ä", 0.7)), mass=0.4, provenance=made)
    after = sharpen(before, gamma)
    wanted = sharpen({"ä": 0.7, "b": 0.3}, gamma)
    assert {candidate.text: candidate.probability for candidate in after} == pytest.approx(wanted)
    assert (after.provenance, after.mass) == (made, 0.4)
    assert next(c.stated for c in after if c.text == "b") == 0.4
    assert entropy(after) == pytest.approx(after.entropy())
    assert effective_size(after) == pytest.approx(after.effective_size())


def test_figures_of_draws_against_drawing() -> None:
    p = np.array([0.6, 0.3, 0.1])
    random = np.random.default_rng(1)
    draws = random.choice(3, p=p, size=(40_000, 10))
    held = np.mean([len(set(row)) for row in draws.tolist()])
    assert expected_distinct(p, 10) == pytest.approx(held, abs=0.02)
    first, rest = random.choice(3, p=p, size=40_000), random.choice(3, p=p, size=(40_000, 60))
    waits = 1 + np.argmax(rest != first[:, None], axis=1)
    assert draws_to_new(p) == pytest.approx(waits.mean(), rel=0.03)
    assert expected_distinct({"a": 1.0}, 5) == 1
    assert expected_distinct(p, 0) == 0
    assert draws_to_new({"a": 3.0, "b": 0.0}) == math.inf


def test_a_rare_second_answer_is_not_lost_to_rounding() -> None:
    assert draws_to_new({"a": 1.0, "b": 1e-30}) == pytest.approx(1e30)


@given(weights, st.integers(1, 200))
def test_more_draws_never_hold_fewer_answers(p: dict[str, float], n: int) -> None:
    assert 1 - 1e-9 <= expected_distinct(p, n) <= expected_distinct(p, n + 1) + 1e-9 <= len(p) + 1e-6


def test_gamma_of_alpha_and_beta() -> None:
    assert gamma_of(0.57, 0.2) == pytest.approx(3.85)
    assert gamma_of(-1, 0.5) == -1
    for beta in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="beta must be"):
            gamma_of(0.5, beta)
    with pytest.raises(UsageError, match="larger beta"):
        gamma_of(1e300, 1e-300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: apply_reward({"a": 1.0, "b": 1.0}, {"a": 1.0}, 1), "no reward for 'b'"),
        (lambda: apply_reward(np.ones(3), np.ones(2), 1), "2 rewards for 3"),
        (lambda: apply_reward(np.ones(2), [math.nan, 1], 1), "finite"),
        (lambda: sharpen({"a": -1.0, "b": 2.0}, 2), "weight of 'a'"),
        (lambda: sharpen(np.array([-1.0, 2.0]), 2), "at least 0"),
        (lambda: sharpen(np.zeros(2), 2), "weight above 0"),
        (lambda: entropy(np.ones((2, 2))), "one row"),
        (lambda: expected_distinct(np.ones(2), -1), "at least 0"),
        (lambda: sharpen(np.ones(2), math.nan), "finite number"),
        (lambda: sharpen(Distribution((Candidate("a", 1),)), math.inf), "finite number"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_the_result_of_both_ways_to_name_the_power() -> None:
    p = {"New York": 6.0, "Texas": 3.0, "Maine": 0.0, "東京": 1.0}
    document = Sharpened.of(p, alpha=0.5, beta=0.25).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["gamma"] == 3
    assert [entry["text"] for entry in document["answers"]] == ["New York", "Texas", "東京", "Maine"]
    assert document["answers"][0]["after"] == pytest.approx(216 / (216 + 27 + 1))
    assert document["distribution"]["candidates"][0]["probability"] == pytest.approx(216 / 244)
    powers = [entry["gamma"] for entry in document["curve"]]
    assert powers == sorted(set(powers))
    assert {0.0, 1.0, 3.0} <= set(powers)
    at = document["curve"][powers.index(3.0)]
    assert {name: value for name, value in at.items() if name != "gamma"} == pytest.approx(document["after"])
    same = Sharpened.of(p, gamma=3.0).to_dict()
    assert (same["alpha"], same["beta"], same["after"]) == (None, None, document["after"])


def test_powers_below_one_are_explained_and_collapse_has_no_next_draw() -> None:
    p = {"a": 2.0, "b": 1.0}
    assert Sharpened.of(p, gamma=1).warnings == ()
    for gamma, word in ((0.5, "flattens"), (0.0, "equally likely"), (-1.0, "rarest")):
        assert word in Sharpened.of(p, gamma=gamma).warnings[0]
    collapsed = Sharpened.of(p, gamma=5000)
    assert collapsed.to_dict()["after"]["draws_to_new"] is None
    assert "never comes" in collapsed.sentences[2]
    assert [spread.draws_to_new for spread in variety_curve(p, [0, 5000])] == [2, math.inf]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "alpha and beta, or gamma"),
        ({"alpha": 1.0, "beta": 1.0, "gamma": 2.0}, "alpha and beta, or gamma"),
        ({"alpha": 1.0}, "beta is missing"),
        ({"beta": 1.0}, "alpha is missing"),
    ],
)
def test_the_power_is_named_once(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sharpened.of({"a": 1.0, "b": 1.0}, **options)


def test_one_answer_cannot_be_sharpened() -> None:
    with pytest.raises(UndefinedError, match="at least two"):
        Sharpened.of({"a": 1.0, "b": 0.0}, gamma=2)


@given(weights)
def test_an_even_distribution_has_the_fewest_draws_to_wait(p: dict[str, float]) -> None:
    assume(len(p) > 1)
    assert draws_to_new(p) >= draws_to_new(sharpen(p, 0)) - 1e-9 == pytest.approx(len(p) / (len(p) - 1))
