"""gamma against simulation with a known one, against statsmodels, and on recorded answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from proofs import PROOFS, repetitions, within
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.answer_sets import Answers, load
from outspoken.theory.gamma_result import Gamma, Point
from outspoken.theory.sharpening import sharpen
from outspoken.theory.sharpening_exponent import gamma_from_counts, gamma_from_logprobs, gamma_from_shares

STATES = Path(__file__).parents[2] / "shared/data/states"
NAMES = [f"{script}{at}" for at in range(10) for script in ("S", "州", "ولاية")]
BASE = dict(zip(NAMES, (1 / np.arange(1, 31) ** 1.1).tolist(), strict=True))
REPETITIONS = repetitions()


def trials(random: np.random.Generator, gamma: float, runs: int, draws: int, alike: float) -> list[dict[str, int]]:
    """Draws from BASE^gamma; `alike` > 0 makes those of one trial resemble each other (Dirichlet of 1 / alike)."""
    shares = np.array(list(sharpen(BASE, gamma).values()))
    rows = (shares if not alike else random.dirichlet(shares / alike + 1e-12) for _ in range(runs))
    return [dict(zip(NAMES, random.multinomial(draws, row).tolist(), strict=True)) for row in rows]


@pytest.mark.proof
@pytest.mark.parametrize(
    ("gamma", "runs", "draws", "alike"),
    [(1.0, 1, 200, 0), (2.5, 1, 100, 0), (0.5, 10, 50, 0), (1.0, 10, 50, 0.1), (2.0, 6, 40, 0.05)],
)
def test_the_interval_covers_the_truth(gamma: float, runs: int, draws: int, alike: float) -> None:
    random = np.random.default_rng(int(100 * gamma) + runs)
    found = [
        gamma_from_counts(trials(random, gamma, runs, draws, alike), BASE, resamples=1) for _ in range(REPETITIONS)
    ]
    assert {each.unit for each in found} == {"draw" if runs == 1 else "trial"}
    covered = np.mean([each.low <= gamma <= each.high for each in found])
    assert within(covered, 0.92, 0.98)
    # The standard error is that of the estimates.
    near = 0.12 if PROOFS else 0.25
    assert np.mean([each.se for each in found]) == pytest.approx(np.std([each.value for each in found]), rel=near)


def test_draws_of_alike_trials_are_no_independent_units() -> None:
    random = np.random.default_rng(5)
    covered = [0, 0]
    for _ in range(200):
        runs = trials(random, 1.5, 10, 50, 0.1)
        pooled = {name: sum(run[name] for run in runs) for name in NAMES}
        for at, counts in enumerate((runs, [pooled])):
            found = gamma_from_counts(counts, BASE, resamples=1)
            covered[at] += found.low <= 1.5 <= found.high
    assert covered[0] > 180
    assert covered[1] < 150


def test_the_maximum_is_that_of_the_likelihood() -> None:
    random = np.random.default_rng(2)
    counts = trials(random, 1.7, 1, 300, 0)[0]
    p, n = np.array(list(BASE.values())), np.array(list(counts.values()))
    found = gamma_from_counts([counts], BASE)

    def deviance(gamma: float) -> float:
        fitted = p**gamma / (p**gamma).sum()
        some = n > 0
        return float(2 * (n[some] * np.log(n[some] / (n.sum() * fitted[some]))).sum())

    best = minimize_scalar(deviance, bracket=(0, 3), tol=1e-12)
    assert found.value == pytest.approx(best.x, abs=1e-6)
    assert found.fit["deviance"] == pytest.approx(best.fun, rel=1e-9)
    assert found.fit["df"] == len(BASE) - 2
    assert found.fit["kl"] == pytest.approx(best.fun / (2 * n.sum()), rel=1e-9)
    # With draws for units the sandwich and the information agree where the power holds.
    step = 1e-4
    curvature = (deviance(best.x + step) - 2 * best.fun + deviance(best.x - step)) / step**2 / 2
    assert found.se == pytest.approx(1 / math.sqrt(curvature), rel=0.15)


def test_the_bootstrap_of_the_fit_is_level_and_sees_what_is_no_power() -> None:
    random = np.random.default_rng(3)
    levels = [gamma_from_counts(trials(random, 1.5, 1, 100, 0), BASE, resamples=99).fit["p"] for _ in range(200)]
    assert 0.01 <= np.mean(np.array(levels) <= 0.05) <= 0.1
    many = gamma_from_counts(trials(random, 1.5, 1, 20_000, 0), BASE)
    asymptotic = chi2.sf(many.fit["deviance"], many.fit["df"])
    assert many.fit["p"] == pytest.approx(asymptotic, abs=0.06)
    swapped = dict(zip(NAMES, reversed(trials(random, 2, 1, 500, 0)[0].values()), strict=True))
    assert gamma_from_counts([swapped], BASE).fit["p"] == 0.001


def test_the_recorded_answers_of_a_real_model() -> None:
    if not STATES.is_dir():
        pytest.skip("the recorded answers of ../shared/data/states are absent")
    answers = load(STATES / "reference_redpajama_counts.json")
    assert isinstance(answers, Answers)
    assert answers.reference is not None
    found = gamma_from_counts(json.loads((STATES / "direct_gpt-4.1_500.json").read_text()), answers.reference)
    assert (found.unit, found.units, found.answers) == ("trial", 10, 50)
    assert (found.value, found.low, found.high) == pytest.approx((1.12577, 1.03953, 1.21201), abs=1e-5)
    assert found.fit["tv"] == pytest.approx(0.783503, abs=1e-6)
    assert found.fit["p"] == 0.001
    assert any("does not describe" in sentence for sentence in found.sentences)
    assert "“Texas”: 49.8 %" in found.sentences[-1]


@pytest.mark.parametrize(
    ("counts", "reference", "message"),
    [
        ([{"S0": 9}], BASE, "all 9 draws are the reference's most likely answer ('S0'"),
        ([{NAMES[-1]: 9}], BASE, "least likely"),
        ([{"Paris": 9}], BASE, "none of 9 draws ('Paris') is in the reference"),
        ([], BASE, "none of 0 draws (there are none)"),
        ([{"S1": 1}], BASE, "one draw"),
        ([{"a": 1, "b": 2}], {"a": 1.0, "b": 1.0, "c": 0.0}, "have the same weight"),
        ([{"S0": 1.5}], BASE, "whole counts"),
        ([{"S0": -1}], BASE, "whole counts"),
        ([{"S0": 1}], {"S0": -1.0}, "weight of 'S0'"),
    ],
)
def test_counts_without_a_gamma_say_so(counts: list, reference: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        gamma_from_counts(counts, reference)
    assert message in str(raised.value)


def test_doubtful_results_have_warnings() -> None:
    runs = [{"S0": 4, "S1": 2, "Paris": 2}, {"S0": 3, "州0": 3}]
    found = gamma_from_counts(runs, {**BASE, "zero": 0.0})
    assert found.fit["outside"] == pytest.approx(2 / 14)
    warnings = " ".join(found.warnings)
    for part in (
        "2 of 14 draws are left out, outside the reference: 'Paris'",
        "only 12 draws",
        "2 trials are too few",
    ):
        assert part in warnings
    still = gamma_from_counts([{"S0": 3, "S1": 1}] * 7, BASE)
    assert (still.p, still.low) == (None, still.high)
    assert "no variation among the trials" in still.warnings[-1]
    document = found.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document["fit"]) == set(document["about"])
    two = gamma_from_counts([{"a": 30, "b": 20}], {"a": 3.0, "b": 1.0})
    assert two.value == pytest.approx(math.log(1.5) / math.log(3))
    assert (two.fit["df"], two.fit["p"]) == (0, 1)


def points(random: np.random.Generator, gamma: float, prompts: int, answers: int) -> list[Point]:
    base = random.normal(-60, 6, (prompts, answers))
    aligned = gamma * base + random.normal(0, 3, base.shape) - 40 + random.normal(0, 8, (prompts, 1))
    return [
        Point(f"問 {prompt}", f"a{at}", base[prompt, at], min(0.0, aligned[prompt, at]))
        for prompt in range(prompts)
        for at in range(answers)
    ]


def design(rows: list[Point]) -> tuple[np.ndarray, np.ndarray]:
    prompts = sorted({row.prompt for row in rows})
    dummies = np.array([[row.prompt == prompt for prompt in prompts] for row in rows], dtype=float)
    return np.array([row.aligned for row in rows]), np.column_stack([[row.base for row in rows], dummies])


@pytest.mark.proof
@pytest.mark.parametrize(("gamma", "prompts", "answers"), [(1.0, 6, 8), (1.8, 12, 5), (0.7, 40, 3), (1.4, 1, 25)])
def test_the_regression_covers_the_truth(gamma: float, prompts: int, answers: int) -> None:
    random = np.random.default_rng(prompts)
    found = [gamma_from_logprobs(points(random, gamma, prompts, answers)) for _ in range(REPETITIONS)]
    assert {each.unit for each in found} == {"answer" if prompts == 1 else "prompt"}
    assert within(np.mean([each.low <= gamma <= each.high for each in found]), 0.92, 0.98)
    if gamma == 1:
        assert within(np.mean([each.p is not None and each.p < 0.05 for each in found]), 0.02, 0.08)


def test_agreement_with_statsmodels() -> None:
    random = np.random.default_rng(9)
    few = points(random, 1.3, 4, 6)[:-3]
    y, x = design(few)
    ours, theirs = gamma_from_logprobs(few), sm.OLS(y, x).fit(cov_type="HC3", use_t=True)
    assert (ours.unit, ours.prompts, ours.answers) == ("answer", 4, 21)
    assert (ours.value, ours.se) == pytest.approx((theirs.params[0], theirs.bse[0]), abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.conf_int()[0]), abs=1e-9)
    test = theirs.t_test(([1] + [0] * 4, 1.0))
    assert ours.p == pytest.approx(float(test.pvalue), rel=1e-6)
    assert [point.fitted for point in ours.points] == pytest.approx(theirs.fittedvalues.tolist())

    many = points(random, 1.3, 9, 5)[:-2]
    y, x = design(many)
    ours, theirs = gamma_from_logprobs(many), sm.OLS(y, x).fit()
    prompts = np.array([row.prompt for row in many])
    kept = [design([row for row in many if row.prompt != left]) for left in set(prompts)]
    without = np.array([sm.OLS(y, x).fit().params[0] for y, x in kept])
    assert ours.value == pytest.approx(theirs.params[0], abs=1e-9)
    assert ours.se == pytest.approx(math.sqrt(8 / 9 * ((without - ours.value) ** 2).sum()), abs=1e-9)
    assert ours.fit["residual_sd"] == pytest.approx(math.sqrt(theirs.scale))
    # The plain cluster sandwich is near; its correction counts the intercepts, which are nested in the clusters.
    groups = np.unique(prompts, return_inverse=True)[1]
    plain = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    assert ours.se == pytest.approx(plain.bse[0], rel=0.35)
    assert ours.se > plain.bse[0]


def test_noise_in_the_base_pulls_gamma_towards_zero() -> None:
    random = np.random.default_rng(4)
    clean = points(random, 1.5, 200, 8)
    noisy = [Point(p.prompt, p.answer, min(0.0, p.base + random.normal(0, 4)), p.aligned) for p in clean]
    assert gamma_from_logprobs(noisy).value == pytest.approx(1.5 * 36 / (36 + 16), abs=0.06)


def test_a_perfect_line_and_prompts_without_information() -> None:
    rows = [
        Point(prompt, answer, -base, -2 * base) for prompt in "abcdefg" for answer, base in (("x", 1), ("y", 3))
    ]
    found = gamma_from_logprobs([*rows, Point("alone", "x", -1.0, -1.0)])
    assert found.value == pytest.approx(2)
    assert found.fit["r2"] == pytest.approx(1)
    assert found.fit["tv"] == pytest.approx(0, abs=1e-12)
    assert found.prompts == 7
    assert found.warnings == ("prompts with a single answer carry no information and are left out: 1",)


A, B, C = (Point("p", name, value, value) for name, value in (("a", -1.0), ("b", -2.0), ("c", -4.0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gamma_from_logprobs([]), "no prompt has two answers"),
        (lambda: gamma_from_logprobs([A, B]), "more answers"),
        (lambda: gamma_from_logprobs([A, B, A]), "is given twice"),
        (lambda: gamma_from_logprobs([A, B, Point("p", "d", 0.3, -1.0)]), "'d' has 0.3 for its base"),
        (lambda: gamma_from_logprobs([A, B, Point("p", "d", -1.0, -math.inf)]), "for its aligned log-probability"),
        (lambda: gamma_from_logprobs([A, B, Point("p", "d", math.nan, -1.0)]), "finite"),
        (lambda: gamma_from_logprobs([Point("p", name, -1.0, -2.0) for name in "abc"]), "do not differ"),
        (lambda: gamma_from_logprobs([A, Point("p", "x", -1.0, -1.5), B]), "depends on the single answer 'b'"),
    ],
)
def test_log_probabilities_without_a_gamma_say_so(call: Callable[[], Gamma], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
    assert issubclass(UndefinedError, UsageError)


def test_what_the_two_ways_say_is_the_same() -> None:
    """Exact shares of a power, as counts and as log-probabilities."""
    shares = sharpen(BASE, 1.5)
    counts = {name: round(1e9 * share) for name, share in shares.items()}
    rows = [
        Point("p", name, math.log(base / sum(BASE.values())), math.log(shares[name]))
        for name, base in BASE.items()
    ]
    assert gamma_from_counts([counts], BASE, resamples=1).value == pytest.approx(1.5, abs=1e-6)
    assert gamma_from_logprobs(rows).value == pytest.approx(1.5, abs=1e-9)


def test_the_gamma_of_stated_distributions_is_that_of_their_power():
    """Calls that state the reference to a power have that power, whatever the noise between them averages to."""
    reference = {f"a{rank}": 1 / rank for rank in range(1, 21)}
    random = np.random.default_rng(0)
    for gamma in (0.8, 2.1):
        power = {answer: share**gamma for answer, share in reference.items()}
        exact = gamma_from_shares([power] * 10, reference)
        assert exact.value == pytest.approx(gamma)
        noisy = [{answer: share * random.lognormal(0, 0.3) for answer, share in power.items()} for _ in range(12)]
        found = gamma_from_shares(noisy, reference)
        assert found.low < gamma < found.high
        assert (found.unit, found.units, found.how) == ("call", 12, "shares")
        assert "stated shares and no draws" in found.sentences[-1]
    lone = gamma_from_shares([power], reference)
    assert lone.value == pytest.approx(2.1)
    assert "precision is unknown" in lone.sentences[1]
    partly = gamma_from_shares([power] * 9 + [{"Narnia": 1.0, "a1": 0.0}, {"a1": 0.0}], reference)
    assert partly.value == pytest.approx(2.1)
    assert any("2 calls without an answer of the reference" in line for line in partly.warnings)
    with pytest.raises(UndefinedError, match="none of the stated answers"):
        gamma_from_shares([{"other": 1.0}], reference)
