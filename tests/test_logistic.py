from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from outspoken.errors import UndefinedError, UsageError
from outspoken.theory.logistic import Fit, fit, fit_many


def data(seed: int, n: int = 400, p: int = 2, groups: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, groups, n)
    scales = 10.0 ** rng.uniform(-2, 2, p)
    x = rng.standard_normal((n, p)) * scales + rng.standard_normal((groups, p))[clusters] * scales
    eta = x @ (rng.standard_normal(p) * 0.5 / scales) + rng.standard_normal(groups)[clusters]
    return x, (rng.random(n) < expit(eta)).astype(float), clusters


def peer(x: np.ndarray, y: np.ndarray, clusters: np.ndarray, *, use_t: bool = False) -> sm.GLM:
    model = sm.GLM(y, x, family=sm.families.Binomial())
    return model.fit(tol=1e-14, maxiter=200, cov_type="cluster", cov_kwds={"groups": clusters}, use_t=use_t)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("intercept", [False, True])
def test_agrees_with_statsmodels(seed: int, intercept: bool) -> None:
    x, y, clusters = data(seed, p=1 + seed % 3, groups=[12, 60, 300][seed % 3])
    if intercept:
        x = np.column_stack([x, np.ones(len(x))])
    mine, theirs = fit(x, y, clusters), peer(x, y, clusters)
    assert mine.coef == pytest.approx(theirs.params, rel=1e-6)
    assert mine.se == pytest.approx(theirs.bse, rel=1e-6)
    assert mine.cov == pytest.approx(theirs.cov_params(), rel=1e-6, abs=1e-12)
    assert mine.clusters == len(set(clusters))
    assert not mine.penalised


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_students(seed: int) -> None:
    x, y, clusters = data(seed, groups=9)
    mine, theirs = fit(x, y, clusters), peer(x, y, clusters, use_t=True)
    for column, wanted in enumerate(theirs.conf_int()):
        assert mine.interval(column) == pytest.approx(tuple(wanted), rel=1e-6)
        assert mine.p(column) == pytest.approx(theirs.pvalues[column], rel=1e-5)


@given(st.integers(0, 10_000), st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2))
@settings(max_examples=25)
def test_units_and_names_of_clusters_change_nothing(seed: int, units: list[float]) -> None:
    x, y, clusters = data(seed, n=120)
    plain = fit(x, y, clusters)
    other = fit(x * units, y, [f"問い {c} 🦙" for c in clusters])
    assert other.coef * units == pytest.approx(plain.coef, rel=1e-6, abs=1e-9)
    assert other.se * units == pytest.approx(plain.se, rel=1e-6)


def test_a_pair_may_be_turned_round() -> None:
    x, y, clusters = data(3)
    turn = np.random.default_rng(0).choice([-1, 1], len(y))
    turned = fit(x * turn[:, None], np.where(turn > 0, y, 1 - y), clusters)
    assert turned.coef == pytest.approx(fit(x, y, clusters).coef, rel=1e-9)
    assert turned.se == pytest.approx(fit(x, y, clusters).se, rel=1e-9)


def test_a_far_off_column_and_a_rare_outcome() -> None:
    x, y, clusters = data(1, n=3000, p=1)
    x = np.column_stack([x + 1e6, np.ones(len(x))])
    assert fit(x, y, clusters).coef[0] == pytest.approx(fit(x - [1e6, 0], y, clusters).coef[0], rel=1e-6)
    rare = np.zeros(200_000)
    rare[0] = 1
    found = fit(np.ones((200_000, 1)), rare, np.arange(200_000))
    assert found.coef[0] == pytest.approx(math.log(1 / 199_999), rel=1e-9)
    assert not found.penalised


def firth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Firth's estimate by plain maximisation."""

    def loss(b: np.ndarray) -> float:
        p = expit(x @ b)
        information = x.T @ (x * (p * (1 - p))[:, None])
        return -float(-np.logaddexp(0, -(2 * y - 1) * (x @ b)).sum() + 0.5 * np.linalg.slogdet(information)[1])

    options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 20_000, "maxfev": 20_000}
    return minimize(loss, np.zeros(x.shape[1]), method="Nelder-Mead", options=options).x


def separable(kind: str) -> tuple[np.ndarray, np.ndarray]:
    x = np.array([-3.0, -2, -1.5, -1, 1, 1.2, 2, 4])
    y = (x > 0).astype(float)
    if kind == "quasi":
        x, y = np.append(x, [0.0, 0.0]), np.append(y, [0, 1])
    if kind == "no intercept":
        return np.abs(x)[:, None], np.ones(len(x))
    return np.column_stack([x, np.ones(len(x))]), y


@pytest.mark.parametrize("kind", ["complete", "quasi", "no intercept"])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_separable_data_are_finite_and_firths(kind: str, scale: float) -> None:
    x, y = separable(kind)
    units = np.where(np.ptp(x, axis=0) > 0, scale, 1.0)
    found = fit(x * units, y, np.arange(len(y)))
    assert found.penalised
    assert found.coef * units == pytest.approx(firth(x, y), rel=1e-5, abs=1e-6)
    assert np.isfinite(found.se).all()
    assert (found.se > 0).all()
    low, high = found.interval(0) or (math.nan, math.nan)
    assert low < found.coef[0] < high


