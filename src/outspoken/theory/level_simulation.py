"""Simulation of three ways to ask a collapsed model: for one answer, for a list, and for a distribution.

The base pi_ref is known; the aligned model is pi* = pi_ref^gamma exp(r / beta) / Z. Source: Verbalized Sampling
(arXiv 2510.01171), section 2 and appendix E.4, which treats the limit of a model that only answers its mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import kl_div, softmax

from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.divergence import shares
from outspoken.measure.estimates import Estimate
from outspoken.measure.statistics import plugin_estimate
from outspoken.report.format import number, percent
from outspoken.theory.sharpening import log_weights, rewards_of

__all__ = ["DRAWS", "LEVELS", "AskingLevel", "Levels", "simulate_levels"]

Floats = NDArray[np.float64]

Level = Literal["instance", "list", "distribution"]
LEVELS: tuple[Level, ...] = ("instance", "list", "distribution")
DRAWS = 100
_RESAMPLES = 2_000
_ROUNDING = 1e-9
_MOST_ERROR = 100
_MOST = 20_000_000  # replies x answers held in memory at once: 160 MB a level


@dataclass(frozen=True, slots=True)
class AskingLevel:
    """One level of asking. `tv` is the total variation between its answers and the base, `kl` is
    KL(its answers || base) in nats, `distinct` the expected number of different answers in `DRAWS` draws;
    `shares` are the answers' shares, in the order of the base."""

    level: Level
    tv: Estimate
    kl: Estimate
    distinct: Estimate
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Levels:
    """The results of all levels. `floor` is the mean total variation of as many single draws from the base itself,
    which is due to chance."""

    base: Mapping[str, float]
    gamma: float
    k: int
    replies: int
    error: float
    seed: int
    arms: tuple[AskingLevel, ...]
    floor: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """The result, for readers who do not know the paper."""
        top = max(self.base, key=lambda answer: self.base[answer])
        at = list(self.base).index(top)
        one, listed, stated = (percent(arm.shares[at]) for arm in self.arms)
        wordings = {
            "instance": "asked for one answer",
            "list": f"asked for a list of {self.k} and one is picked from it",
            "distribution": f"asked for {self.k} answers with their probabilities and one is drawn by these",
        }
        nearest = min(self.arms, key=lambda arm: arm.tv.value).level
        distances = ", ".join(f"{arm.level} {number(round(arm.tv.value, 6))}" for arm in self.arms)
        sentences = (
            f"A model sharpened by gamma = {self.gamma:.3g} answers “{top}”, {percent(self.base[top])} of the "
            f"base, in {one} when {wordings['instance']}, in {listed} when {wordings['list']}, in {stated} when "
            f"{wordings['distribution']}.",
            f"Total variation from the base (0 is the same, 1 nothing in common): {distances}. It is smallest "
            f"when {wordings[nearest]}.",
            f"By chance alone, the distance of {self.replies:,} single draws from the base itself is "
            f"{number(self.floor)}.",
        )
        possible = sum(share > 0 for share in self.base.values())
        if nearest == "distribution" or self.k == possible:
            return sentences
        few = (
            f"With probabilities, the {self.k} answers of a reply share the probability of all {possible}, so the "
            "likely ones get too much: more answers per reply (a larger k) correct that."
        )
        return (*sentences, few)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The levels whose distance cannot be distinguished from chance."""
        return tuple(
            f"with {self.replies:,} replies, the total variation of {arm.level} is about as large as by chance: "
            "simulate more replies to distinguish it from 0"
            for arm in self.arms
            if _ROUNDING < arm.tv.value < 1.5 * self.floor
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "levels"."""
        columns: dict[str, Iterable[object]] = {"text": self.base, "base": self.base.values()}
        columns |= {arm.level: arm.shares for arm in self.arms}
        estimates = ("tv", "kl", "distinct")
        return {
            "kind": "levels",
            "warnings": list(self.warnings),
            **{name: getattr(self, name) for name in ("gamma", "k", "replies", "error", "floor")},
            "draws": DRAWS,
            "arms": [
                {"level": arm.level, **{name: getattr(arm, name).to_dict() for name in estimates}}
                for arm in self.arms
            ],
            "answers": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
            "sentences": list(self.sentences),
        }


