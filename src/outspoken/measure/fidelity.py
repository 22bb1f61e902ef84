"""Do draws follow a known law? Kolmogorov-Smirnov, chi-square, total variation, ratio of standard deviations.

Diversity is not fidelity: a model that rolls a die should roll each face as often, and verbalized sampling is
reported to spread too wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import entr

from outspoken.errors import UndefinedError
from outspoken.io.text import plural
from outspoken.measure import divergence
from outspoken.measure.answer_numbers import as_number
from outspoken.measure.answer_sets import Answers
from outspoken.measure.estimates import Estimate
from outspoken.measure.laws import Law
from outspoken.measure.sets import answer_weights
from outspoken.measure.statistics import LEVEL, mean_estimate, middle
from outspoken.measure.values import Group, JsonResult
from outspoken.report.format import number, p_equation

__all__ = ["Fidelity", "GroupFidelity", "ShareFidelity", "fidelity", "fidelity_of_shares", "group_fidelities"]

Floats = NDArray[np.float64]

_SIMULATIONS, _FEWEST_SIMULATIONS = 2_000, 500
_LEAST_EXPECTED = 5
_FEW = 50


@dataclass(frozen=True, slots=True)
class Fidelity(JsonResult):
    """Draws beside a law.

    `draws` were read, `left_out` are no answers of the law's kind (for numbers: no number), with the first of them
    as `examples`, and `outside` are impossible under the law. `ks` is the Kolmogorov-Smirnov distance of N draws
    (KS@N), `tv` the total variation, `entropy_ratio` the entropy of categories over that of the law; each with the
    mean that as many perfect draws would have (`_by_chance`), the range of 95 % of those (`_chance_range`), and a
    p value by simulation. `chi_square` is Pearson's, without draws outside, answers merged until 5 are expected of
    each. `sd_ratio` is the standard deviation of the draws over that of the law; `mean_p` and `sd_p` are by
    simulation. Figures that do not exist are None: a continuous law has no total variation, categories no mean.
    """

    law: str
    draws: int
    left_out: int
    examples: tuple[str, ...]
    outside: int
    ks: float | None = None
    ks_by_chance: float | None = None
    ks_chance_range: tuple[float, float] | None = None
    ks_p: float | None = None
    tv: float | None = None
    tv_by_chance: float | None = None
    tv_chance_range: tuple[float, float] | None = None
    tv_p: float | None = None
    entropy_ratio: float | None = None
    entropy_ratio_by_chance: float | None = None
    entropy_ratio_chance_range: tuple[float, float] | None = None
    entropy_p: float | None = None
    chi_square: float | None = None
    chi_square_p: float | None = None
    mean: Estimate | None = None
    law_mean: float | None = None
    mean_p: float | None = None
    sd_ratio: Estimate | None = None
    sd_p: float | None = None
    sentence: str = ""


def fidelity(texts: Sequence[str], law: Law, *, seed: int = 0) -> Fidelity:
    """Compare independent draws with a law. Raises `UndefinedError` if none of them can be read."""
    random = np.random.default_rng(seed)
    found = (_of_categories if law.numbers is None else _of_numbers)(texts, law, random)
    return replace(found, sentence=_sentence(found, law))


def _of_numbers(texts: Sequence[str], law: Law, random: np.random.Generator) -> Fidelity:
    numbers = [as_number(text) for text in texts]
    values = np.array([value for value in numbers if value is not None], dtype=np.float64)
    missing = [text for text, value in zip(texts, numbers, strict=True) if value is None]
    if not len(values):
        raise UndefinedError("none of the responses is a number: the law is one of numbers")
    found = Fidelity(law.title, len(values), len(missing), tuple(missing[:3]), 0, law_mean=law.mean)
    if law.shares is not None:
        places = {as_number(answer): at for at, answer in enumerate(law.shares)}
        at = [places.get(value, len(places)) for value in values.tolist()]
        found = _with_counts(found, at, law.shares, random)
    else:
        found = replace(found, outside=int((~_possible(values, law)).sum()))
    return _with_values(found, values, law, random)


def _of_categories(texts: Sequence[str], law: Law, random: np.random.Generator) -> Fidelity:
    shares = law.shares or {}
    answers = Answers.counts(dict(shares))
    places = {answer: at for at, answer in enumerate(shares)}
    at = [places.get(answers.label(text), len(places)) for text in texts]
    if not at:
        raise UndefinedError("there is no response to compare with the law")
    outside = [text for text, place in zip(texts, at, strict=True) if place == len(places)]
    found = Fidelity(law.title, len(texts), 0, tuple(outside[:3]), 0)
    return _with_counts(found, at, shares, random)


def _with_values(found: Fidelity, values: Floats, law: Law, random: np.random.Generator) -> Fidelity:
    """KS, mean and standard deviation, each beside those of as many draws from the law.

    The simulation is right for discrete and for skewed laws too, at any number of draws.
    """
    count, figures = len(values), []
    times = min(_SIMULATIONS, max(_FEWEST_SIMULATIONS, 10_000_000 // count))
    rows = max(1, min(times, 4_000_000 // count))
    for _ in range(math.ceil(times / rows)):
        block = law.draw((rows, count), random)
        sds = block.std(axis=1, ddof=1) if count > 1 else np.zeros(rows)
        figures.append((_ks_distance(block, law), block.mean(axis=1), sds))
    by_chance, means, sds = (np.concatenate(parts) for parts in zip(*figures, strict=True))
    ks = float(_ks_distance(values[None, :], law)[0])
    found = replace(
        found,
        ks=ks,
        ks_by_chance=float(by_chance.mean()),
        ks_chance_range=middle(by_chance),
        ks_p=_p_above(ks, by_chance),
        mean=mean_estimate(values, unit="draw"),
    )
    if count < 2 or not law.sd > 0:
        return found
    return replace(
        found,
        mean_p=_p_either(float(values.mean()), means),
        sd_ratio=_sd_ratio(values, law, random),
        sd_p=_p_either(float(values.std(ddof=1)), sds),
    )


def _p_above(value: float, simulated: Floats) -> float:
    slack = 1e-9 * max(1.0, abs(value))
    return (1 + int((simulated >= value - slack).sum())) / (1 + len(simulated))


def _p_either(value: float, simulated: Floats) -> float:
    return min(1.0, 2 * min(_p_above(value, simulated), _p_above(-value, -simulated)))


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


def _with_counts(
    found: Fidelity, at: Sequence[int], shares: Mapping[str, float], random: np.random.Generator
) -> Fidelity:
    """Total variation, chi-square and, for categories, entropy of answers at places of the law's `shares`.

    An answer that the law lacks has the place after the last.
    """
    expected = np.array(list(shares.values()))
    counts = np.bincount(np.asarray(at, dtype=np.intp), minlength=len(expected) + 1).astype(np.float64)
    simulated = random.multinomial(len(at), expected / expected.sum(), _SIMULATIONS) / len(at)
    by_chance = np.abs(simulated - expected).sum(axis=1) / 2
    tv = float(np.abs(counts / len(at) - np.append(expected, 0.0)).sum() / 2)
    statistic, p = _chi_square(counts[:-1], expected)
    found = replace(
        found,
        outside=int(counts[-1]),
        tv=tv,
        tv_by_chance=float(by_chance.mean()),
        tv_chance_range=middle(by_chance),
        tv_p=_p_above(tv, by_chance),
        chi_square=statistic,
        chi_square_p=p,
    )
    entropy = float(entr(expected).sum())
    known = int(counts[:-1].sum())
    if found.law_mean is not None or entropy <= 0 or known < 2:
        return found
    ratio = float(entr(counts[:-1] / known).sum()) / entropy
    ratios = entr(random.multinomial(known, expected / expected.sum(), _SIMULATIONS) / known).sum(axis=1) / entropy
    return replace(
        found,
        entropy_ratio=ratio,
        entropy_ratio_by_chance=float(ratios.mean()),
        entropy_ratio_chance_range=middle(ratios),
        entropy_p=_p_either(ratio, ratios),
    )


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


def _sd_ratio(values: Floats, law: Law, random: np.random.Generator) -> Estimate | None:
    """The standard deviation of the draws over that of the law, with a bootstrap interval on the scale of logs."""
    if len(values) < 3:
        return None
    spread = float(values.std(ddof=1))
    if spread == 0:
        return Estimate(0.0, None, None, len(values), "draw", "all draws are equal: there is no interval")
    picks = random.integers(0, len(values), (min(_SIMULATIONS, 4_000_000 // len(values)), len(values)))
    resampled = values[picks].std(axis=1, ddof=1)
    error = max(1e-9, float(np.log(resampled[resampled > 0]).std()))
    reach = float(stats.t.isf(LEVEL / 2, len(values) - 1)) * error
    ratio = spread / law.sd
    note = "few draws: the interval is too narrow where the law is skewed" if len(values) < _FEW else ""
    return Estimate(ratio, ratio * math.exp(-reach), ratio * math.exp(reach), len(values), "draw", note)


@dataclass(frozen=True, slots=True)
class ShareFidelity(JsonResult):
    """A stated distribution beside a law; its shares are no draws, so there is no chance in them and no p value.

    `left_out` is the share of what is no answer of the law's kind, with the first of them as `examples`; the
    figures are of the rest. `outside` is the share of what is impossible under the law. `ks` and `tv` are
    distances, 0 to 1, `sd_ratio` is the standard deviation over that of the law. Figures that do not exist are
    None.
    """

    law: str
    left_out: float
    examples: tuple[str, ...]
    outside: float
    ks: float | None = None
    tv: float | None = None
    mean: float | None = None
    law_mean: float | None = None
    sd_ratio: float | None = None


def fidelity_of_shares(weights: Mapping[str, float], law: Law) -> ShareFidelity:
    """Compare a stated distribution, as answers and weights, with a law.

    Raises `UsageError` for weights that are no finite numbers of at least 0, `UndefinedError` if no answer with a
    weight can be read.
    """
    stated = {answer: share for answer, share in divergence.shares(weights).items() if share > 0}
    if law.numbers is None:
        wanted = law.shares or {}
        answers = Answers.counts(dict(wanted))
        own: dict[str, float] = {}
        for answer, share in stated.items():
            own[answers.label(answer)] = own.get(answers.label(answer), 0.0) + share
        lacking = tuple(answer for answer in stated if answers.label(answer) not in wanted)
        outside = math.fsum(share for answer, share in own.items() if answer not in wanted)
        return ShareFidelity(law.title, 0.0, lacking[:3], outside, tv=divergence.tv(own, wanted))
    numbers = {answer: value for answer in stated if (value := as_number(answer)) is not None}
    if not numbers:
        raise UndefinedError("none of the answers is a number: the law is one of numbers")
    others = [answer for answer in stated if answer not in numbers]
    left_out = math.fsum(stated[answer] for answer in others)
    values, at = np.unique(list(numbers.values()), return_inverse=True)
    own_shares = np.bincount(at.ravel(), [stated[answer] for answer in numbers])
    found = ShareFidelity(law.title, left_out, tuple(others[:3]), 0.0, law_mean=law.mean)
    return _of_shares(found, values, own_shares / own_shares.sum(), law)


def _of_shares(found: ShareFidelity, values: Floats, own: Floats, law: Law) -> ShareFidelity:
    """The figures of numbers, in rising order, with their shares."""
    mean, sums = float(values @ own), np.cumsum(own)
    gaps = sums - law.numbers.cdf(values), sums - own - law.numbers.cdf(np.nextafter(values, -np.inf))
    distance = None
    if law.shares is not None:
        wanted = {str(as_number(answer)): share for answer, share in law.shares.items()}
        distance = divergence.tv(dict(zip(map(str, values.tolist()), own.tolist(), strict=True)), wanted)
    return replace(
        found,
        outside=float(own[~_possible(values, law)].sum()),
        ks=float(np.abs(gaps).max()),
        tv=distance,
        mean=mean,
        sd_ratio=math.sqrt(float((values - mean) ** 2 @ own)) / law.sd if law.sd > 0 else None,
    )


def _possible(values: Floats, law: Law) -> NDArray[np.bool_]:
    if law.shares is not None:
        return np.isin(values, np.array([as_number(answer) for answer in law.shares], dtype=np.float64))
    low, high = law.numbers.support()
    return np.asarray((values >= low) & (values <= high))


@dataclass(frozen=True, slots=True)
class GroupFidelity(JsonResult):
    """The fidelity of a group, whose index is `group`: its responses to all prompts, as draws from one law.

    `of_shares` is that of its stated distribution, None without one; `sd_ratio_of_shares` is its ratio of standard
    deviations.
    """

    group: int
    fidelity: Fidelity
    of_shares: ShareFidelity | None = None

    @property
    def sd_ratio_of_shares(self) -> float | None:
        return None if self.of_shares is None else self.of_shares.sd_ratio


def group_fidelities(
    groups: Sequence[Group], law: Law, seed: int
) -> tuple[tuple[GroupFidelity, ...], tuple[str, ...]]:
    """The fidelity of each group, and sentences about groups without one, and about several prompts."""
    found, problems = [], []
    for index, group in enumerate(groups):
        try:
            responses = [response for prompt in group.prompts for response in prompt.responses]
            draws, stated = fidelity([response.text for response in responses], law, seed=seed), None
            if any(response.stated is not None for response in responses):
                with suppress(UndefinedError):  # all weights are 0, or only what is no number has one
                    stated = fidelity_of_shares(answer_weights(responses, str.strip), law)
            found.append(GroupFidelity(index, draws, stated))
        except UndefinedError as error:
            problems.append(f"{group.method}: the law: {error}")
        if len(group.prompts) > 1:
            problems.append(
                f"{len(group.prompts):,} prompts are treated as wordings of one question, with one law"
            )
    return tuple(found), tuple(dict.fromkeys(problems))


def _sentence(found: Fidelity, law: Law) -> str:
    """Whether the draws follow the law, by Holm's smallest p value, and in what they differ."""
    tests = (found.ks_p, found.tv_p, found.entropy_p, found.chi_square_p, found.mean_p, found.sd_p)
    known = [p for p in tests if p is not None]
    smallest = min(1.0, min(known) * len(known))
    start = f"{plural(found.draws, 'draw')} beside {law.title}"
    verb = plural(found.left_out, "more response is", "more responses are")
    end = f". {verb} no number." if found.left_out else "."
    differences = _differences(found, law)
    if found.outside and not law.estimated:
        differences.insert(0, f"it cannot give {found.outside:,} of them")
        return f"{start}: they do not follow it: {'; '.join(differences)}{end}"
    if found.outside:
        differences.append(f"it lacks the answers of {found.outside:,}")
    if smallest <= LEVEL:
        how = "; ".join(differences) or f"their {'shape differs' if found.tv is None else 'shares differ'}"
        return f"{start}: they do not follow it ({p_equation(smallest)}): {how}{end}"
    if found.draws == 1:
        return f"{start}: too few for a test{end}"
    return f"{start}: no evidence that they differ from it ({p_equation(smallest)}){end}"


def _differences(found: Fidelity, law: Law) -> list[str]:
    differences = []
    if found.mean is not None and found.mean_p is not None and found.mean_p <= LEVEL:
        side = "high" if found.mean.value > law.mean else "low"
        differences.append(f"the mean is too {side}, {number(found.mean.value)} instead of {number(law.mean)}")
    ratio, p = found.sd_ratio, found.sd_p
    if ratio is not None and p is not None and p <= LEVEL:
        side = "wide" if ratio.value > 1 else "narrow"
        how = f"with {number(ratio.value)} times its standard deviation" if ratio.value else "for all are equal"
        differences.append(f"they spread too {side}, {how}")
    even, by_chance, p = found.entropy_ratio, found.entropy_ratio_by_chance, found.entropy_p
    if even is not None and by_chance is not None and p is not None and p <= LEVEL:
        side = "evenly" if even > by_chance else "unevenly"
        differences.append(f"they spread too {side}, with {number(even)} times its entropy")
    return differences
