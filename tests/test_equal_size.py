"""Groups of unequal sizes are compared at equal numbers: by simulation, nothing differs where one law made both."""

from __future__ import annotations

import numpy as np
import pytest
from proofs import repetitions, within

from outspoken.measure import Answers, Response, divergence
from outspoken.measure.group_comparison import GroupComparer
from outspoken.measure.measure_definition import compute
from outspoken.measure.measure_input import MeasureInput
from outspoken.measure.measures import MEASURES

PROMPTS, ANSWERS = 20, 50
NAMES = [f"answer {number}" for number in range(ANSWERS)]
LAWS = {
    "uniform": np.full(ANSWERS, 1 / ANSWERS),
    "zipf 1": 1 / np.arange(1, ANSWERS + 1),
    "zipf 1.5": np.arange(1, ANSWERS + 1) ** -1.5,
}
LAWS = {name: law / law.sum() for name, law in LAWS.items()}
DISTANCES = ("tv", "js", "coverage", "effective_size", "distinct_answers")


def reference(law: np.ndarray) -> Answers:
    return Answers.counts({name: float(share) for name, share in zip(NAMES, law, strict=True)})


def draws(law: np.ndarray, count: int, answers: Answers, random: np.random.Generator, k: int = 1) -> MeasureInput:
    """`count` draws, k of them in each call."""
    drawn = random.choice(ANSWERS, count, p=law)
    texts = (Response(NAMES[number], call=at // k) for at, number in enumerate(drawn))
    return MeasureInput(tuple(texts), answers)


def comparer(a: list[MeasureInput], b: list[MeasureInput], names: tuple[str, ...], seed: int) -> GroupComparer:
    inputs = [{f"p{at}": one for at, one in enumerate(side)} for side in (a, b)]
    sums = [
        {name: {key: compute(MEASURES[name], one) for key, one in side.items()} for name in names}
        for side in inputs
    ]
    return GroupComparer(sums, inputs, seed, 1_000)


def towards_the_commonest(law: np.ndarray) -> np.ndarray:
    """The law with 0.13 of the probability moved from all others onto the commonest answer."""
    moved = law * (1 - 0.13 / (1 - law[0]))
    moved[0] = law[0] + 0.13
    return moved


def compared(both: GroupComparer, name: str) -> tuple[bool, float]:
    """Whether the two groups differ significantly by a measure, and their difference."""
    result = both.compare(name, 0, 1)
    assert result is not None
    assert result.p is not None
    return result.p <= 0.05, result.difference


@pytest.mark.proof
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("n", "m", "k"), [(60, 20, 1), (500, 500, 50), (100, 30, 1)], ids=["60-20", "lists", "100-30"]
)
def test_one_law_in_both_groups_is_seldom_called_a_difference(law, n, m, k):
    """60 draws against 20, and 500 draws against 10 lists of 50 whose items are draws."""
    random = np.random.default_rng(1)
    answers = reference(LAWS[law])
    times = repetitions(500, 60)
    wrong = dict.fromkeys(DISTANCES, 0)
    for run in range(times):
        a = [draws(LAWS[law], n, answers, random) for _ in range(PROMPTS)]
        b = [draws(LAWS[law], m, answers, random, k) for _ in range(PROMPTS)]
        both = comparer(a, b, DISTANCES, run)
        for name in DISTANCES:
            wrong[name] += compared(both, name)[0]
    rates = {name: count / times for name, count in wrong.items()}
    assert all(within(rate, 0, 0.07) for rate in rates.values()), rates


@pytest.mark.proof
@pytest.mark.parametrize("law", LAWS)
def test_a_true_distance_is_found_in_the_right_direction(law):
    """0.13 of the probability moved from all others onto the commonest answer; 100 draws a side."""
    random = np.random.default_rng(2)
    true = LAWS[law]
    moved = towards_the_commonest(true)
    assert divergence.tv(dict(enumerate(true)), dict(enumerate(moved))) == pytest.approx(0.13)  # type: ignore[arg-type]
    answers = reference(true)
    times = repetitions(500, 60)
    right = wrong = 0
    for run in range(times):
        near = [draws(true, 100, answers, random) for _ in range(PROMPTS)]
        far = [draws(moved, 100, answers, random) for _ in range(PROMPTS)]
        significant, difference = compared(comparer(near, far, ("tv",), run), "tv")
        right += significant and difference < 0
        wrong += significant and difference > 0
    assert within(right / times, 0.95, 1), right / times
    assert wrong / times <= 0.005


@pytest.mark.proof
@pytest.mark.parametrize("law", LAWS)
def test_stated_shares_far_from_the_reference_are_not_nearer_than_draws_from_it(law):
    """60 draws from the reference beside 12 calls that state all shares of a law at a distance of 0.13."""
    random = np.random.default_rng(3)
    true = LAWS[law]
    moved = towards_the_commonest(true)
    answers = reference(true)
    stated = MeasureInput(
        tuple(
            Response(name, float(share), stated=float(share), call=call)
            for call in range(12)
            for name, share in zip(NAMES, moved, strict=True)
        ),
        answers,
    )
    assert compute(MEASURES["tv_shares"], stated)[0] == pytest.approx(0.13)
    times = repetitions(100, 15)
    nearer = farther = 0
    for run in range(times):
        drawn = [draws(true, 60, answers, random) for _ in range(PROMPTS)]
        significant, difference = compared(comparer([stated] * PROMPTS, drawn, ("tv_shares",), run), "tv_shares")
        nearer += significant and difference < 0
        farther += significant and difference > 0
    assert nearer / times <= 0.02
    assert farther / times >= 0.9
