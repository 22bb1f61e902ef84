from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outspoken.models.base import Score
from outspoken.report.format import number
from outspoken.theory.preference_formats import PreferencePair
from outspoken.theory.typicality import ScoredPair, estimate_alpha, simulate_preferences


@pytest.mark.parametrize(
    ("alpha", "length", "start", "denied"),
    [
        (0.9, 0.0, "Yes: the response that base finds more likely", "one is typical"),
        (0.0, 0.0, "No effect is visible", "That there is no typicality bias"),
        (-0.9, 0.0, "No, the opposite", "correctness was not rated"),
        (0.0, 0.05, "Perhaps: the response that base finds more likely", "length explains it as well"),
        (
            -0.8,
            0.15,
            "No: the response that base finds more likely, token by token, is preferred more often only because",
            "reverses",
        ),
        (-0.8, 0.06, "No: at first sight", "would look just like this"),
        (0.8, -0.06, "Perhaps: at first sight", "would look just like this"),
        (-0.2, -0.04, "No: the response that base finds less likely", "length explains it as well"),
        (0.9, -0.15, "Perhaps: the response that base finds less likely", "reverses"),
        (0.7, 0.04, "Yes", "length accounts for a part of it"),
    ],
)
def test_the_verdict(alpha: float, length: float, start: str, denied: str) -> None:
    model = estimate_alpha(
        "base", simulate_preferences(alpha, prompts=300, pairs_per_prompt=3, length=length, seed=11), ordered=True
    )
    verdict = model.verdict
    assert verdict.lead.startswith(start), verdict.lead
    assert f"{number(model.alpha.value)} (95 % interval" in verdict.lead
    if denied != "one is typical":
        assert any(denied in sentence for sentence in verdict.may_not), verdict.may_not
    assert ("Chance is a poor explanation" in " ".join(verdict.may)) == (model.alpha.clear)


def of_ratings(items: list[ScoredPair]) -> list[ScoredPair]:
    gaps = np.random.default_rng(0).choice([-1.0, 0, 0, 2], len(items))
    return [replace(item, pair=replace(item.pair, gap=float(gap))) for item, gap in zip(items, gaps, strict=True)]


def test_the_verdict_where_correctness_was_rated() -> None:
    model = estimate_alpha(
        "base", of_ratings(simulate_preferences(0.9, prompts=200, pairs_per_prompt=4, seed=5)), ordered=True
    )
    assert any(
        f"the {model.pairs:,} pairs whose responses were rated equally correct" in sentence
        for sentence in model.verdict.may
    )
    assert not any("correctness was not rated" in sentence for sentence in model.verdict.may_not)
    assert list(model.controls) == [
        "length",
        "summed",
        "randomised_order",
        "permutation_null",
        "all_pairs",
        "adjusted",
    ]


def test_the_verdict_on_next_to_nothing() -> None:
    items = [
        ScoredPair(
            PreferencePair("p", "a", "b", True, None, at), Score((-1.0 - at,) * (3 + at)), Score((-2.0,) * 4)
        )
        for at in range(3)
    ]
    verdict = estimate_alpha("base", items, ordered=False).verdict
    assert verdict.lead.startswith("Nothing can be concluded about base: there is no interval")
    assert "3 pairs only" in verdict.lead
    assert not any("no typicality bias" in sentence for sentence in verdict.may_not)


def test_the_verdict_where_the_other_estimates_disagree() -> None:
    model = estimate_alpha(
        "base", of_ratings(simulate_preferences(0.9, prompts=200, pairs_per_prompt=4, seed=5)), ordered=True
    )
    null = replace(model.alpha, value=0.0, low=-0.1, high=0.1, p=0.4)
    names = ("summed", "randomised_order", "permutation_null", "adjusted")
    other = replace(
        model,
        p_holm=0.2,
        controls={
            name: replace(control, effect=null) if name in names else control
            for name, control in model.controls.items()
        },
    )
    denied = " ".join(other.verdict.may_not)
    for words in (
        "how likelihood is counted",
        "in random order",
        "40.0 % of the estimates",
        "beyond pairs of equal",
    ):
        assert words in denied
        assert words not in " ".join(
            replace(model, controls={**model.controls, "summed": model.controls["length"]}).verdict.may_not
        )
    assert "corrected for their number, p is 0.20" in denied
    assert "Chance is a poor explanation" not in " ".join(other.verdict.may)


def test_separable_pairs_have_no_bound() -> None:
    items = [
        ScoredPair(
            PreferencePair(f"p{at}", "a", "b", True, None, at),
            Score((-1.0 - at / 50,) * (3 + at % 7)),
            Score((-2.0,) * 5),
        )
        for at in range(40)
    ]
    verdict = estimate_alpha("base", items, ordered=False).verdict
    assert any("size is not bounded" in sentence for sentence in verdict.may_not)
