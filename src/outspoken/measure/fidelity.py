"""Do draws follow a known law? Kolmogorov-Smirnov, chi-square, total variation, ratio of standard deviations.

Diversity is not fidelity: a model that rolls a die should roll each face as often, and verbalized sampling is
reported to spread too wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from outspoken.errors import UndefinedError
from outspoken.io.text import plural
from outspoken.measure.answer_numbers import as_number
from outspoken.measure.answer_sets import Answers
from outspoken.measure.estimates import Estimate
from outspoken.measure.laws import Law
from outspoken.measure.sets import answer_weights
from outspoken.measure.statistics import LEVEL, mean_estimate
from outspoken.measure.values import Group, JsonResult, Response
from outspoken.report.format import number, p_equation

__all__ = ["Fidelity", "GroupFidelity", "fidelity", "group_fidelities", "sd_ratio_of_shares"]

Floats = NDArray[np.float64]

_SIMULATIONS = 2_000
_LEAST_EXPECTED = 5


@dataclass(frozen=True, slots=True)
class Fidelity(JsonResult):
    """Draws beside a law.

    `draws` were read, `left_out` are no answers of the law's kind (for numbers: no number), with the first of them
    as `examples`, and `outside` lie outside the law's support (they count in all figures but chi-square). `ks` is
    the Kolmogorov-Smirnov distance of N draws (KS@N), `tv` the total variation, each with the mean that as many
    perfect draws would have (`ks_by_chance`, `tv_by_chance`) and its p value by simulation of such draws;
    `chi_square` is Pearson's, with answers merged until 5 are expected of each. `mean` has an interval; `sd_ratio`
    is the standard deviation of the draws over that of the law. Figures that do not exist are None: numbers have
    no total variation under a continuous law, and categories nothing else.
    """

    law: str
    draws: int
    left_out: int
    examples: tuple[str, ...]
    outside: int
    ks: float | None
    ks_by_chance: float | None
    ks_p: float | None
    tv: float | None
    tv_by_chance: float | None
    tv_p: float | None
    chi_square: float | None
    chi_square_p: float | None
    mean: Estimate | None
    law_mean: float | None
    sd_ratio: Estimate | None
    sentence: str


def fidelity(texts: Sequence[str], law: Law, *, seed: int = 0) -> Fidelity:
    """Compare independent draws with a law. Raises `UndefinedError` if none of them can be read."""
    random = np.random.default_rng(seed)
    if law.numbers is None:
        return _of_categories(texts, law, random)
    numbers = [as_number(text) for text in texts]
    values = np.array([value for value in numbers if value is not None], dtype=np.float64)
    missing = [text for text, value in zip(texts, numbers, strict=True) if value is None]
    if not len(values):
        raise UndefinedError("none of the responses is a number: the law is one of numbers")
    ks, by_chance, ks_p = _kolmogorov_smirnov(values, law, random)
    tv: tuple[float | None, float | None, float | None] = (None, None, None)
    chi: tuple[float | None, float | None] = (None, None)
    outside = 0
    if law.shares is not None:
        places = {as_number(answer): at for at, answer in enumerate(law.shares)}
        at = np.array([places.get(value, len(places)) for value in values.tolist()])
        outside = int((at == len(places)).sum())
        counts = np.bincount(at, minlength=len(places) + 1).astype(np.float64)
        tv, chi = _of_counts(counts, np.array(list(law.shares.values())), random)
    else:
        low, high = law.numbers.support()
        outside = int(((values < low) | (values > high)).sum())
    mean = mean_estimate(values, unit="draw")
    ratio, ratio_p = _sd_ratio(values, law, random)
    tests = (ks_p, chi[1], tv[2], _mean_p(values, law), ratio_p)
    sentence = _sentence(law, len(values), tests, mean, ratio)
    return Fidelity(
        law.title,
        len(values),
        len(missing),
        tuple(missing[:3]),
        outside,
        ks,
        by_chance,
        ks_p,
        *tv,
        *chi,
        mean,
        law.mean,
        ratio,
        sentence,
    )


def _of_categories(texts: Sequence[str], law: Law, random: np.random.Generator) -> Fidelity:
    shares = law.shares or {}
    answers = Answers.counts(dict(shares))
    places = {answer: at for at, answer in enumerate(shares)}
    at = np.array([places.get(answers.label(text), len(places)) for text in texts], dtype=np.intp)
    if not len(at):
        raise UndefinedError("there is no response to compare with the law")
    outside = [text for text, place in zip(texts, at, strict=True) if place == len(places)]
    counts = np.bincount(at, minlength=len(places) + 1).astype(np.float64)
    tv, chi = _of_counts(counts, np.array(list(shares.values())), random)
    sentence = _sentence(law, len(texts), (None, chi[1], tv[2]), None, None)
    nothing = (None, None, None)
    return Fidelity(
        law.title, len(texts), 0, tuple(outside[:3]), len(outside), *nothing, *tv, *chi, None, None, None, sentence
    )


def _kolmogorov_smirnov(values: Floats, law: Law, random: np.random.Generator) -> tuple[float, float, float]:
    """The distance, its mean by chance, and its p value: by simulation, which is right for discrete laws too."""
    found = _ks_distance(values[None, :], law)[0]
    rows = max(1, min(_SIMULATIONS, 4_000_000 // len(values)))
    simulated = np.concatenate(
        [_ks_distance(law.draw((rows, len(values)), random), law) for _ in range(math.ceil(_SIMULATIONS / rows))]
    )
    p = (1 + int((simulated >= found - 1e-12).sum())) / (1 + len(simulated))
    return float(found), float(simulated.mean()), p


def _ks_distance(samples: Floats, law: Law) -> Floats:
    """max |F_n - F| of each row, at every value and just below it."""
    ordered = np.sort(samples, axis=1)
    count = samples.shape[1]
    at, below = law.numbers.cdf(ordered), law.numbers.cdf(np.nextafter(ordered, -np.inf))
    # Equal values step together: the empirical distribution at the last of them, and before the first.
    same = np.concatenate([ordered[:, 1:] == ordered[:, :-1], np.zeros((len(samples), 1), bool)], axis=1)
    first = np.concatenate([np.zeros((len(samples), 1), bool), ordered[:, 1:] == ordered[:, :-1]], axis=1)
    steps = np.arange(1, count + 1) / count
    upper = np.where(same, 0.0, np.abs(steps - at))
    lower = np.where(first, 0.0, np.abs(steps - 1 / count - below))
    return np.asarray(np.maximum(upper, lower).max(axis=1))


def _of_counts(
    counts: Floats, shares: Floats, random: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[float | None, float | None]]:
    """Total variation with its mean by chance and p value, and chi-square with its p value.

    The last count is that of answers outside the law.
    """
    total = int(counts.sum())
    p = np.append(shares, 0.0)
    simulated = random.multinomial(total, shares / shares.sum(), _SIMULATIONS)
    by_chance = np.abs(simulated / total - shares).sum(axis=1) / 2
    tv = float(np.abs(counts / total - p).sum() / 2)
    tv_p = (1 + int((by_chance >= tv - 1e-12).sum())) / (1 + _SIMULATIONS)
    return (tv, float(by_chance.mean()), tv_p), _chi_square(counts[:-1], shares)


def _chi_square(counts: Floats, shares: Floats) -> tuple[float | None, float | None]:
    """Pearson's chi-square of the answers within the law, rare ones merged until 5 are expected of each."""
    expected = shares / shares.sum() * counts.sum()
    bins: list[list[float]] = []
    for at in np.argsort(expected):
        if not bins or bins[-1][1] >= _LEAST_EXPECTED:
            bins.append([0.0, 0.0])
        bins[-1][0] += counts[at]
        bins[-1][1] += expected[at]
    if len(bins) > 1 and bins[-1][1] < _LEAST_EXPECTED:
        last = bins.pop()
        bins[-1] = [bins[-1][0] + last[0], bins[-1][1] + last[1]]
    if len(bins) < 2:
        return None, None
    observed, wanted = np.array(bins).T
    test = stats.chisquare(observed, wanted * observed.sum() / wanted.sum())
    return float(test.statistic), float(test.pvalue)


