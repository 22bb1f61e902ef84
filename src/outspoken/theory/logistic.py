"""Logistic regression with standard errors clustered by groups of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.special import expit
from scipy.stats import t as student

from outspoken.errors import UndefinedError, UsageError

__all__ = ["Fit", "fit", "fit_many"]

_STEPS = 100
_HALVINGS = 40
_CONVERGED = 1e-18  # of the squared Newton decrement for each row: nine digits of the coefficients
_FLAT = 1e-6  # of the rows: with less curvature (at most n / 4) a maximum is checked for separable data
_ROUNDING = 1e-13
_COLLINEAR = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients (p,), their covariance (p, p) and standard errors (p,), in the order and units of the columns.

    `clusters` counts the clusters. With a single one there is no clustered covariance and `cov` holds NaN.
    `penalised` means that the data are separable, and that Firth's penalty keeps the figures finite.
    """

    coef: Floats
    cov: Floats
    clusters: int
    penalised: bool

    @property
    def se(self) -> Floats:
        return np.sqrt(np.diag(self.cov))

    def interval(self, column: int, level: float = 0.95) -> tuple[float, float] | None:
        """coef -+ t se, with Student's t on clusters - 1 degrees of freedom; None without a standard error."""
        se = float(self.se[column])
        if not math.isfinite(se) or self.clusters < 2:
            return None
        half = float(student.isf((1 - level) / 2, self.clusters - 1)) * se
        value = float(self.coef[column])
        return value - half, value + half

    def p(self, column: int) -> float | None:
        """Two-sided p of the same t (null hypothesis: the coefficient is 0); None without a standard error."""
        se = float(self.se[column])
        if not (math.isfinite(se) and se > 0) or self.clusters < 2:
            return None
        return float(2 * student.sf(abs(float(self.coef[column])) / se, self.clusters - 1))


def fit(x: ArrayLike, y: ArrayLike, clusters: ArrayLike, names: Sequence[str] = ()) -> Fit:
    """Logistic regression of y (n,), of 0 and 1, on x (n, p): P(y = 1) = sigmoid(x b), by maximum likelihood.

    Nothing is added to x: an intercept is a column of ones. `clusters` (n,) gives the cluster of each row.
    The covariance is the clustered sandwich A^-1 (sum_g u_g u_g') A^-1 G/(G-1) (n-1)/(n-p), with A the information
    and u_g the score of cluster g, as in statsmodels' `cov_type="cluster"` (Liang and Zeger 1986, Biometrika 73).

    If a plane through the origin separates the two outcomes (rows on the plane may be exceptions), the likelihood
    has no maximum. Firth's penalised likelihood (1993, Biometrika 80), log L + log det(A) / 2, always has one and
    is used instead. Its covariance is A^-1, which assumes independent rows: residuals close to 0 would make the
    sandwich far too small.

    `names` are the columns' names in error messages. Raises `UndefinedError` for no rows and for a column that is
    0 or a combination of those before it; `UsageError` for values that are not finite, outcomes other than 0 and
    1, and different lengths.
    """
    rows, outcome, groups = _checked(x, y, clusters)
    n, p = rows.shape
    basis, back = _orthonormal(rows, [*names, *(f"column {at}" for at in range(len(names), p))])
    code = np.unique(groups, return_inverse=True)[1].ravel()
    count = int(code.max()) + 1
    coef, certain = _newton(basis, basis.T @ outcome)
    penalised = not certain and _separable(basis, outcome)
    if penalised:
        coef, _ = _newton(basis, basis.T @ outcome, penalised=True)
    fitted = expit(basis @ coef)
    inverse = np.linalg.inv(basis.T @ (basis * (fitted * (1 - fitted))[:, None]))
    if not penalised:
        scores = np.zeros((count, p))
        np.add.at(scores, code, basis * (outcome - fitted)[:, None])
        small = count / (count - 1) * (n - 1) / (n - p) if count > 1 else math.nan
        inverse = inverse @ (scores.T @ scores) @ inverse * small
    return Fit(back @ coef, back @ inverse @ back.T, count, penalised)