def simulate_levels(
    p: Mapping[str, float] | Distribution,
    *,
    gamma: float,
    k: int = 5,
    replies: int = 1000,
    error: float = 0.0,
    reward: Mapping[str, float] | None = None,
    beta: float = 1.0,
    seed: int = 0,
) -> Levels:
    """Ask pi* = p^gamma exp(reward / beta) / Z `replies` times at each level; `reward` None is a constant one.

    instance: one draw from pi*. list: k different answers, drawn from pi* without replacement (successive
    sampling, by the Gumbel top-k of Vieira 2014), and one of them picked uniformly. distribution: k different
    answers drawn in the same way, with the stated probability p exp(error z) for each, z standard normal; the
    stated ones are divided by their sum, and one answer is drawn by them. A reply counts with its distribution, as
    responses with weights do in `outspoken.measure`, so the last step of a list or a distribution adds no noise.

    Intervals resample replies; in simulations that of the total variation covers 91 to 94 % from 300 replies on.
    Raises `UsageError` for an invalid k, replies, error or reward, `UndefinedError` if fewer than two answers have
    a weight.
    """
    if isinstance(p, Distribution):
        p = {candidate.text: candidate.probability for candidate in p.dedupe()}
    base = dict(sorted(shares(p).items(), key=lambda item: -item[1]))
    row = np.array(list(base.values()))
    _check(row, k, replies, error)
    rewards = None if reward is None else rewards_of(base, reward)
    logs = log_weights(row, gamma, rewards, beta)
    arms = []
    for at, level in enumerate(LEVELS):
        random = np.random.default_rng((seed, at))
        chosen = _draw_distinct(logs, 1 if level == "instance" else k, replies, random)
        stated = np.zeros(chosen.shape)
        if level == "distribution":
            stated = np.log(row[chosen]) + error * random.standard_normal(chosen.shape)
        drawn = np.zeros((replies, len(row)))
        np.put_along_axis(drawn, chosen, softmax(stated, axis=1), axis=1)
        arms.append(_arm(level, drawn, row, seed))
    singles = np.random.default_rng((seed, len(LEVELS))).multinomial(replies, row, size=200) / replies
    floor = float(np.abs(singles - row).sum(axis=1).mean()) / 2
    return Levels(base, gamma, k, replies, error, seed, tuple(arms), floor)


def _draw_distinct(logs: Floats, k: int, replies: int, random: np.random.Generator) -> NDArray[np.intp]:
    """The k different answers of each reply, (replies, k): the largest of log-weight plus Gumbel noise."""
    keys = logs + random.gumbel(size=(replies, len(logs)))
    return np.argpartition(-keys, k - 1, axis=1)[:, :k]


def _arm(level: Level, drawn: Floats, row: Floats, seed: int) -> AskingLevel:
    def estimate(statistic: Callable[[Floats], Floats]) -> Estimate:
        def resampled(counts: NDArray[np.int32]) -> Floats:
            return np.asarray(statistic(counts.astype(np.float64) @ drawn / len(drawn)))

        result = plugin_estimate(resampled, len(drawn), resamples=_RESAMPLES, seed=seed, unit="reply")
        return replace(result, note="")  # `Levels.warnings` covers all levels together

    return AskingLevel(
        level,
        tv=estimate(lambda pooled: np.abs(pooled - row).sum(axis=1) / 2),
        kl=estimate(lambda pooled: kl_div(pooled, row).sum(axis=1)),
        distinct=estimate(lambda pooled: (1 - (1 - np.minimum(pooled, 1)) ** DRAWS).sum(axis=1)),
        shares=tuple(drawn.mean(axis=0).tolist()),
    )


def _check(row: Floats, k: int, replies: int, error: float) -> None:
    possible = int((row > 0).sum())
    if possible < 2:
        raise UndefinedError("one answer has all the weight, so all levels give it: give at least two answers")
    if not 1 <= k <= possible:
        raise UsageError(f"k is {k}: it must be from 1 to {possible}, the number of different answers")
    if not 2 <= replies <= _MOST // len(row):
        raise UsageError(
            f"replies is {replies:,}: with {len(row):,} answers it must be from 2 to {_MOST // len(row):,}"
        )
    if not 0 <= error <= _MOST_ERROR:
        raise UsageError(f"the error of stated probabilities must be from 0 to {_MOST_ERROR}, not {error:g}")