def _mean_p(values: Floats, law: Law) -> float | None:
    """The p value of the mean, with the standard error that the law has."""
    if len(values) < 2 or not law.sd > 0:
        return None
    return float(2 * stats.norm.sf(abs(values.mean() - law.mean) / law.sd * math.sqrt(len(values))))


def _sd_ratio(values: Floats, law: Law, random: np.random.Generator) -> tuple[Estimate | None, float | None]:
    """The standard deviation of the draws over that of the law, with a bootstrap interval on the scale of logs."""
    if len(values) < 3 or not law.sd > 0:
        return None, None
    spread = float(values.std(ddof=1))
    if spread == 0:
        return Estimate(0.0, None, None, len(values), "draw", "all draws are equal: there is no interval"), None
    picks = random.integers(0, len(values), (min(_SIMULATIONS, 4_000_000 // len(values)), len(values)))
    resampled = values[picks].std(axis=1, ddof=1)
    error = max(1e-9, float(np.log(resampled[resampled > 0]).std()))
    reach = float(stats.t.isf(LEVEL / 2, len(values) - 1)) * error
    ratio = spread / law.sd
    p = float(2 * stats.t.sf(abs(math.log(ratio)) / error, len(values) - 1))
    return Estimate(ratio, ratio * math.exp(-reach), ratio * math.exp(reach), len(values), "draw"), p


@dataclass(frozen=True, slots=True)
class GroupFidelity(JsonResult):
    """The fidelity of a group, whose index is `group`: its responses to all prompts, as draws from one law.

    `sd_ratio_of_shares` is the ratio of standard deviations of the stated distribution, None without one.
    """

    group: int
    fidelity: Fidelity
    sd_ratio_of_shares: float | None = None


def group_fidelity(group: int, responses: Sequence[Response], law: Law, seed: int) -> GroupFidelity:
    """The fidelity of all responses of a group. Raises `UndefinedError` if none of them can be read."""
    stated = any(response.stated is not None for response in responses)
    weights = answer_weights(responses, str.strip) if stated else {}
    found = fidelity([response.text for response in responses], law, seed=seed)
    return GroupFidelity(group, found, sd_ratio_of_shares(weights, law))


def group_fidelities(
    groups: Sequence[Group], law: Law, seed: int
) -> tuple[tuple[GroupFidelity, ...], tuple[str, ...]]:
    """The fidelity of each group, and sentences about groups without one, and about several prompts."""
    found, problems = [], []
    for index, group in enumerate(groups):
        try:
            responses = [response for prompt in group.prompts for response in prompt.responses]
            found.append(group_fidelity(index, responses, law, seed))
        except UndefinedError as error:
            problems.append(f"{group.method}: the law: {error}")
        if len(group.prompts) > 1:
            problems.append(
                f"{len(group.prompts):,} prompts are treated as wordings of one question, with one law"
            )
    return tuple(found), tuple(dict.fromkeys(problems))


def sd_ratio_of_shares(weights: Mapping[str, float], law: Law) -> float | None:
    """The standard deviation of a stated distribution over that of the law; None if it holds no two numbers."""
    pairs = [(value, weight) for text, weight in weights.items() if (value := as_number(text)) is not None]
    if law.numbers is None or len(pairs) < 2 or not law.sd > 0:
        return None
    values, own = np.array(pairs).T
    own = own / own.sum()
    mean = float(values @ own)
    return math.sqrt(float((values - mean) ** 2 @ own)) / law.sd


def _sentence(
    law: Law, draws: int, tests: tuple[float | None, ...], mean: Estimate | None, ratio: Estimate | None
) -> str:
    """Whether the draws follow the law, by Holm's smallest p value, and in what they differ."""
    known = [p for p in tests if p is not None]
    smallest = min(1.0, min(known) * len(known)) if known else None
    start = f"{plural(draws, 'draw')} beside {law.title}"
    differences = []
    if (
        mean is not None
        and mean.low is not None
        and mean.high is not None
        and not mean.low <= law.mean <= mean.high
    ):
        side = "high" if mean.value > law.mean else "low"
        differences.append(f"the mean is too {side}, {number(mean.value)} instead of {number(law.mean)}")
    if ratio is not None and ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high:
        side = "wide" if ratio.value > 1 else "narrow"
        differences.append(f"they spread too {side}, with {number(ratio.value)} times its standard deviation")
    if smallest is None:
        return f"{start}: too few for a test."
    if smallest <= LEVEL:
        how = "; ".join(differences) or "their shares differ"
        return f"{start}: they do not follow it ({p_equation(smallest)}): {how}."
    return f"{start}: no evidence that they differ from it ({p_equation(smallest)})."
