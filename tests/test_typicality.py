from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from proofs import repetitions, within
from statsmodels.stats.proportion import proportion_confint

from outspoken.errors import UndefinedError, UsageError
from outspoken.models.base import Score
from outspoken.theory.controls import Effect, PairSample, alpha_of, change, odds_ratio, permutation_null
from outspoken.theory.preference_formats import PreferencePair
from outspoken.theory.preferences import read_preferences
from outspoken.theory.typicality import ScoredPair, estimate_alpha, estimate_typicality, simulate_preferences
from outspoken.theory.typicality_result import ModelBias

REPETITIONS = repetitions()


def scored(
    mean: float,
    other: float,
    preferred: bool,
    prompt: str = "p",
    gap: float | None = None,
    tokens: tuple[int, int] = (4, 4),
) -> ScoredPair:
    return ScoredPair(
        PreferencePair(prompt, "a", "b", preferred, gap, 1),
        Score((mean,) * tokens[0]),
        Score((other,) * tokens[1]),
    )


def rated(items: list[ScoredPair], seed: int = 0) -> list[ScoredPair]:
    gaps = np.random.default_rng(seed).choice([-1.0, 0, 0, 2], len(items))
    return [replace(item, pair=replace(item.pair, gap=float(gap))) for item, gap in zip(items, gaps, strict=True)]


def sensible(model: ModelBias) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(json.dumps(model.to_dict(), allow_nan=False))
    assert entry["verdict"]["lead"].endswith((".", "!"))
    assert entry["verdict"]["may_not"]
    return entry


