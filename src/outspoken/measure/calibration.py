"""The calibration of stated probabilities, and the shares of answers beside those of a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.answer_sets import Answers
from outspoken.measure.divergence import Significance, chi_square, is_weight, shares, tv
from outspoken.measure.estimates import Estimate
from outspoken.measure.measure_input import MeasureInput
from outspoken.measure.sets import answer_weights
from outspoken.measure.statistics import mean_estimate
from outspoken.measure.values import Group, JsonResult, PromptGroup, Response

__all__ = [
    "AnswerShares",
    "Bin",
    "Calibration",
    "GroupCalibration",
    "against",
    "against_logprobs",
    "answer_shares",
    "calibrate",
    "reliability",
    "stated_of",
]


@dataclass(frozen=True, slots=True)
class Bin(JsonResult):
    """The number of answers with stated probabilities from `low` to `high`, and the means of their stated and
    observed probabilities.
    """

    low: float
    high: float
    stated: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration(JsonResult):
    """Stated probabilities against observed ones.

    `total_variation` is the distance of the two distributions, each divided by its sum, and `brier` their
    squared distance. `rank_correlation` is Spearman's rho with mid-ranks for ties, None if one side is all equal.
    `bins` are the reliability curve from low to high, `answers` the number of compared answers.
    """

    total_variation: float
    brier: float
    rank_correlation: float | None
    bins: tuple[Bin, ...]
    answers: int


def against(stated: Mapping[str, float], observed: Mapping[str, float], *, bins: int = 10) -> Calibration:
    """Stated probabilities against frequencies of the same answers: counts of many direct samples, or a reference.

    All answers of either side are compared; the probability of an answer that a side lacks is 0. `observed` is
    divided by its sum. `brier` and `bins` use the stated probabilities as they are: another sum than 1 is an
    error.

    `brier` is the sum over answers of (stated - observed)^2, 0 to 2: the part of the Brier score (1950) that is
    due to the stated probabilities, the rest being the observed law's own. It and the total variation do not
    shrink with the number of answers, as a calibration error that is averaged over answers does. Few samples raise
    both by chance: compare at equal numbers of samples.

    Raises `UndefinedError` for fewer than two answers, or if nothing was observed or stated above 0; `UsageError`
    for a stated value that is no probability, an observed one that is no weight, or `bins` below 1.
    """
    for answer, value in stated.items():
        if not is_weight(value) or value > 1:
            raise UsageError(f"the stated probability of {answer!r} must lie between 0 and 1, not {value!r}")
    return _compare(stated, shares(observed), bins)


def against_logprobs(stated: Sequence[float], logprobs: Sequence[float], *, bins: int = 10) -> Calibration:
    """Stated probabilities of candidates against the model's own log-probabilities of their texts.

    `stated[i]` and `logprobs[i]`, a natural logarithm (the sum over the tokens), belong to candidate i. Both sides
    are normalised over the candidates, the latter by softmax, so the result says how well the candidates are
    weighted relative to each other, and nothing about other answers. The figures are those of `against`.

    Raises `UndefinedError` for fewer than two candidates, or if one side has no weight at all; `UsageError` for
    sides of different lengths, a stated value that is no weight, and a log-probability above 0 or NaN.
    """
    if len(stated) != len(logprobs):
        raise UsageError(
            f"{len(stated)} stated probabilities and {len(logprobs)} log-probabilities do not pair up"
        )
    logs = np.asarray(logprobs, dtype=np.float64)
    # Sums of the log-probabilities of tokens may exceed 0 by rounding.
    if not (logs <= 1e-6).all():
        raise UsageError("a log-probability must be a number of at most 0: leave out candidates without one")
    if logs.size and logs.max() == -math.inf:
        raise UndefinedError(
            "the model gives every candidate a probability of 0: there is nothing to compare with"
        )
    weights = shares({f"candidate {number}": value for number, value in enumerate(stated, 1)})
    return _compare(weights, dict(zip(weights, special.softmax(logs).tolist(), strict=True)), bins)


def reliability(stated: Sequence[float], observed: Sequence[float], *, bins: int = 10) -> tuple[Bin, ...]:
    """The reliability curve of answers with the probabilities `stated[i]` and `observed[i]`, of one prompt or
    several.

    All bins hold about the same number of answers, and equal stated values are in the same bin (adaptive binning
    of Nguyen and O'Connor 2015, arXiv 1508.05154). Stated probabilities crowd near 0, where bins of equal width
    would all be one. With no more answers than `bins`, each distinct value is a bin.

    Raises `UsageError` for sides of different lengths, values that are no probability, or `bins` below 1, and
    `UndefinedError` without any answer.
    """
    if bins < 1:
        raise UsageError(f"a reliability curve needs at least one bin, not {bins}")
    if len(stated) != len(observed):
        raise UsageError(f"{len(stated)} stated and {len(observed)} observed probabilities do not pair up")
    if not len(stated):
        raise UndefinedError("there is no answer for a reliability curve")
    x, y = np.asarray(stated, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if not all(((side >= 0) & (side <= 1 + 1e-9)).all() for side in (x, y)):
        raise UsageError("a reliability curve needs numbers between 0 and 1: leave out missing ones")
    # An answer's bin depends on the rank of the first answer with the same value, so equal values stay together.
    numbers = np.searchsorted(np.sort(x), x, side="left") * bins // len(x)
    curve = []
    for number in np.unique(numbers):
        own, seen = x[numbers == number], y[numbers == number]
        curve.append(Bin(float(own.min()), float(own.max()), float(own.mean()), float(seen.mean()), len(own)))
    return tuple(curve)


def _compare(stated: Mapping[str, float], observed: Mapping[str, float], bins: int) -> Calibration:
    union = {**stated, **observed}
    if len(union) < 2:
        raise UndefinedError("calibration needs at least two answers")
    x = [stated.get(answer, 0.0) for answer in union]
    y = [observed.get(answer, 0.0) for answer in union]
    curve = reliability(x, y, bins=bins)
    error = math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    varied = len(set(x)) > 1 and len(set(y)) > 1
    rank_correlation = float(stats.spearmanr(x, y).statistic) if varied else None
    return Calibration(tv(stated, observed), error, rank_correlation, curve, len(union))


@dataclass(frozen=True, slots=True)
class GroupCalibration(JsonResult):
    """The calibration of a group against a `source`: the answers of the same model's "direct" group, the
    "reference", or "logprobs", a model's log-probabilities of the same responses.

    `group` is its index. The figures are means over prompts, and `bins` the reliability curve of all answers.
    `undefined` counts prompts without calibration: those with one answer in all, and those without a stated answer
    that was also observed.
    """

    group: int
    source: str = field(metadata={"key": "against"})
    total_variation: Estimate
    brier: Estimate
    rank_correlation: Estimate | None
    bins: tuple[Bin, ...]
    undefined: int = 0


def calibrate(
    groups: Sequence[Group],
    answers: Callable[[PromptGroup], Answers] | None = None,
) -> tuple[GroupCalibration, ...]:
    """Calibrate every group with stated probabilities against each source that exists."""
    known = answers or (lambda prompt: Answers.free())
    calibrations = (
        _calibrate_group(index, source, group, observed, known)
        for index, group in enumerate(groups)
        for source, observed in _sources(group, groups, known)
    )
    return tuple(calibration for calibration in calibrations if calibration is not None)


def stated_of(responses: Sequence[Response], label: Callable[[str], str]) -> dict[str, float]:
    """The stated probability of each answer: the mean over calls, 0 in calls that lack the answer.

    Calls without stated probabilities do not count, nor those that state a number outside 0 to 1 (a percentage, a
    perplexity).
    """
    by_call: dict[int | None, list[tuple[str, float]]] = {}
    for response in responses:
        if response.stated is not None:
            by_call.setdefault(response.call, []).append((label(response.text), response.stated))
    calls = [call for call in by_call.values() if all(0 <= value <= 1 for _, value in call)]
    total: dict[str, float] = {}
    for call in calls:
        # A call may state one answer several times, with a sum above 1.
        stated: dict[str, float] = {}
        for answer, value in call:
            stated[answer] = min(1.0, stated.get(answer, 0.0) + value)
        for answer, value in stated.items():
            total[answer] = total.get(answer, 0.0) + value / len(calls)
    return total


_Observed = Callable[[PromptGroup], Mapping[str, float] | None]


def _sources(
    group: Group, groups: Sequence[Group], known: Callable[[PromptGroup], Answers]
) -> Iterator[tuple[str, _Observed]]:
    directs = [other for other in groups if other.method == "direct" and other.model == group.model]
    own = group.settings.items()
    # If there are several, the one whose settings are most like those of the group.
    direct = max(directs, key=lambda it: sum(it.settings.get(key) == value for key, value in own), default=None)
    if direct is not None and direct is not group:
        frequencies = {
            prompt.prompt_id: answer_weights(prompt.responses, known(prompt).label)
            for prompt in direct.prompts
            if prompt.responses
        }
        yield "direct", lambda prompt: frequencies.get(prompt.prompt_id)
    yield "reference", lambda prompt: known(prompt).reference


def _calibrate_group(
    index: int,
    source: str,
    group: Group,
    observed: _Observed,
    known: Callable[[PromptGroup], Answers],
) -> GroupCalibration | None:
    calibrations: list[Calibration] = []
    pairs: list[tuple[float, float]] = []
    undefined = 0
    for prompt in group.prompts:
        frequencies = observed(prompt)
        stated = stated_of(prompt.responses, known(prompt).label)
        if not frequencies or not stated:
            continue
        # Without a common answer, all texts differ, and the frequencies of single texts mean nothing.
        if not stated.keys() & frequencies.keys():
            undefined += 1
            continue
        try:
            calibrations.append(against(stated, frequencies))
        except UndefinedError:
            undefined += 1
            continue
        union = {**stated, **frequencies}
        pairs += [(stated.get(answer, 0.0), frequencies.get(answer, 0.0)) for answer in union]
    if not calibrations:
        return None
    ranks = [one.rank_correlation for one in calibrations if one.rank_correlation is not None]
    all_stated, all_observed = zip(*pairs, strict=True)
    return GroupCalibration(
        index,
        source,
        mean_estimate([one.total_variation for one in calibrations]),
        mean_estimate([one.brier for one in calibrations]),
        mean_estimate(ranks) if ranks else None,
        reliability(all_stated, all_observed),
        undefined,
    )


_MAX_ANSWERS = 60


@dataclass(frozen=True, slots=True)
class AnswerShares(JsonResult):
    """The shares of the answers to one prompt, at most the 60 largest, by the index of the group.

    `reference` holds the shares that the answers ought to have, None if they are unknown. `chi_square` tests the
    responses of a group against it, for groups whose responses are independent.
    """

    prompt_id: str
    prompt: str
    reference: Mapping[str, float] | None
    groups: Mapping[int, Mapping[str, float]]
    chi_square: Mapping[int, Significance]


def answer_shares(groups: Sequence[Group], inputs: Sequence[Mapping[str, MeasureInput]]) -> Iterable[AnswerShares]:
    """The shares for each prompt whose answers are known. `inputs` holds those of each group, by prompt id."""
    prompts = {prompt.prompt_id: prompt.prompt for group in groups for prompt in group.prompts}
    for prompt_id, text in prompts.items():
        by_group = {index: own[prompt_id] for index, own in enumerate(inputs) if prompt_id in own}
        answers = next(iter(by_group.values())).answers
        if not answers.known:
            continue
        tests = {index: _fit(one) for index, one in by_group.items()}
        yield AnswerShares(
            prompt_id,
            text,
            _largest(answers.reference) if answers.reference else None,
            {index: _largest(one.weights) for index, one in by_group.items() if one.responses},
            {index: test for index, test in tests.items() if test is not None},
        )


def _fit(inputs: MeasureInput) -> Significance | None:
    """Chi-square against the reference; None without one, and if several responses came from one call."""
    calls = [response.call for response in inputs.responses]
    reference = {answer: share for answer, share in (inputs.answers.reference or {}).items() if share}
    counts = {answer: count for answer, count in inputs.counts.items() if answer in reference}
    if None in calls or len(set(calls)) < len(calls) or not counts:
        return None
    try:
        return chi_square(counts, reference)
    except UndefinedError:
        return None


def _largest(weights: Mapping[str, float]) -> dict[str, float]:
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:_MAX_ANSWERS])
