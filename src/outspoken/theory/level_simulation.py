"""Three ways of asking a collapsed model, simulated: for one answer, for a list, and for a distribution.

The base pi_ref is known; the aligned model is pi* = pi_ref^gamma exp(r / beta) / Z. Source: Verbalized Sampling
(arXiv 2510.01171), section 2 and appendix E.4, which treats the limit of a model that is all mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import kl_div, softmax

from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.divergence import shares
from outspoken.measure.statistics import Estimate, plugin_estimate
from outspoken.theory.sharpening import log_weights

__all__ = ["DRAWS", "LEVELS", "AskingLevel", "Levels", "simulate_levels"]

Floats = NDArray[np.float64]

LEVELS = ("instance", "list", "distribution")
DRAWS = 100
_RESAMPLES = 2_000
_ROUNDING = 1e-9
_MOST_ERROR = 100
_MOST = 20_000_000  # replies x answers that are held at once: 160 MB a level


@dataclass(frozen=True, slots=True)
class AskingLevel:
    """One level of asking. `tv` is the total variation between its answers and the base, `kl` is
    KL(its answers || base) in nats, `distinct` how many different answers `DRAWS` draws hold on average;
    `shares` are the answers' shares, in the order of the base."""

    level: str
    tv: Estimate
    kl: Estimate
    distinct: Estimate
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Levels:
    """What each level of asking gives. `floor` is the total variation that as many single draws from the base
    itself show by chance, on average."""

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
        """What was found, for one who has not read the paper."""
        top = max(self.base, key=lambda answer: self.base[answer])
        at = list(self.base).index(top)
        one, listed, stated = (f"{arm.shares[at]:.1%}" for arm in self.arms)
        asked = dict(
            zip(
                LEVELS,
                (
                    "asked for one answer",
                    f"asked for a list of {self.k} and one picked from it",
                    f"asked for {self.k} answers with their probabilities and one drawn by these",
                ),
                strict=True,
            )
        )
        nearest = min(self.arms, key=lambda arm: arm.tv.value).level
        apart = ", ".join(f"{arm.level} {arm.tv.value:.2f}" for arm in self.arms)
        said = (
            f"A model sharpened by gamma = {self.gamma:.3g} answers “{top}”, {self.base[top]:.1%} of the base, in "
            f"{one} when {asked['instance']}, in {listed} when {asked['list']}, in {stated} when "
            f"{asked['distribution']}.",
            f"Total variation from the base (0 is the same, 1 nothing in common): {apart}. It comes nearest when "
            f"{asked[nearest]}.",
            f"By chance alone, {self.replies:,} single draws from the base itself lie {self.floor:.2f} away.",
        )
        possible = sum(share > 0 for share in self.base.values())
        if nearest == "distribution" or self.k == possible:
            return said
        few = (
            f"With probabilities, the {self.k} answers named at a time share what belongs to {possible}, so the "
            "likely ones get too much: more answers a reply (a larger k) mend that."
        )
        return (*said, few)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"the total variation of {arm.level} is about what chance makes of {self.replies:,} replies: "
            "take more to tell it from 0"
            for arm in self.arms
            if _ROUNDING < arm.tv.value < 1.5 * self.floor
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "levels"."""
        columns = zip(self.base, self.base.values(), *(arm.shares for arm in self.arms), strict=True)
        return {
            "kind": "levels",
            "warnings": list(self.warnings),
            "gamma": self.gamma,
            "k": self.k,
            "replies": self.replies,
            "draws": DRAWS,
            "error": self.error,
            "floor": self.floor,
            "arms": [
                {"level": arm.level, **{name: getattr(arm, name).to_dict() for name in ("tv", "kl", "distinct")}}
                for arm in self.arms
            ],
            "answers": [dict(zip(("text", "base", *LEVELS), column, strict=True)) for column in columns],
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
    """Ask pi* = p^gamma exp(reward / beta) / Z `replies` times at each level; `reward` None is a flat one.

    instance: one draw from pi*. list: k different answers, drawn one after the other from pi* without those before
    (successive sampling, by the Gumbel top-k of Vieira 2014), and one of them picked uniformly. distribution: k
    different answers drawn so, with the probability p exp(error z) stated for each, z standard normal; divided by
    their sum, one is drawn by them. A reply counts with the distribution that one draws from, as responses with
    weights do in `outspoken.measure`, so the last step of a list or a distribution adds no noise.

    Intervals resample replies; simulated, that of the total variation covers 91 to 94 % from 300 replies on.
    Raises `UsageError` for a k, replies, error or reward that cannot be, `UndefinedError` where fewer than two
    answers have a weight.
    """
    if isinstance(p, Distribution):
        p = {candidate.text: candidate.probability for candidate in p.dedupe()}
    base = dict(sorted(shares(p).items(), key=lambda item: -item[1]))
    row = np.array(list(base.values()))
    _check(row, k, replies, error)
    rewards = None if reward is None else np.array([_reward(reward, answer) for answer in base])
    logs = log_weights(row, gamma, rewards, beta)
    arms = []
    for at, level in enumerate(LEVELS):
        random = np.random.default_rng((seed, at))
        named = _named(logs, 1 if level == "instance" else k, replies, random)
        stated = np.zeros(named.shape)
        if level == "distribution":
            stated = np.log(row[named]) + error * random.standard_normal(named.shape)
        drawn = np.zeros((replies, len(row)))
        np.put_along_axis(drawn, named, softmax(stated, axis=1), axis=1)
        arms.append(_arm(level, drawn, row, seed))
    singles = np.random.default_rng((seed, len(LEVELS))).multinomial(replies, row, size=200) / replies
    floor = float(np.abs(singles - row).sum(axis=1).mean()) / 2
    return Levels(base, gamma, k, replies, error, seed, tuple(arms), floor)


def _named(logs: Floats, k: int, replies: int, random: np.random.Generator) -> NDArray[np.intp]:
    """The k different answers of each reply, (replies, k): the largest of log-weight plus Gumbel noise."""
    keys = logs + random.gumbel(size=(replies, len(logs)))
    return np.argpartition(-keys, k - 1, axis=1)[:, :k]


def _arm(level: str, drawn: Floats, row: Floats, seed: int) -> AskingLevel:
    def estimate(statistic: Any) -> Estimate:
        def resampled(counts: NDArray[np.int32]) -> Floats:
            return np.asarray(statistic(counts.astype(np.float64) @ drawn / len(drawn)))

        found = plugin_estimate(resampled, len(drawn), resamples=_RESAMPLES, seed=seed, unit="reply")
        return replace(found, note="")  # `Levels.warnings` says it of all levels together

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
        raise UndefinedError("one answer has all the weight, so all levels give it: give at least two")
    if not 1 <= k <= possible:
        raise UsageError(f"k is {k}: from 1 to {possible} different answers can be named")
    if not 2 <= replies <= _MOST // len(row):
        raise UsageError(
            f"replies is {replies:,}: with {len(row):,} answers from 2 to {_MOST // len(row):,} can be"
        )
    if not 0 <= error <= _MOST_ERROR:
        raise UsageError(f"the error of stated probabilities must be from 0 to {_MOST_ERROR}, not {error:g}")


def _reward(reward: Mapping[str, float], answer: str) -> float:
    if answer not in reward:
        raise UsageError(f"there is no reward for {answer!r}: give one for each answer")
    return float(reward[answer])
