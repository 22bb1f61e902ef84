"""The sharpening exponent gamma, estimated for questions whose answers are all equally right: from draws of the
aligned model and the base's shares, or from log-probabilities of both models.

With a constant true reward, the aligned model is the base to the power gamma = 1 + alpha / beta, normalised
(Verbalized Sampling, arXiv 2510.01171, equation 3). gamma = 1 means that alignment changed nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, rel_entr, softmax, xlogy
from scipy.stats import t as student

from outspoken.errors import UndefinedError, UsageError
from outspoken.io.text import plural
from outspoken.measure.divergence import is_weight, shares
from outspoken.measure.statistics import FEW
from outspoken.theory.gamma_result import Gamma, Point
from outspoken.theory.sharpening import sharpen

__all__ = ["gamma_from_counts", "gamma_from_logprobs", "gamma_from_shares"]

Floats = NDArray[np.float64]

_FEW_DRAWS = 30
_ROUNDING = 1e-12


def gamma_from_counts(
    trials: Sequence[Mapping[str, int]],
    reference: Mapping[str, float],
    *,
    unit: str = "trial",
    resamples: int = 999,
    seed: int = 0,
) -> Gamma:
    """The maximum-likelihood gamma of reference^gamma for independent draws of the aligned model.

    `trials` are counts of answers, one mapping for each trial; `reference` holds weights. Answers without a weight
    there are left out, counted, and reported as a warning. The likelihood is concave; at its maximum the mean of
    ln(reference) over the draws equals its expectation under the power.

    The interval is a sandwich with t on the number of units minus one. The units are trials if at least `FEW` of
    them have draws (the draws of one trial may be correlated), else draws; `unit` names a trial. In simulations on
    the US states with gamma from 1 to 4 it covers 93 to 97 % with 6 trials as well as with 30, also if trials
    differ from each other; draws as units would cover 45 to 80 % there. `resamples` and `seed` are those of the
    bootstrap of the deviance.

    Raises `UsageError` for counts that are not whole numbers; `UndefinedError` if there is no finite gamma: no
    draw within the reference, all draws on its most (or least) likely answers, equal weights, or a single draw.
    """
    base = {answer: share for answer, share in shares(reference).items() if share > 0}
    table, outside, unknown = _table(trials, base)
    counts, p = table.sum(axis=0), np.array(list(base.values()))
    logs, total = np.log(p), float(table.sum())
    value = _solve(counts, logs, list(base))
    fitted, observed = sharpen(p, value), counts / total
    centred = logs - fitted @ logs
    # Derivatives of the log-likelihood at its maximum, and the number of units that have each.
    scores, weights = table @ centred, np.ones(len(table))
    if len(table) < FEW or table.sum(axis=1).max() <= 1:
        scores, weights, unit = centred, counts, "draw"
    units = int(weights.sum())
    information = total * float(fitted @ centred**2)
    se = math.sqrt(units / (units - 1) * float(weights @ scores**2)) / information
    fit = {
        "deviance": float(_deviance(counts, logs, np.array([value]))[0]),
        "df": len(p) - 2,
        "p": _bootstrap_p(counts, logs, value, information, resamples, seed),
        "tv": float(np.abs(observed - fitted).sum()) / 2,
        "tv_base": float(np.abs(observed - p).sum()) / 2,
        "kl": float(rel_entr(observed, fitted).sum()),
        "kl_base": float(rel_entr(observed, p).sum()),
        "outside": outside / (total + outside),
    }
    rows = zip(base, p.tolist(), observed.tolist(), fitted.tolist(), strict=True)
    return Gamma(
        how="counts",
        **_tested(value, se, units - 1),
        unit=unit,
        units=units,
        answers=len(p),
        prompts=1,
        fit=fit,
        points=tuple(Point("", *row) for row in rows),
        warnings=_warnings(table, outside, unknown, unit, se),
    )


def gamma_from_shares(calls: Sequence[Mapping[str, float]], reference: Mapping[str, float]) -> Gamma:
    """The gamma of stated distributions: the power of the reference nearest to the mean of the calls' shares.

    `calls` hold the stated shares of each call, which count as one draw each: gamma minimises KL(shares ||
    reference^gamma), where the mean of ln(reference) over the shares equals its expectation under the power. The
    interval is a sandwich over the calls, with t on their number minus one; a single call has none. Nothing is
    sampled, so there is no deviance and no p value of the fit.

    Raises `UndefinedError` as `gamma_from_counts` does.
    """
    base = {answer: share for answer, share in shares(reference).items() if share > 0}
    p = np.array(list(base.values()))
    rows, outside, unknown = [], 0.0, set()
    for call in calls:
        if not any(call.values()):
            continue
        known = {answer: weight for answer, weight in shares(call).items() if answer in base}
        unknown |= {answer for answer in call if answer not in base}
        outside += 1 - math.fsum(known.values())
        if any(known.values()):
            rows.append([known.get(answer, 0.0) for answer in base])
    if not rows:
        raise UndefinedError("none of the stated answers has a share in the reference")
    table = np.array(rows)
    table /= table.sum(axis=1, keepdims=True)
    observed, logs, units = table.mean(axis=0), np.log(p), len(table)
    value = _solve(observed, logs, list(base))
    fitted = sharpen(p, value)
    centred = logs - fitted @ logs
    scores = table @ centred
    information = units * float(fitted @ centred**2)
    warnings = [f"{len(unknown):,} stated answers are not in the reference, and are left out"] if unknown else []
    if units < len(calls):
        warnings.append(f"{plural(len(calls) - units, 'call')} without an answer of the reference left out")
    if units < FEW:
        warnings.append(f"{plural(units, 'call')}: with fewer than {FEW}, the interval is a rough guide")
    se = math.sqrt(units / (units - 1) * float(scores @ scores)) / information if units > 1 else 0.0
    fit = {
        "tv": float(np.abs(observed - fitted).sum()) / 2,
        "tv_base": float(np.abs(observed - p).sum()) / 2,
        "kl": float(rel_entr(observed, fitted).sum()),
        "kl_base": float(rel_entr(observed, p).sum()),
        "outside": outside / len(calls),
    }
    return Gamma(
        how="shares",
        **_tested(value, se, max(1, units - 1)),
        unit="call",
        units=units,
        answers=len(p),
        prompts=1,
        fit=fit,
        points=tuple(
            Point("", *row) for row in zip(base, p.tolist(), observed.tolist(), fitted.tolist(), strict=True)
        ),
        warnings=tuple(warnings),
    )


def gamma_from_logprobs(points: Sequence[Point]) -> Gamma:
    """gamma by least squares of aligned on base log-probabilities, with an intercept for each prompt.

    The intercept absorbs the normalising constant, so the answers need not be complete; log-probabilities are of
    whole answers (sums over tokens). With at least `FEW` prompts the interval is a jackknife that leaves out one
    prompt at a time (CR3 of Bell and McCaffrey 2002), with t on the number of prompts minus one; in simulations
    with 6 to 50 prompts it covers 91 to 95 %, the plain cluster sandwich (CR1) 86 to 95 %. With fewer prompts the
    answers are treated as independent: HC3 (MacKinnon and White 1985), with t on the degrees of freedom.

    Noise in the base log-probabilities (another tokenisation, quantisation) pulls gamma towards 0 (regression
    dilution): the slope becomes gamma var(x) / (var(x) + var(noise)) with x within prompts.

    Prompts with a single answer carry no information; they are left out and reported as a warning. Raises
    `UsageError` for an invalid log-probability and an answer that is given twice, `UndefinedError` if base
    log-probabilities do not differ within any prompt, or if there are too few of them.
    """
    rows, alone = _usable(points)
    _, at = np.unique([row.prompt for row in rows], return_inverse=True)
    sizes = np.bincount(at)
    base, aligned = (np.array([getattr(row, name) for row in rows]) for name in ("base", "aligned"))
    base_mean, aligned_mean = ((np.bincount(at, side) / sizes)[at] for side in (base, aligned))
    x, y = base - base_mean, aligned - aligned_mean
    xx, xy = np.bincount(at, x * x), np.bincount(at, x * y)
    varied = xx > _ROUNDING * (1 + np.abs(base).max() ** 2)
    if not varied.any():
        raise UndefinedError("base log-probabilities do not differ within any prompt: give answers that do")
    value, df = float(xy.sum() / xx.sum()), len(rows) - len(sizes) - 1
    if df < 1:
        raise UndefinedError("two answers to one prompt are too few for an interval: give more answers")
    residuals = y - value * x
    units = int(varied.sum())
    by_prompt = units >= FEW
    if by_prompt:
        df, without = units - 1, (xy.sum() - xy[varied]) / (xx.sum() - xx[varied])
        se = math.sqrt(df / units * float(((without - value) ** 2).sum()))
    else:
        units, se = len(rows), _hc3(rows, x, residuals, 1 / sizes[at])
    fitted = aligned_mean + value * x
    fit = {
        **({"r2": 1 - float(residuals @ residuals / (y @ y))} if y.any() else {}),
        "residual_sd": math.sqrt(float(residuals @ residuals) / (len(rows) - len(sizes) - 1)),
        "tv": _mean_tv(at, aligned, value * base),
        "tv_base": _mean_tv(at, aligned, base),
    }
    notes = [f"prompts with a single answer carry no information and are left out: {alone:,}"] if alone else []
    if not by_prompt:
        notes.append(f"fewer than {FEW} prompts: the interval treats the answers as independent of each other")
    return Gamma(
        how="logprobs",
        **_tested(value, se, df),
        unit="prompt" if by_prompt else "answer",
        units=units,
        answers=len(rows),
        prompts=len(sizes),
        fit=fit,
        points=tuple(replace(row, fitted=number) for row, number in zip(rows, fitted.tolist(), strict=True)),
        warnings=tuple(notes),
    )


def _hc3(rows: Sequence[Point], x: Floats, residuals: Floats, prompt_leverage: Floats) -> float:
    """The standard error of the slope. An answer's leverage is that of its prompt's intercept plus its own."""
    free = 1 - prompt_leverage - x * x / (x @ x)
    if (free < _ROUNDING).any():
        decisive = rows[int(free.argmin())].answer
        raise UndefinedError(f"gamma depends on the single answer {decisive!r}: give more answers")
    return math.sqrt(float(((x * residuals / free) ** 2).sum())) / float(x @ x)


def _table(trials: Sequence[Mapping[str, int]], base: Mapping[str, float]) -> tuple[Floats, float, list[str]]:
    """Counts (trials, answers of the base) without empty trials; the draws outside the base, and their answers."""
    places = {answer: at for at, answer in enumerate(base)}
    table = np.zeros((len(trials), len(base)))
    unknown: dict[str, float] = {}
    for trial, row in zip(trials, table, strict=True):
        for answer, count in trial.items():
            if not is_weight(count) or not float(count).is_integer():
                raise UsageError(f"gamma needs whole counts of draws, not {count!r} for {answer!r}")
            if answer in places:
                row[places[answer]] += count
            elif count:
                unknown[answer] = unknown.get(answer, 0) + count
    outside = math.fsum(unknown.values())
    total = float(table.sum())
    if not total:
        examples = ", ".join(map(repr, list(unknown)[:3])) or "there are none"
        raise UndefinedError(f"none of {outside:,.0f} draws ({examples}) is in the reference: check both files")
    if total < 2:
        raise UndefinedError("one draw has no interval: give at least two")
    return table[table.sum(axis=1) > 0], outside, sorted(unknown, key=lambda name: -unknown[name])


def _solve(counts: Floats, logs: Floats, names: Sequence[str]) -> float:
    """The gamma at which the expectation of `logs` under the power equals their mean over the draws."""
    if np.ptp(logs) <= _ROUNDING:
        raise UndefinedError("all answers of the reference have the same weight, and no power changes that")
    drawn = logs[counts > 0]
    for end, which, direction in ((logs.max(), "most", "larger"), (logs.min(), "least", "smaller")):
        if (drawn == end).all():
            name = names[int(np.flatnonzero(logs == end)[0])]
            raise UndefinedError(
                f"all {counts.sum():,.0f} draws are the reference's {which} likely answer ({name!r}): the "
                f"{direction} gamma, the better it fits, so there is no finite one; give more draws"
            )
    p, mean = np.exp(logs), float(counts @ logs / counts.sum())

    def gap(gamma: float) -> float:
        return float(sharpen(p, gamma) @ logs) - mean

    bound = 1.0
    while not gap(-bound) < 0 < gap(bound):
        bound *= 2
        if bound > 1e9:
            raise UndefinedError("the reference's weights are too similar for a finite gamma: give more draws")
    return float(brentq(gap, -bound, bound, xtol=1e-13, rtol=1e-14))


def _deviance(counts: Floats, logs: Floats, gammas: Floats) -> Floats:
    """2 sum n ln(n / fitted), for counts (..., answers) and one gamma for each row of them."""
    powers = gammas[:, None] * logs
    fitted = powers - logsumexp(powers, axis=1, keepdims=True)
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray(2 * (xlogy(counts, counts / total) - counts * fitted).sum(axis=-1))


def _bootstrap_p(
    counts: Floats, logs: Floats, value: float, information: float, resamples: int, seed: int
) -> float:
    """The share of resamples of the fitted power, each fitted again, with as large a deviance."""
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, softmax(value * logs), resamples).astype(np.float64)
    means = drawn @ logs / total
    # Bisection for all resamples at once. A resample without a finite gamma ends at the limit, with a perfect fit.
    low = np.full(resamples, value - 20 / math.sqrt(information))
    high = 2 * value - low
    for _ in range(45):
        middle = (low + high) / 2
        above = softmax(middle[:, None] * logs, axis=1) @ logs > means
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    observed = float(_deviance(counts, logs, np.array([value]))[0])
    reached = _deviance(drawn, logs, (low + high) / 2) >= observed * (1 - 1e-9) - 1e-6
    return (int(reached.sum()) + 1) / (resamples + 1)


def _tested(value: float, se: float, df: int) -> dict[str, Any]:
    """The interval and the test of gamma = 1; p is None without any variation."""
    if se <= _ROUNDING:
        return {"value": value, "low": value, "high": value, "se": 0.0, "p": None}
    half = float(student.isf(0.025, df)) * se
    p = 2 * float(student.sf(abs(value - 1) / se, df))
    return {"value": value, "low": value - half, "high": value + half, "se": se, "p": p}


def _warnings(table: Floats, outside: float, unknown: Sequence[str], unit: str, se: float) -> tuple[str, ...]:
    total = float(table.sum())
    notes = []
    if outside:
        examples = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        notes.append(
            f"{outside:,.0f} of {total + outside:,.0f} draws are left out, outside the reference: {examples}"
        )
    if total < _FEW_DRAWS:
        notes.append(f"only {total:,.0f} draws: the interval is a rough guide")
    if unit == "draw" and len(table) > 1 and table.sum(axis=1).max() > 1:
        notes.append(
            f"{len(table)} trials are too few to compare with each other (at least {FEW}): the interval treats "
            "the draws as independent, and is too narrow if those of one trial are correlated"
        )
    if se <= _ROUNDING:
        notes.append(f"no variation among the {unit}s: the interval has no width, do not trust it")
    return tuple(notes)


def _usable(points: Sequence[Point]) -> tuple[list[Point], int]:
    """The points of prompts with at least two answers, and the number of prompts with only one."""
    answers: dict[str, set[str]] = {}
    for point in points:
        for name in ("base", "aligned"):
            value = getattr(point, name)
            is_number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
            if not is_number or not -math.inf < value <= 1e-6:
                raise UsageError(
                    f"{point.answer!r} has {value!r} for its {name} log-probability: give a finite one, at most 0"
                )
        if point.answer in answers.setdefault(point.prompt, set()):
            raise UsageError(f"{point.answer!r} is given twice for the prompt {point.prompt!r}: keep one of them")
        answers[point.prompt].add(point.answer)
    rows = [point for point in points if len(answers[point.prompt]) > 1]
    if not rows:
        raise UndefinedError(
            "no prompt has two answers with log-probabilities: give at least three for one prompt"
        )
    return rows, sum(len(texts) == 1 for texts in answers.values())


def _mean_tv(at: NDArray[np.intp], aligned: Floats, fitted: Floats) -> float:
    """Total variation among the given answers, as the mean over prompts."""
    gaps = [
        float(np.abs(softmax(aligned[at == prompt]) - softmax(fitted[at == prompt])).sum()) / 2
        for prompt in range(int(at.max()) + 1)
    ]
    return math.fsum(gaps) / len(gaps)
