"""Divergences between distributions over answers. Logarithms are natural, so divergences are in nats.

A distribution is a mapping from answers to weights of at least 0, such as counts, percentages or probabilities;
the weights are divided by their sum. KL is not symmetric: swap the arguments for the other direction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from outspoken.errors import UndefinedError, UsageError
from outspoken.io.text import one_line, plural
from outspoken.measure.answer_numbers import as_number

__all__ = [
    "Significance",
    "chi_square",
    "coverage",
    "is_weight",
    "js",
    "js_of",
    "kl_of",
    "kl_shared",
    "kl_shared_of",
    "kl_smoothed",
    "kl_uniform",
    "kl_uniform_published",
    "ks",
    "ks_distance",
    "l1_histogram",
    "precision",
    "shares",
    "smoothed",
    "tv",
    "tv_of",
]

Floats = NDArray[np.float64]

_FEW = 5
EPSILON = 1e-10
"""The constant of the published KL."""


@dataclass(frozen=True, slots=True)
class Significance:
    """A test's `statistic`, p value and degrees of freedom, if any; `note` says why p is doubtful."""

    statistic: float
    p: float
    dof: int | None = None
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary, without empty fields."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def is_weight(value: object) -> bool:
    """Whether the value is a finite number of at least 0; texts, truth values and None are not."""
    if isinstance(value, (bool, str)):
        return False
    try:
        return math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]
    except (TypeError, OverflowError):
        return False


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights divided by their sum.

    Raises `UsageError` for a weight that is negative or not a finite number, `UndefinedError` if all are zero or
    there are none.
    """
    for answer, weight in weights.items():
        if not is_weight(weight):
            raise UsageError(f"the weight of {answer!r} must be a finite number of at least 0, not {weight!r}")
    largest = max(weights.values(), default=0)
    if not largest > 0:
        raise UndefinedError("there is no answer with a weight above 0: nothing can be compared")
    scaled = {answer: weight / largest for answer, weight in weights.items()}
    total = math.fsum(scaled.values())
    return {answer: weight / total for answer, weight in scaled.items()}


def coverage(weights: Mapping[str, float], known: Collection[str]) -> float:
    """Coverage-N, 0 to 1: known answers with a weight above 0 / known answers.

    Source: Verbalized Sampling (arXiv 2510.01171), open-ended question answering. Raises `UndefinedError` if there
    is no weight or no answer is known.
    """
    answers = _known(known)
    return sum(weight > 0 for answer, weight in shares(weights).items() if answer in answers) / len(answers)


def precision(weights: Mapping[str, float], known: Collection[str]) -> float:
    """The share of the weight, 0 to 1, of the known answers; for counts: correct samples / samples.

    Source: Verbalized Sampling (arXiv 2510.01171), open-ended question answering. Raises `UndefinedError` if there
    is no weight or no answer is known.
    """
    answers = _known(known)
    return min(1.0, math.fsum(weight for answer, weight in shares(weights).items() if answer in answers))


def kl_smoothed(p: Mapping[str, float], q: Mapping[str, float], epsilon: float = EPSILON) -> float:
    """KL(p || q) = sum p ln(p/q) in nats, smoothed as published; there, `p` is the reference.

    An answer that one side lacks has the share 0 there. `epsilon` is added to every share of both sides, and both
    are divided by their sums again. If `q` lacks answers of `p`, the result is about their share in `p` times
    -ln(epsilon): it measures the constant. `kl_shared` does not depend on one. Source: Verbalized Sampling (arXiv
    2510.01171), Table 32 and its code.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise UsageError(f"epsilon must be above 0, not {epsilon:g}: use kl_shared for KL without a constant")
    first, second = _over_union(p, q)
    return float(kl_of(smoothed(first, epsilon), smoothed(second, epsilon)))


