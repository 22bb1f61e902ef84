"""Do the stated probabilities mean what they say?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.answer_sets import Answers
from outspoken.measure.divergence import is_weight, shares, tv
from outspoken.measure.sets import answer_weights
from outspoken.measure.statistics import Estimate, mean_estimate
from outspoken.measure.values import Group, PromptGroup, Response

__all__ = [
    "Bin",
    "Calibration",
    "GroupCalibration",
    "against",
    "against_logprobs",
    "calibrate",
    "reliability",
    "stated_of",
]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with neighbouring stated probabilities: the least and the greatest of these, the mean stated and the
    mean observed probability, and how many answers they are."""

    low: float
    high: float
    stated: float
    observed: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Stated probabilities against observed ones.

    `total_variation` is between the two distributions, each divided by its sum; `ece` the expected calibration
    error; `rank_correlation` Spearman's rho with mid-ranks for ties, None where one side is all equal; `bins` the
    reliability curve from low to high; `answers` how many were compared.
    """

    total_variation: float
    ece: float
    rank_correlation: float | None
    bins: tuple[Bin, ...]
    answers: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self) | {"bins": [entry.to_dict() for entry in self.bins]}


def against(stated: Mapping[str, float], observed: Mapping[str, float], *, bins: int = 10) -> Calibration:
    """Stated probabilities against frequencies of the same answers: counts of many direct samples, or a reference.

    Over the union of the answers: one that was never stated counts as stated 0, one that was never observed as
    observed 0. `observed` is divided by its sum. The stated ones stand as they were said in `ece` and `bins`, so
    that what they lack of 1 counts as an error.

    ECE = sum over bins of (answers in it / answers) |mean stated - mean observed|. Every answer counts once: by
    stated weight, an answer that nobody stated would cost nothing. The bins are those of `reliability`. ECE's size
    depends on the number of answers, and few samples raise it and the total variation by chance alone: compare
    within a task, at equal numbers of samples.

    Raises `UndefinedError` for fewer than two answers, or where nothing was observed or stated above 0;
    `UsageError` for a stated value that is no probability, an observed one that is no weight, or `bins` below 1.
    """
    for answer, value in stated.items():
        if not is_weight(value) or value > 1:
            raise UsageError(f"the stated probability of {answer!r} must lie between 0 and 1, not {value!r}")
    return _compared(stated, shares(observed), bins)


def against_logprobs(stated: Sequence[float], logprobs: Sequence[float], *, bins: int = 10) -> Calibration:
    """Stated probabilities of candidates against the model's own log-probabilities of their texts.

    `stated[i]` and `logprobs[i]`, a natural logarithm (the sum over the tokens), belong to candidate i. Both are
    normalised over the candidates, the latter by softmax, so this tells whether the candidates are weighed
    rightly among each other and nothing of what was left out. The figures are those of `against`.

    Raises `UndefinedError` for fewer than two candidates, or where one side has no weight at all; `UsageError` for
    sides of different lengths, a stated value that is not a weight and a log-probability above 0 or NaN.
    """
    if len(stated) != len(logprobs):
        raise UsageError(
            f"{len(stated)} stated probabilities and {len(logprobs)} log-probabilities do not pair up"
        )
    logs = np.asarray(logprobs, dtype=np.float64)
    # Sums of tokens' log-probabilities may stand above 0 by rounding.
    if not (logs <= 1e-6).all():
        raise UsageError("a log-probability must be a number of at most 0: leave out candidates without one")
    if logs.size and logs.max() == -math.inf:
        raise UndefinedError(
            "the model gives every candidate a probability of 0: there is nothing to compare with"
        )
    weights = shares({f"candidate {at}": value for at, value in enumerate(stated, 1)})
    return _compared(weights, dict(zip(weights, special.softmax(logs).tolist(), strict=True)), bins)


def reliability(stated: Sequence[float], observed: Sequence[float], *, bins: int = 10) -> tuple[Bin, ...]:
    """The reliability curve of answers stated at `stated[i]` and observed at `observed[i]`, of one prompt or many.

    The bins hold about equally many answers each, equal stated values always in the same one, because stated
    probabilities crowd near 0, where bins of equal width would be one bin (adaptive binning of Nguyen and O'Connor
    2015, arXiv 1508.05154). No more answers than `bins` make a bin of each different value.

    Raises `UsageError` for sides of different lengths, what is no probability or `bins` below 1, `UndefinedError`
    where there is no answer.
    """
    if bins < 1:
        raise UsageError(f"a reliability curve needs at least one bin, not {bins}")
    if len(stated) != len(observed):
        raise UsageError(f"{len(stated)} stated and {len(observed)} observed probabilities do not pair up")
    if not len(stated):
        raise UndefinedError("there is no answer to draw a reliability curve of")
    said, seen = np.asarray(stated, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if not all(((side >= 0) & (side <= 1 + 1e-9)).all() for side in (said, seen)):
        raise UsageError("a reliability curve is made of numbers between 0 and 1: leave out what is missing")
    # An answer's bin follows from the rank of the first answer with the same value, so equal ones stay together.
    places = np.searchsorted(np.sort(said), said, side="left") * bins // len(said)
    curve = []
    for place in np.unique(places):
        x, y = said[places == place], seen[places == place]
        curve.append(Bin(float(x.min()), float(x.max()), float(x.mean()), float(y.mean()), len(x)))
    return tuple(curve)


def _compared(stated: Mapping[str, float], observed: Mapping[str, float], bins: int) -> Calibration:
    union = {**stated, **observed}
    if len(union) < 2:
        raise UndefinedError("calibration needs at least two answers")
    said = [stated.get(answer, 0.0) for answer in union]
    seen = [observed.get(answer, 0.0) for answer in union]
    curve = reliability(said, seen, bins=bins)
    error = math.fsum(entry.count * abs(entry.stated - entry.observed) for entry in curve) / len(union)
    return Calibration(tv(stated, observed), error, _rank_correlation(said, seen), curve, len(union))


def _rank_correlation(stated: Sequence[float], observed: Sequence[float]) -> float | None:
    if len(set(stated)) < 2 or len(set(observed)) < 2:
        return None
    return float(stats.spearmanr(stated, observed).statistic)


@dataclass(frozen=True, slots=True)
class GroupCalibration:
    """The calibration of the group at `group` against `source`: the answers of the "direct" group of the same
    model, or the "reference". Figures are means over prompts, `bins` the reliability curve of all answers;
    `undefined` counts the prompts that cannot be calibrated: those with one answer in all, and those where nothing
    that was stated was ever observed."""

    group: int
    source: str
    total_variation: Estimate
    ece: Estimate
    rank_correlation: Estimate | None
    bins: tuple[Bin, ...]
    undefined: int = 0

    def to_dict(self) -> dict[str, Any]:
        rank = self.rank_correlation
        return {
            "group": self.group,
            "against": self.source,
            "total_variation": self.total_variation.to_dict(),
            "ece": self.ece.to_dict(),
            "rank_correlation": None if rank is None else rank.to_dict(),
            "bins": [asdict(entry) for entry in self.bins],
            "undefined": self.undefined,
        }


def calibrate(
    groups: Sequence[Group],
    answers: Callable[[PromptGroup], Answers] | None = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[GroupCalibration, ...]:
    """Every group with stated probabilities, against whatever there is to hold them against."""
    known = answers or (lambda asked: Answers.free())
    found = []
    for at, group in enumerate(groups):
        for source, observed in _sources(group, groups, known):
            made = _calibrated(at, source, group, observed, known, seed, resamples)
            if made is not None:
                found.append(made)
    return tuple(found)


def stated_of(responses: Sequence[Response], label: Callable[[str], str]) -> dict[str, float]:
    """The probability stated for each answer: the mean over the calls that stated any, where an answer that a call
    did not name counts 0 in it."""
    calls: dict[int | None, dict[str, float]] = {}
    for response in responses:
        if response.stated is not None:
            call = calls.setdefault(response.call, {})
            answer = label(response.text)
            call[answer] = call.get(answer, 0.0) + response.stated
    total: dict[str, float] = {}
    for call in calls.values():
        for answer, value in call.items():
            # What a call states beyond 1 for one answer is no probability.
            total[answer] = total.get(answer, 0.0) + min(value, 1.0) / len(calls)
    return total


_Observed = Callable[[PromptGroup], Mapping[str, float] | None]


def _sources(
    group: Group, groups: Sequence[Group], known: Callable[[PromptGroup], Answers]
) -> Iterator[tuple[str, _Observed]]:
    direct = next((other for other in groups if other.method == "direct" and other.model == group.model), None)
    if direct is not None and direct is not group:
        frequencies = {
            asked.prompt_id: answer_weights(asked.responses, known(asked).label)
            for asked in direct.prompts
            if asked.responses
        }
        yield "direct", lambda asked: frequencies.get(asked.prompt_id)
    yield "reference", lambda asked: known(asked).reference


def _calibrated(
    at: int,
    source: str,
    group: Group,
    observed: _Observed,
    known: Callable[[PromptGroup], Answers],
    seed: int,
    resamples: int,
) -> GroupCalibration | None:
    made: list[Calibration] = []
    pairs: list[tuple[float, float]] = []
    undefined = 0
    for asked in group.prompts:
        seen = observed(asked)
        stated = stated_of(asked.responses, known(asked).label)
        if not seen or not stated:
            continue
        # Texts of which none comes twice are no answers that a frequency could be known of.
        if not stated.keys() & seen.keys():
            undefined += 1
            continue
        try:
            made.append(against(stated, seen))
        except UndefinedError:
            undefined += 1
            continue
        pairs += [(stated.get(answer, 0.0), seen.get(answer, 0.0)) for answer in {**stated, **seen}]
    if not made:
        return None

    def mean(values: list[float]) -> Estimate:
        return mean_estimate(values, seed=seed, resamples=resamples)

    ranks = [found.rank_correlation for found in made if found.rank_correlation is not None]
    said, observed_shares = zip(*pairs, strict=True)
    return GroupCalibration(
        at,
        source,
        mean([found.total_variation for found in made]),
        mean([found.ece for found in made]),
        mean(ranks) if ranks else None,
        reliability(said, observed_shares),
        undefined,
    )