def fit_many(x: ArrayLike, sums: ArrayLike, *, penalised: bool = False) -> Floats:
    """Coefficients (B, p) of B regressions on the same x (n, p), one for each row of `sums` (B, p).

    The likelihood depends on the outcomes y only through the sums x' y, so `sums` holds these. A coefficient is
    NaN if the likelihood has no maximum; with `penalised` (Firth) it always has one.
    """
    rows, totals = np.asarray(x, dtype=np.float64), np.asarray(sums, dtype=np.float64)
    basis, back = _orthonormal(rows, [f"column {at}" for at in range(rows.shape[1])])
    targets = totals @ back
    block = max(1, 2_000_000 // len(basis))
    parts = [_many(basis, targets[at : at + block], penalised) for at in range(0, len(targets), block)]
    return np.concatenate(parts) @ back.T if parts else np.zeros_like(totals)


def _checked(x: ArrayLike, y: ArrayLike, clusters: ArrayLike) -> tuple[Floats, Floats, NDArray[np.generic]]:
    rows, outcome, groups = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(clusters)
    if rows.ndim != 2 or outcome.shape != (len(rows),) or groups.shape != (len(rows),):
        raise UsageError(
            f"x must be (rows, columns) and y and clusters (rows,), not {rows.shape}, {outcome.shape} "
            f"and {groups.shape}"
        )
    if not len(rows):
        raise UndefinedError("there are no rows to fit a regression to")
    if not np.isfinite(rows).all():
        raise UsageError("x holds a number that is not finite: remove rows with missing values")
    if not np.isin(outcome, (0, 1)).all():
        raise UsageError("y must hold 0 and 1 only")
    return rows, outcome, groups


def _orthonormal(x: Floats, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Columns z with z'z = n that span those of x, and the matrix that turns coefficients of z into those of x."""
    n = len(x)
    norms = np.linalg.norm(x, axis=0)
    if not norms.all():
        raise UndefinedError(f"{names[int(np.argmin(norms))]} is 0 in all {n:,} rows: leave it out")
    q, r = np.linalg.qr(x / norms)
    kept = np.abs(np.diag(r)) > _COLLINEAR
    if len(kept) < x.shape[1] or not kept.all():
        at = len(kept) if kept.all() else int(np.argmin(kept))
        same = n > 1 and np.ptp(x[:, at]) == 0
        what = "is the same" if same else "is a combination of the columns before it"
        raise UndefinedError(f"{names[at]} {what} in all {n:,} rows: leave it out, or give rows that differ")
    return q * math.sqrt(n), math.sqrt(n) * np.linalg.inv(r) / norms[:, None]


def _newton(z: Floats, target: Floats, *, penalised: bool = False) -> tuple[Floats, bool]:
    """The maximum for outcomes with z'y = `target`, and whether it is certain to be one."""
    n, p = z.shape
    coef = np.zeros(p)
    value, gradient, curvature = _likelihood(z, target, coef, penalised)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        if gradient @ step <= _CONVERGED * n:
            return coef + step, _curved(curvature, n)
        for _ in range(_HALVINGS):
            reached, *derivatives = _likelihood(z, target, coef + step, penalised)
            if reached >= value - _ROUNDING * (1 + abs(value)):
                break
            step = step / 2
        else:
            # No step improves the likelihood by more than rounding.
            return coef, _curved(curvature, n)
        coef, value, (gradient, curvature) = coef + step, reached, derivatives
    return coef, False


def _likelihood(z: Floats, target: Floats, coef: Floats, penalised: bool) -> tuple[float, Floats, Floats]:
    """The log-likelihood, its gradient and its curvature; with `penalised`, with Firth's terms.

    The penalty is equivalent to two more rows for each row, one with each outcome, weighted by half its leverage.
    """
    linear = z @ coef
    fitted = expit(linear)
    weight = fitted * (1 - fitted)
    curvature = z.T @ (z * weight[:, None])
    gradient = target - fitted @ z
    value = float(target @ coef - np.logaddexp(0, linear).sum())
    if penalised:
        sign, logarithm = np.linalg.slogdet(curvature)
        if sign <= 0:
            return -math.inf, np.zeros_like(coef), curvature
        leverage = weight * np.einsum("ij,jk,ik->i", z, np.linalg.inv(curvature), z)
        gradient = gradient + (leverage * (0.5 - fitted)) @ z
        value += float(logarithm) / 2
        curvature = curvature + z.T @ (z * (weight * leverage)[:, None])
    return value, gradient, curvature


def _curved(curvature: Floats, n: int) -> bool:
    return bool(np.linalg.eigvalsh(curvature)[0] > _FLAT * n)


def _separable(z: Floats, y: Floats) -> bool:
    """Whether some b has (2y - 1) z b >= 0 in every row and above 0 in one: Albert and Anderson (1984).

    The linear programme of Konis (2007) decides: the greatest sum of (2y - 1) z b under these constraints, with b
    in a box, is at least sqrt(n) if the data are separable, as z'z = n, and 0 if they are not.
    """
    signed = z * (2 * y - 1)[:, None]
    solved = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(z)), bounds=(-1, 1), method="highs")
    return bool(solved.status == 0 and -solved.fun > math.sqrt(len(z)) / 2)


def _many(z: Floats, targets: Floats, penalised: bool) -> Floats:
    """Newton's method for all rows of `targets` at once; long steps are shortened, so that none jumps over the
    maximum."""
    n, p = z.shape
    products = (z[:, :, None] * z[:, None, :]).reshape(n, p * p)
    coef = np.zeros_like(targets)
    for _ in range(_STEPS):
        fitted = expit(coef @ z.T)
        weight = fitted * (1 - fitted)
        curvature = (weight @ products).reshape(-1, p, p)
        singular = np.linalg.eigvalsh(curvature)[:, 0] <= 1e-12 * n
        curvature[singular] = np.eye(p)
        if penalised:
            inverse = np.linalg.inv(curvature).reshape(-1, p * p)
            leverage = weight * (inverse @ products.T)
            fitted = fitted - leverage * (0.5 - fitted)
            curvature += ((weight * leverage) @ products).reshape(-1, p, p)
        step = np.linalg.solve(curvature, (targets - fitted @ z)[:, :, None])[:, :, 0]
        step[singular] = 0
        length = np.linalg.norm(step, axis=1, keepdims=True)
        coef += step * np.minimum(1, 2 / np.maximum(length, 1e-300))
        if (length <= 1e-8).all():
            break
    for at in np.flatnonzero(singular | (length[:, 0] > 1e-8)):
        # For Firth's likelihood the curvature is an approximation, so full steps may oscillate.
        coef[at] = _newton(z, targets[at], penalised=True)[0] if penalised else math.nan
    return coef