def kl_shared(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """KL(p || q) = sum p ln(p/q) in nats over the answers that both have, each divided by its sum over them.

    Nothing is smoothed. Answers that only one side has are left out, so read it beside `coverage` and `precision`.
    Raises `UndefinedError` if they share no answer.
    """
    figure = float(kl_shared_of(*_over_union(p, q)))
    if math.isnan(figure):
        raise UndefinedError("the two distributions share no answer: their divergence does not exist")
    return figure


def kl_uniform(q: Mapping[str, float], answers: int) -> float:
    """KL(q || uniform over N answers) = ln N - H(q) in nats, 0 to ln N, where N is `answers`.

    Nothing is smoothed. `q` must hold correct answers only; `precision` is the share of the others. Raises
    `UsageError` if more than `answers` of them have weight.
    """
    appeared = shares(q)
    count = sum(weight > 0 for weight in appeared.values())
    if count > answers:
        raise UsageError(f"{count} answers have weight and only {answers} are known: leave out the wrong ones")
    return max(0.0, math.log(answers) - _entropy(appeared))


def kl_uniform_published(q: Mapping[str, float]) -> float:
    """KL(q || uniform over the answers that appeared) = ln n - H(q) in nats, n the answers with a weight above 0.

    The formula of the published code (Verbalized Sampling, arXiv 2510.01171), which ignores missing answers: a
    model that always gives the same answer scores a perfect 0. `q` must hold correct answers only. `kl_uniform`
    counts the missing ones too.
    """
    appeared = shares(q)
    return max(0.0, math.log(sum(weight > 0 for weight in appeared.values())) - _entropy(appeared))


def js(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Jensen-Shannon divergence in nats, 0 to ln 2: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2.

    Over the union of the answers, nothing smoothed. Source: Lin 1991, IEEE Transactions on Information Theory
    37(1), equation 4.1 with equal weights.
    """
    return float(js_of(*_over_union(p, q)))


def tv(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Total variation distance, 0 to 1: sum |p - q| / 2 over the union of the answers. Nothing is smoothed."""
    return float(tv_of(*_over_union(p, q)))


# The formulas over the last axis of arrays of shares: for two laws, or for a table with a law in each row.


def tv_of(p: Floats, q: Floats) -> Floats:
    """Total variation of shares, over the last axis."""
    return np.asarray(np.minimum(1.0, np.abs(p - q).sum(axis=-1) / 2))


def js_of(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence of shares, over the last axis."""
    middle = (p + q) / 2
    return np.asarray(np.minimum(math.log(2), (kl_of(p, middle) + kl_of(q, middle)) / 2))


def kl_of(p: Floats, q: Floats) -> Floats:
    """KL(p || q) of shares, over the last axis."""
    # p ln(p/q) - p + q has the same sum, because both add up to 1, and no term is negative by rounding.
    return np.asarray(special.kl_div(p, q).sum(axis=-1))


def kl_shared_of(p: Floats, q: Floats) -> Floats:
    """KL(p || q) over the answers that both have, each renormalised, over the last axis; NaN without any."""
    both = (p > 0) & (q > 0)
    first, second = (np.where(both, side, 0.0) for side in (p, q))
    with np.errstate(invalid="ignore"):
        figures = kl_of(*(side / side.sum(axis=-1, keepdims=True) for side in (first, second)))
    return np.where(both.any(axis=-1), figures, math.nan)


def smoothed(weights: Floats, epsilon: float = EPSILON) -> Floats:
    """The weights with `epsilon` added to each, divided by their sum over the last axis."""
    return np.asarray((weights + epsilon) / (weights + epsilon).sum(axis=-1, keepdims=True))


def chi_square(counts: Mapping[str, float], p: Mapping[str, float]) -> Significance:
    """Pearson's chi-square of goodness of fit: sum (count - expected)^2 / expected, expected = sum(counts) p.

    `counts` are whole numbers of independent responses; a missing answer of `p` counts 0. The degrees of freedom
    are the number of answers of `p` less one. The note names expected counts below 5, with which the p value is
    rough (Cochran 1954).

    Raises `UsageError` for a count that is not whole, and for an answer without a share in `p` (it would be
    infinite: leave such answers out); `UndefinedError` for fewer than two answers or no count.
    """
    expected, observed = shares(p), shares(counts)
    if impossible := [a for a in {**expected, **observed} if not expected.get(a, 0) > 0]:
        named = ", ".join(map(repr, impossible[:3])) + (", ..." if len(impossible) > 3 else "")
        raise UsageError(f"chi-square needs an expected share above 0 for every answer: leave out {named}")
    for answer, count in counts.items():
        if not float(count).is_integer():
            raise UsageError(f"chi-square needs whole counts, not {count!r} for {answer!r}")
    if len(expected) < 2:
        raise UndefinedError("chi-square needs at least two possible answers")
    total = math.fsum(counts.values())
    expected_counts = np.array(list(expected.values())) * total
    test = stats.chisquare([counts.get(answer, 0) for answer in expected], expected_counts)
    few = int((expected_counts < _FEW).sum())
    note = f"{few} of {len(expected_counts)} expected counts are below {_FEW}: p is rough" if few else ""
    return Significance(float(test.statistic), float(test.pvalue), len(expected_counts) - 1, note)


def ks(a: Sequence[float], b: Sequence[float]) -> Significance:
    """Two-sample Kolmogorov-Smirnov test, two-sided: the greatest distance of the two empirical distributions.

    `scipy.stats.ks_2samp`, which chooses between the exact and the asymptotic p value. Raises `UndefinedError` for
    an empty sample, `UsageError` for a number that is not finite.
    """
    test = stats.ks_2samp(_numbers(a), _numbers(b))
    return Significance(float(test.statistic), float(test.pvalue))


def ks_distance(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """The Kolmogorov-Smirnov distance of two distributions over numbers: max |P(X <= x) - Q(X <= x)|, 0 to 1.

    Numbers are read as `answer_numbers.as_number` does: "1", "1.0", "$1" and "one" are one. Raises
    `UndefinedError`, with their number and their share, if answers with a weight are no numbers: leave them out.
    """
    first, second = _by_number(p), _by_number(q)
    places = sorted({**first, **second})
    gaps = np.cumsum([first.get(place, 0.0) - second.get(place, 0.0) for place in places])
    return float(np.abs(gaps).max())


def l1_histogram(
    a: Sequence[float], b: Sequence[float], bins: int = 20, low: float = 0.0, high: float = 2.0
) -> float:
    """The L1 distance of two density histograms times the width of a bin: 0 (equal) to 2 (no bin shared).

    The defaults are those of the published code for donations in dollars (Verbalized Sampling, arXiv 2510.01171;
    the text describes another distance). Raises `UsageError` for a number outside `low` to `high`, which the
    published code silently drops; `UndefinedError` for an empty sample.
    """
    if bins < 1 or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{bins} bins from {low:g} to {high:g} are no histogram: use bins >= 1 and low < high")
    heights = []
    for values in (_numbers(a), _numbers(b)):
        if outside := values[(values < low) | (values > high)].tolist():
            raise UsageError(f"{outside[0]:g} lies outside {low:g} to {high:g}: widen the range, or leave it out")
        counts, _ = np.histogram(values, bins, (low, high))
        heights.append(counts / len(values))
    return float(np.abs(heights[0] - heights[1]).sum())


def _by_number(weights: Mapping[str, float]) -> dict[float, float]:
    """The shares of the numbers that the answers are."""
    numbers: dict[float, float] = {}
    others: dict[str, float] = {}
    for answer, share in shares(weights).items():
        number = as_number(answer)
        if number is not None:
            numbers[number] = numbers.get(number, 0.0) + share
        elif share > 0:
            others[answer] = share
    if others:
        raise UndefinedError(
            f"KS needs answers that are numbers: {plural(len(others), 'answer is none', 'answers are none')}, "
            f"with {math.fsum(others.values()):.1%} of the weight, such as {one_line(next(iter(others)), 40)!r}"
        )
    return numbers


def _known(known: Collection[str]) -> frozenset[str]:
    if not known:
        raise UndefinedError("no answer is known: give a reference to compare with")
    return frozenset(known)


def _over_union(p: Mapping[str, float], q: Mapping[str, float]) -> list[NDArray[np.float64]]:
    sides = shares(p), shares(q)
    return [np.array([side.get(answer, 0.0) for answer in {**sides[0], **sides[1]}]) for side in sides]


def _entropy(p: Mapping[str, float]) -> float:
    return float(special.entr(np.array(list(p.values()))).sum())


def _numbers(values: Sequence[float]) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a sample must be a flat list of numbers: {error}") from error
    if numbers.ndim != 1:
        raise UsageError(f"a sample must be a flat list of numbers, not of {numbers.ndim} dimensions")
    if not numbers.size:
        raise UndefinedError("a sample is empty: nothing can be compared")
    if not np.isfinite(numbers).all():
        raise UsageError("a sample holds a number that is not finite: leave out what is missing")
    return numbers
