"""The three levels of asking: the published claims in their limit, and brute force away from it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from outspoken.candidate import Candidate
from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.divergence import kl_smoothed, tv
from outspoken.theory.level_simulation import DRAWS, LEVELS, AskingLevel, Levels, simulate_levels
from outspoken.theory.sharpening import aligned_optimum, expected_distinct, sharpen

BASE = {"Texas": 8.0, "東京": 5.0, "كايرو": 4.0, "🦙": 2.0, "Ohio": 1.0}


def shares_of(levels: Levels, level: str) -> dict[str, float]:
    return dict(zip(levels.base, arm(levels, level).shares, strict=True))


def arm(levels: Levels, level: str) -> AskingLevel:
    return levels.arms[LEVELS.index(level)]


def by_hand(base: dict[str, float], drawn: dict[str, float], k: int, level: str) -> dict[str, float]:
    """Every order in which k different answers can be drawn, with its probability."""
    found = dict.fromkeys(base, 0.0)
    for order in itertools.permutations(base, k):
        chance, left = 1.0, 1.0
        for answer in order:
            chance *= drawn[answer] / left
            left -= drawn[answer]
        total = sum(base[answer] for answer in order)
        for answer in order:
            found[answer] += chance * (1 / k if level == "list" else base[answer] / total)
    return found


def test_the_claims_in_the_limit() -> None:
    """Appendix E.4 of arXiv 2510.01171: the mode, the uniform, and the base itself."""
    levels = simulate_levels({**BASE, "never": 0.0}, gamma=500, k=5, replies=200)
    assert shares_of(levels, "instance") == {**dict.fromkeys(levels.base, 0.0), "Texas": 1.0}
    assert shares_of(levels, "list") == pytest.approx({**dict.fromkeys(BASE, 0.2), "never": 0.0})
    assert shares_of(levels, "distribution") == pytest.approx(dict(levels.base), abs=1e-12)
    assert arm(levels, "distribution").tv.value < 1e-12
    assert levels.warnings == ()


@pytest.mark.parametrize("level", ["list", "distribution"])
def test_lists_and_distributions_against_every_order_of_drawing(level: str) -> None:
    replies = 4_000
    levels = simulate_levels(BASE, gamma=2, k=3, replies=replies)
    base = {answer: weight / 20 for answer, weight in BASE.items()}
    wanted = by_hand(base, sharpen(base, 2.0), 3, level)
    assert shares_of(levels, level) == pytest.approx(wanted, abs=4 * 0.5 / math.sqrt(replies))


def test_one_answer_is_a_draw_from_the_optimum() -> None:
    reward = {"Texas": 0.0, "東京": 0.5, "كايرو": 0.0, "🦙": 1.0, "Ohio": 0.0}
    levels = simulate_levels(BASE, gamma=1.5, reward=reward, beta=0.8, k=2, replies=4_000)
    wanted = aligned_optimum(BASE, reward, 0.4, 0.8)
    assert shares_of(levels, "instance") == pytest.approx(wanted, abs=4 * 0.5 / math.sqrt(4_000))


def test_the_figures_are_those_of_the_shares() -> None:
    levels = simulate_levels(BASE, gamma=2, k=2, replies=500, seed=4)
    for level in LEVELS:
        found, pooled = arm(levels, level), shares_of(levels, level)
        assert found.tv.value == pytest.approx(tv(pooled, BASE))
        assert found.kl.value == pytest.approx(kl_smoothed(pooled, BASE, 1e-15), abs=1e-6)
        assert found.distinct.value == pytest.approx(expected_distinct(pooled, DRAWS))
        assert (found.tv.units, found.tv.unit) == (500, "reply")
        assert found.tv.low is not None
        assert found.tv.high is not None
        assert found.tv.low < found.tv.value < found.tv.high


def test_the_interval_covers_the_truth() -> None:
    base = {answer: weight / 20 for answer, weight in BASE.items()}
    truth = tv(by_hand(base, sharpen(base, 3.0), 2, "list"), base)
    found = [arm(simulate_levels(BASE, gamma=3, k=2, replies=300, seed=seed), "list").tv for seed in range(100)]
    covered = sum((each.low or 0) <= truth <= (each.high or 1) for each in found)
    assert 85 <= covered <= 98


def test_errors_of_the_stated_probabilities() -> None:
    exact, wrong, worse = (
        simulate_levels(BASE, gamma=500, k=5, replies=400, error=error) for error in (0, 0.5, 2.0)
    )
    apart = [arm(each, "distribution").tv.value for each in (exact, wrong, worse)]
    assert apart[0] < 1e-12 < apart[1] < apart[2]
    assert [shares_of(each, "list") for each in (wrong, worse)] == [shares_of(exact, "list")] * 2


def test_no_sharpening_leaves_one_answer_with_the_base() -> None:
    levels = simulate_levels(BASE, gamma=1, k=2, replies=1000)
    one = arm(levels, "instance").tv.value
    singles = np.random.default_rng(1).multinomial(1000, np.array(list(levels.base.values())), 500) / 1000
    assert levels.floor == pytest.approx(
        np.abs(singles - list(levels.base.values())).sum(axis=1).mean() / 2, rel=0.1
    )
    assert one < 3 * levels.floor
    assert arm(levels, "list").tv.value > one


def test_few_named_answers_are_explained() -> None:
    even = {f"a{at}": 100.0 - at for at in range(40)}
    levels = simulate_levels(even, gamma=1, k=3, replies=300)
    assert "with 300 replies, the total variation of" in levels.warnings[0]
    assert "about as large as by chance" in levels.warnings[0]
    skewed = {f"a{at}": 1 / (at + 1) for at in range(40)}
    assert "a larger k" in simulate_levels(skewed, gamma=4, k=4, replies=300).sentences[-1]
    many = simulate_levels(skewed, gamma=4, k=40, replies=300)
    assert "It is smallest when asked for 40 answers with their probabilities" in many.sentences[1]
    assert "larger k" not in " ".join(many.sentences)


def test_the_document_and_the_seed() -> None:
    levels = simulate_levels(
        Distribution((Candidate("a", 0.7), Candidate("b", 0.3))), gamma=2, k=1, replies=50, seed=3
    )
    document = levels.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [entry["level"] for entry in document["arms"]] == list(LEVELS)
    assert list(document["answers"][0]) == ["text", "base", *LEVELS]
    assert sum(entry["list"] for entry in document["answers"]) == pytest.approx(1)
    again = simulate_levels({"b": 3.0, "a": 7.0}, gamma=2, k=1, replies=50, seed=3)
    assert again.to_dict() == document
    assert simulate_levels({"b": 3.0, "a": 7.0}, gamma=2, k=1, replies=50, seed=4).arms != levels.arms


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: simulate_levels({"a": 1.0, "b": 0.0}, gamma=2, k=1), UndefinedError, "at least two"),
        (lambda: simulate_levels(BASE, gamma=2, k=6), UsageError, "k is 6: it must be from 1 to 5"),
        (lambda: simulate_levels(BASE, gamma=2, k=0), UsageError, "k is 0"),
        (lambda: simulate_levels(BASE, gamma=2, replies=1), UsageError, "replies is 1"),
        (lambda: simulate_levels(BASE, gamma=2, replies=10**9), UsageError, "from 2 to"),
        (lambda: simulate_levels(BASE, gamma=2, error=-1), UsageError, "error of stated"),
        (lambda: simulate_levels(BASE, gamma=2, error=math.inf), UsageError, "error of stated"),
        (lambda: simulate_levels(BASE, gamma=math.nan), UsageError, "gamma must be"),
        (lambda: simulate_levels(BASE, gamma=2, reward={"Texas": 1.0}), UsageError, "no reward for"),
        (lambda: simulate_levels({"a": -1.0, "b": 1.0}, gamma=2), UsageError, "weight of 'a'"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Levels], error: type[UsageError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