def test_separated_but_for_one_row_is_not_separable() -> None:
    x, y = separable("complete")
    x, y = np.vstack([x, [[-1e-3, 1], [1e-3, 1]]]), np.append(y, [1, 0])
    found, theirs = fit(x, y, np.arange(len(y))), peer(x, y, np.arange(len(y)))
    assert not found.penalised
    assert found.coef == pytest.approx(theirs.params, rel=1e-6)


def test_all_of_one_kind_has_a_closed_form() -> None:
    found = fit(np.ones((20, 1)), np.ones(20), np.arange(20))
    assert found.penalised
    # Firth's penalty of a single proportion adds half a success and half a failure.
    assert found.coef[0] == pytest.approx(math.log(20.5 / 0.5), rel=1e-9)
    assert fit([[2.0]], [1], [0]).coef[0] == pytest.approx(math.log(3) / 2, rel=1e-7)


def test_one_cluster_has_no_interval() -> None:
    x, y, _ = data(0)
    found = fit(x, y, np.zeros(len(y)))
    assert np.isfinite(found.coef).all()
    assert found.clusters == 1
    assert (found.interval(0), found.p(0)) == (None, None)


def test_many_at_once_are_the_single_ones() -> None:
    x, y, clusters = data(5, n=90, p=2)
    rng = np.random.default_rng(1)
    outcomes = np.array([y, 1 - y, *((rng.random((20, 90)) < 0.5).astype(float))])
    wanted = [fit(x, outcome, clusters).coef for outcome in outcomes]
    assert fit_many(x, outcomes @ x) == pytest.approx(np.array(wanted), rel=1e-6, abs=1e-9)


def test_many_at_once_where_one_is_separable() -> None:
    x, y = separable("complete")
    flipped = y.copy()
    flipped[[0, -1]] = 1 - flipped[[0, -1]]
    plain = fit_many(x, np.array([y @ x, flipped @ x]))
    assert np.isnan(plain[0]).all()
    assert plain[1] == pytest.approx(fit(x, flipped, np.arange(8)).coef, rel=1e-6)
    both = fit_many(x, np.array([y @ x, flipped @ x]), penalised=True)
    assert both[0] == pytest.approx(firth(x, y), rel=1e-5)
    assert both[1] == pytest.approx(firth(x, flipped), rel=1e-5)


def test_columns_that_tell_nothing_are_named() -> None:
    x, y, clusters = data(2, p=2)
    ones = np.ones(len(y))
    names = ["likelihood", "長さ", "the order"]
    with pytest.raises(UndefinedError, match=r"長さ is 0 in all 400 rows"):
        fit(np.column_stack([x[:, 0], 0 * ones, ones]), y, clusters, names)
    with pytest.raises(UndefinedError, match="長さ is a combination of the columns before it"):
        fit(np.column_stack([x[:, 0], -3 * x[:, 0]]), y, clusters, names)
    with pytest.raises(UndefinedError, match="the order is the same in all 400 rows"):
        fit(np.column_stack([x[:, 0], 5 * ones, ones]), y, clusters, names)
    with pytest.raises(UndefinedError, match="column 1 is a combination"):
        fit([[1.0, 2.0]], [1], [0])


def test_what_is_no_data() -> None:
    x, y, clusters = data(0)
    with pytest.raises(UsageError, match="not finite"):
        fit(np.vstack([x[1:], [[math.nan, 1]]]), y, clusters)
    with pytest.raises(UsageError, match="0 and 1 only"):
        fit(x, y + 1, clusters)
    with pytest.raises(UsageError, match=r"x must be \(rows, columns\)"):
        fit(x, y[1:], clusters)
    with pytest.raises(UndefinedError, match="no row"):
        fit(np.empty((0, 1)), [], [])


def test_a_fit_is_a_value() -> None:
    found = fit([[1.0], [2.0], [-1.0], [0.5]], [1, 0, 1, 0], [0, 1, 2, 3])
    assert isinstance(found, Fit)
    with pytest.raises(AttributeError):
        found.penalised = True  # type: ignore[misc]


@given(st.integers(0, 10_000), st.integers(2, 13), st.integers(1, 3))
@settings(max_examples=150)
def test_small_data_are_finite_or_undefined(seed: int, n: int, p: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.standard_normal((n, p)), 1) * 10.0 ** rng.integers(-4, 5, p), rng.integers(0, 2, n)
    try:
        found = fit(x, y, np.arange(n))
    except UndefinedError:
        return
    assert np.isfinite(found.coef).all()
    assert np.isfinite(found.se).all()
    many = fit_many(x, [y @ x], penalised=found.penalised)[0]
    scale = np.abs(x).max(axis=0)
    assert many * scale == pytest.approx(found.coef * scale, rel=1e-4, abs=1e-5)
    assert np.isnan(fit_many(x, [y @ x])).any() == found.penalised