def peer(columns: list[np.ndarray], y: np.ndarray, prompts: np.ndarray) -> Any:
    model = sm.GLM(y, np.column_stack(columns), family=sm.families.Binomial())
    return model.fit(tol=1e-14, maxiter=200, cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ordered", [True, False])
def test_agrees_with_statsmodels_on_the_same_pairs(seed: int, ordered: bool) -> None:
    items = rated(
        simulate_preferences(0.5, prompts=40 + 30 * seed, pairs_per_prompt=4, length=0.02, seed=seed), seed
    )
    model = estimate_alpha("base", items, ordered=ordered)
    table = np.array(
        [
            (
                i.pair.preferred,
                sum(i.first.logprobs) / len(i.first) - sum(i.second.logprobs) / len(i.second),
                len(i.first) - len(i.second),
                sum(i.first.logprobs) - sum(i.second.logprobs),
                i.pair.gap,
                int(i.pair.prompt.split()[1]),
            )
            for i in items
        ]
    )
    tie = table[table[:, 4] == 0]
    for effect, rows, columns in (
        (model.alpha, tie, [1]),
        (model.controls["length"].effect, tie, [1, 2]),
        (model.controls["summed"].effect, tie, [3]),
        (model.controls["all_pairs"].effect, table, [1]),
        (model.controls["adjusted"].effect, table, [1, 4]),
    ):
        theirs = peer(
            [*(rows[:, at] for at in columns), *([np.ones(len(rows))] if ordered else [])], rows[:, 0], rows[:, 5]
        )
        wanted = [theirs.params[0], *theirs.conf_int()[0], theirs.bse[0]]
        assert [effect.value, effect.low, effect.high, effect.se] == pytest.approx(wanted, rel=1e-6)
        assert effect.p == pytest.approx(theirs.pvalues[0], rel=1e-4)
    assert (model.pairs, model.scored) == (len(tie), len(table))
    assert model.sd == pytest.approx(tie[:, 1].std(ddof=1) if ordered else math.sqrt((tie[:, 1] ** 2).mean()))
    sensible(model)


@pytest.mark.proof
@pytest.mark.parametrize("alpha", [0, 0.3, 0.6, 1.2])
def test_recovers_a_known_bias(alpha: float) -> None:
    covered = rejected = 0
    for seed in range(REPETITIONS):
        items = simulate_preferences(
            alpha, prompts=80, pairs_per_prompt=3, length=0.02, seed=10_000 * int(10 * alpha) + seed
        )
        effect = Effect.of(alpha_of(PairSample.of(items, ordered=True), adjust_for="tokens"))
        covered += effect.low <= alpha <= effect.high  # type: ignore[operator]
        rejected += effect.clear
    assert within(covered / REPETITIONS, 0.92, 0.98)
    if alpha == 0:
        assert within(rejected / REPETITIONS, 0.03, 0.07)


def test_a_planted_preference_for_length_looks_like_a_bias_until_length_is_held_equal() -> None:
    found = [
        estimate_alpha(
            "base", simulate_preferences(0, prompts=60, pairs_per_prompt=3, length=0.04, seed=seed), ordered=True
        )
        for seed in range(12)
    ]
    raw, held = [
        np.array(x) for x in zip(*((m.alpha.value, m.controls["length"].effect.value) for m in found), strict=True)
    ]
    assert raw.mean() > 0.4
    assert abs(held.mean()) < 3 * held.std(ddof=1) / math.sqrt(len(held))


def test_the_noise_is_clustered_and_the_errors_know_it() -> None:
    items = simulate_preferences(0.5, prompts=80, pairs_per_prompt=8, seed=4)
    sample = PairSample.of(items, ordered=True)
    alone = replace(sample, prompt=np.arange(len(sample)))
    assert alpha_of(sample).se[0] > 1.2 * alpha_of(alone).se[0]
    estimates = [
        alpha_of(
            PairSample.of(simulate_preferences(0.5, prompts=80, pairs_per_prompt=8, seed=s), ordered=True)
        ).coef[0]
        for s in range(80)
    ]
    assert alpha_of(sample).se[0] == pytest.approx(np.std(estimates), rel=0.3)


@given(st.integers(0, 1000), st.lists(st.booleans(), min_size=40, max_size=40))
@settings(max_examples=20)
def test_of_chosen_and_rejected_the_order_means_nothing(seed: int, turned: list[bool]) -> None:
    items = simulate_preferences(0.8, prompts=20, pairs_per_prompt=2, length=0.01, seed=seed)
    other = [
        ScoredPair(
            replace(i.pair, first=i.pair.second, second=i.pair.first, preferred=not i.pair.preferred),
            i.second,
            i.first,
        )
        if turn
        else i
        for i, turn in zip(items, turned, strict=True)
    ]
    a, b = (estimate_alpha("base", each, ordered=False) for each in (items, other))
    for one, two in ((a.alpha, b.alpha), (a.controls["length"].effect, b.controls["length"].effect)):
        assert [one.value, one.se] == pytest.approx([two.value, two.se], rel=1e-6, abs=1e-9)
    assert a.sd == pytest.approx(b.sd)
    assert a.rate.value == pytest.approx(b.rate.value)


def test_reproduces_the_published_odds_and_changes() -> None:
    # Verbalized Sampling (arXiv 2510.01171), Table 5, both base models.
    for alpha, se, sd, odds, points in ((0.569, 0.073, 0.616, 1.42, 0.17), (0.649, 0.072, 0.594, 1.47, 0.19)):
        effect = Effect(alpha, alpha - 1.96 * se, alpha + 1.96 * se, se, 1e-14)
        ratio = odds_ratio(effect, sd)
        assert round(ratio.value or 0, 2) == odds
        assert round(change(effect, sd).value or 0, 2) == points
        assert (ratio.low or 0) < odds < (ratio.high or 0)
    assert asdict(odds_ratio(Effect(900.0, None, 2000.0, None, None), 1)) == {
        "value": None,
        "low": None,
        "high": None,
    }


def test_the_permutation_null() -> None:
    none, strong = (
        PairSample.of(simulate_preferences(alpha, prompts=80, pairs_per_prompt=3, seed=7), ordered=True)
        for alpha in (0, 1.2)
    )
    for sample in (none, strong):
        null = permutation_null(sample, 1)
        assert abs(null.value) < 0.02
        assert null.high == pytest.approx(1.96 * null.se, rel=0.15)  # type: ignore[operator]
        assert null == permutation_null(sample, 1)
    assert permutation_null(strong, 1).p == 1 / 2001
    wald = Effect.of(alpha_of(none))
    assert permutation_null(none, 1).p == pytest.approx(wald.p, abs=0.05)
    # All pairs of one prompt turn round together: the null knows only the estimate and its opposite.
    assert permutation_null(replace(strong, prompt=0 * strong.prompt), 1).p == 1


def test_every_permutation_of_four_prompts() -> None:
    items = [scored(0.3 * at, -0.2, at % 3 != 0, f"p{at // 3}", tokens=(3, 5)) for at in range(12)]
    sample = PairSample.of(items, ordered=False)
    found = []
    for coins in np.ndindex(2, 2, 2, 2):
        flip = np.array(coins)[sample.prompt] == 1
        found.append(
            alpha_of(replace(sample, preferred=np.where(flip, 1 - sample.preferred, sample.preferred))).coef[0]
        )
    null = permutation_null(sample, 0, permutations=4000)
    assert null.value == pytest.approx(np.mean(found), abs=0.05)
    assert null.se == pytest.approx(np.std(found), rel=0.05)
    assert null.p == pytest.approx(np.mean(np.abs(found) >= abs(found[0]) - 1e-9), abs=0.03)


def test_the_curve() -> None:
    model = estimate_alpha(
        "base", simulate_preferences(1.2, prompts=200, pairs_per_prompt=2, seed=2), ordered=True
    )
    bins, line = model.curve["bins"], model.curve["line"]
    assert [entry["pairs"] for entry in bins] == [40] * 10
    for entry in bins:
        wilson = proportion_confint(round(entry["value"] * 40), 40, method="wilson")
        assert (entry["low"], entry["high"]) == pytest.approx(wilson)
    assert [entry["x"] for entry in bins] == sorted(entry["x"] for entry in bins)
    assert all(point["y"] == pytest.approx(1 / (1 + math.exp(-model.alpha.value * point["x"]))) for point in line)
    inside = sum(
        entry["low"] <= np.interp(entry["x"], [p["x"] for p in line], [p["y"] for p in line]) <= entry["high"]
        for entry in bins
    )
    assert inside >= 8


def test_the_rate_counts_a_tie_as_half_and_what_is_not_finite_is_left_out() -> None:
    items = [
        scored(-1, -2, True, "a"),
        scored(-1, -2, False, "b"),
        scored(-1.5, -1.5, True, "ü"),
        scored(-3, -1, False, "d"),
    ]
    broken = [scored(-math.inf, -1, True, "e"), ScoredPair(items[0].pair, Score(()), Score((-1.0,)))]
    model = estimate_alpha("base", [*items, *broken], ordered=False, skipped={"prompt longer than the context": 3})
    assert model.rate.value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert model.skipped == {"prompt longer than the context": 3, "log-likelihood that is not finite": 2}
    assert "5 pairs not scored" in model.notes[0]


def test_few_pairs_answer_with_the_width_of_the_interval() -> None:
    model = estimate_alpha("base", simulate_preferences(0.5, prompts=6, pairs_per_prompt=2, seed=1), ordered=True)
    width = f"{model.alpha.high - model.alpha.low:.2f}"  # type: ignore[operator]
    assert f"only 12 pairs: alpha's 95 % interval is {width} wide" in model.notes[0]
    assert "12 pairs only" in sensible(model)["verdict"]["lead"]


def test_separable_pairs_are_finite_and_said_to_be_penalised() -> None:
    items = [scored(-1 - at / 50, -2, True, f"p{at}", tokens=(3 + at % 7, 5)) for at in range(40)]
    for ordered in (True, False):
        model = estimate_alpha("base", items, ordered=ordered)
        assert model.penalised
        assert any("penalised (Firth)" in note for note in model.notes)
        assert 0 < abs(model.alpha.value) < 100
        sensible(model)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_next_to_nothing(count: int) -> None:
    items = [scored(-1.0 - at, -2.5, True, tokens=(3 + at, 9)) for at in range(count)]
    model = estimate_alpha("base", items, ordered=False)
    entry = sensible(model)
    assert entry["alpha"]["low"] is None
    assert f"only {count} pair" in model.notes[0]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_handful_of_pairs_never_overflows(ordered: bool) -> None:
    answered = 0
    for seed in range(15):
        items = simulate_preferences(
            [0, 1, 8][seed % 3], prompts=2 + seed % 6, pairs_per_prompt=1 + seed % 3, length=-0.1, seed=seed
        )
        try:
            sensible(estimate_alpha("base", items, ordered=ordered))
        except UndefinedError:
            continue
        answered += 1
    assert answered >= 12


def test_estimates_that_do_not_exist() -> None:
    with pytest.raises(UndefinedError, match="基 has scored no pair"):
        estimate_alpha("基", [], ordered=True)
    with pytest.raises(UndefinedError, match="none of the 1 pairs has equal correctness"):
        estimate_alpha("base", [scored(-1, -2, True, gap=1.0)], ordered=True)
    with pytest.raises(UndefinedError, match="the difference of mean log-likelihood is 0 in all 2 rows"):
        estimate_alpha("base", [scored(-1, -1, True), scored(-2, -2, False)], ordered=False)
    with pytest.raises(UsageError, match="seed"):
        estimate_alpha("base", [scored(-1, -2, True)], ordered=False, seed=-1)


def test_without_differences_of_length_there_is_no_such_control() -> None:
    items = [scored(-1.0 - at % 7 / 10, -1.3, at % 3 > 0, f"p{at}") for at in range(60)]
    model = estimate_alpha("base", items, ordered=False)
    assert "length" not in model.controls
    assert any("no control 'length'" in note for note in model.notes)
    sensible(model)


def test_several_base_models(tmp_path: Path) -> None:
    path = tmp_path / "prefs.jsonl"
    rows = [{"prompt": f"p{at}", "chosen": "a", "rejected": "b"} for at in range(40)]
    path.write_text("\n".join(json.dumps(row) for row in [{**rows[0], "chosen": ""}, *rows]))
    preferences = read_preferences(path)
    models = {
        name: [
            replace(item, pair=pair)
            for item, pair in zip(
                simulate_preferences(alpha, prompts=40, pairs_per_prompt=1, seed=3), preferences.pairs, strict=True
            )
        ]
        for name, alpha in (("strong", 1.5), ("底", 0.0))
    }
    for items in models.values():
        items[:] = [
            item if at % 2 else ScoredPair(item.pair, item.second, item.first) for at, item in enumerate(items)
        ]
    entry = json.loads(
        json.dumps(
            estimate_typicality(preferences, models, skipped={"底": {"too long": 2}}).to_dict(), allow_nan=False
        )
    )
    assert (entry["kind"], entry["base"], [other["base"] for other in entry["others"]]) == (
        "typicality",
        "strong",
        ["底"],
    )
    ps = [entry["alpha"]["p"], entry["others"][0]["alpha"]["p"]]
    assert entry["alpha"]["p_holm"] == pytest.approx(
        min(1, 2 * ps[0]) if ps[0] <= ps[1] else max(ps[0], min(1, 2 * ps[1]))
    )
    assert entry["data"] | {"examples": []} == {
        "file": str(path), "layout": "pairs", "rows": 41, "found": 40, "pairs": 40, "prompts": 40, "skipped": {"empty response": 1},
        "examples": [], "ties": 0, "correctness": False, "text": "{prompt}\n\n    Response: ",
    }  # fmt: skip
    assert "1 left out (empty response 1)" in entry["warnings"][0]
    assert any(warning.startswith("底: 2 pairs not scored (too long 2)") for warning in entry["warnings"])
    with pytest.raises(UndefinedError, match="no base model"):
        estimate_typicality(preferences, {})


def test_what_cannot_be_simulated() -> None:
    for wrong in (
        {"prompts": 0, "pairs_per_prompt": 1},
        {"prompts": 1, "pairs_per_prompt": 1, "length": math.nan},
    ):
        with pytest.raises(UsageError):
            simulate_preferences(0.5, **wrong)  # type: ignore[arg-type]
    assert simulate_preferences(0.5, prompts=3, pairs_per_prompt=2, seed=1) == simulate_preferences(
        0.5, prompts=3, pairs_per_prompt=2, seed=1
    )


def test_a_file_sorted_by_rating_is_estimated_without_its_order() -> None:
    """Where the preferred response always stands first an intercept would take up the whole effect."""
    plain = simulate_preferences(1.2, prompts=150, pairs_per_prompt=2, seed=3)
    first = [
        item
        if item.pair.preferred
        else ScoredPair(
            replace(item.pair, first=item.pair.second, second=item.pair.first, preferred=True),
            item.second,
            item.first,
        )
        for item in plain
    ]
    found, order_free = estimate_alpha("base", first, ordered=True), estimate_alpha("base", plain, ordered=False)
    assert found.alpha.value == pytest.approx(order_free.alpha.value)
    assert any("without an intercept" in note for note in found.notes)
    assert not found.penalised


def test_a_rate_without_exception_has_an_interval() -> None:
    items = [
        ScoredPair(
            PreferencePair(f"p{at}", "a", "b", True, None, at), Score((-1.0 - at / 50,) * 3), Score((-2.0,) * 5)
        )
        for at in range(8)
    ]
    rate = estimate_alpha("base", items, ordered=False).rate
    assert rate.value == 1
    assert rate.low == pytest.approx(proportion_confint(8, 8, method="wilson")[0])
