"""What alignment does to a distribution: the power that it raises it to, and what is left of its variety.

A reward with typicality bias, r + alpha log pi_ref, and a KL penalty beta have the optimum
pi* = pi_ref^gamma exp(r / beta) / Z with gamma = 1 + alpha / beta: Verbalized Sampling (arXiv 2510.01171),
equations 1 to 3. Answers are a mapping {answer: weight}, a `Distribution`, or rows of weights (numpy, answers on
the last axis); weights are divided by their sum. What comes back has the form of what was given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure import sets
from outspoken.measure.divergence import shares

__all__ = [
    "SharpenedVariety",
    "aligned_optimum",
    "apply_reward",
    "curve",
    "draws_to_new",
    "effective_size",
    "entropy",
    "expected_distinct",
    "gamma_of",
    "log_weights",
    "objective",
    "sharpen",
]

Floats = NDArray[np.float64]
Answers = Mapping[str, float] | Distribution | Floats
Same = TypeVar("Same", Mapping[str, float], Distribution, Floats)


def gamma_of(alpha: float, beta: float) -> float:
    """gamma = 1 + alpha / beta, the power that alignment raises the base distribution to.

    alpha is the typicality bias of the reward (per nat), beta > 0 the KL coefficient. 1 leaves a distribution as
    it is (alpha = 0), above 1 sharpens it. A negative alpha is a taste for the unusual: between 0 and 1 flattens,
    0 (alpha = -beta) makes all answers equal, below 0 puts the rarest first. Raises `UsageError`.
    """
    _positive("beta", beta)
    if not math.isfinite(alpha):
        raise UsageError(f"alpha must be a finite number, not {alpha:g}")
    gamma = 1 + alpha / beta
    if not math.isfinite(gamma):
        raise UsageError(f"alpha {alpha:g} over beta {beta:g} is no finite number: give a larger beta")
    return gamma


def sharpen(p: Same, gamma: float) -> Same:
    """p^gamma / sum p^gamma. What has weight 0 keeps 0 for every gamma; gamma = 0 is uniform over the others.

    A `Distribution` keeps its provenance and all else (for gamma > 0 it is `tempered(1 / gamma)`).
    """
    if isinstance(p, Distribution) and 0 < gamma < math.inf:
        return p.tempered(1 / gamma)
    return _like(p, log_weights(_rows(p), gamma))


def apply_reward(p: Same, reward: Mapping[str, float] | ArrayLike, beta: float) -> Same:
    """p exp(reward / beta) / Z: the optimum for a reward without typicality bias.

    `reward` has one finite number for each answer of `p`: by its text, or in the order of a row.
    """
    return aligned_optimum(p, reward, 0.0, beta)


def aligned_optimum(p: Same, reward: Mapping[str, float] | ArrayLike | None, alpha: float, beta: float) -> Same:
    """pi* = p^gamma exp(reward / beta) / Z, gamma = 1 + alpha / beta: what maximises `objective`, in closed form.

    Source: arXiv 2510.01171, equation 3. `reward` as in `apply_reward`; None is a flat one.
    """
    rewards = None if reward is None else _rewards(p, reward)
    return _like(p, log_weights(_rows(p), gamma_of(alpha, beta), rewards, beta))


def log_weights(rows: Floats, gamma: float, reward: Floats | None = None, beta: float = 1.0) -> Floats:
    """gamma ln p + reward / beta of rows of shares, not normalised; -inf where p is 0. No power overflows here."""
    if not math.isfinite(gamma):
        raise UsageError(f"gamma must be a finite number, not {gamma:g}")
    _positive("beta", beta)
    with np.errstate(over="ignore", invalid="ignore"):
        logs = np.where(rows > 0, gamma * np.log(np.where(rows > 0, rows, 1.0)), -np.inf)
        logs = logs if reward is None else logs + reward / beta
    if not np.isfinite(logs.max(axis=-1)).all():
        raise UsageError(f"gamma {gamma:g} or a reward over beta {beta:g} is too large to compute with: lower it")
    return logs


def objective(
    pi: Answers, p: Answers, reward: Mapping[str, float] | ArrayLike | None, alpha: float, beta: float
) -> float:
    """E_pi[r + alpha ln p] - beta KL(pi || p), in the unit of the reward: what alignment maximises.

    Source: arXiv 2510.01171, equations 1 and 2. Both are mappings, or rows in the same order. -inf where `pi`
    gives a weight to an answer that `p` gives none.
    """
    if isinstance(pi, Mapping) and isinstance(p, Mapping):
        if any(weight > 0 and not p.get(answer, 0) > 0 for answer, weight in pi.items()):
            return -math.inf
        pi = np.array([pi.get(answer, 0.0) for answer in p])
    chosen, base = _row(pi), _row(p)
    rewards = np.zeros_like(base) if reward is None else _rewards(p, reward)
    on = chosen > 0
    if (base[on] == 0).any():
        return -math.inf
    logs = np.log(base[on])
    return float(chosen[on] @ (rewards[on] + alpha * logs - beta * (np.log(chosen[on]) - logs)))


def entropy(p: Answers) -> float:
    """-sum p ln p, in nats."""
    return sets.entropy(_row(p))


def effective_size(p: Answers) -> float:
    """exp of the entropy: how many equally likely answers would be as various."""
    return sets.effective_size(_row(p))


def expected_distinct(p: Answers, n: int) -> float:
    """sum 1 - (1 - p)^n: how many different answers n independent draws hold on average."""
    if n < 0:
        raise UsageError(f"the number of draws must be at least 0, not {n}")
    row = _row(p)
    with np.errstate(divide="ignore"):
        return float(-np.expm1(n * np.log1p(-row)).sum()) if n else 0.0


def draws_to_new(p: Answers) -> float:
    """sum p / (1 - p): how many further draws it takes on average until one differs from the first draw, for
    1 / (1 - p_i) of them follow a first answer i. Infinite where one answer has all the weight."""
    row = np.sort(_row(p))
    # 1 - p of a likely answer is what the others have; a difference would lose it to rounding.
    rest = 1 - row
    rest[-1] = row[:-1].sum()
    return math.inf if rest[-1] == 0 else float((row / rest).sum())


@dataclass(frozen=True, slots=True)
class SharpenedVariety:
    """How various a distribution is after sharpening by `gamma` (1: as it is). Entropy is in nats; `distinct_10`
    and `distinct_100` are the different answers expected in so many draws."""

    gamma: float
    entropy: float
    effective_size: float
    draws_to_new: float
    distinct_10: float
    distinct_100: float

    @classmethod
    def of(cls, p: Answers, gamma: float = 1.0) -> SharpenedVariety:
        """The figures of p^gamma."""
        row = sharpen(_row(p), gamma)
        many = (expected_distinct(row, 10), expected_distinct(row, 100))
        return cls(gamma, entropy(row), effective_size(row), draws_to_new(row), *many)

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready: None for draws that never end."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def curve(p: Answers, gammas: Iterable[float]) -> tuple[SharpenedVariety, ...]:
    """The figures of p^gamma for each gamma."""
    row = _row(p)
    return tuple(SharpenedVariety.of(row, gamma) for gamma in gammas)


def _rows(p: Answers) -> Floats:
    """Shares: (answers,), or (..., answers) of an array."""
    if isinstance(p, Mapping):
        return np.array(list(shares(p).values()))
    rows = np.asarray(p.probabilities if isinstance(p, Distribution) else p, dtype=np.float64)
    if not rows.ndim or not (np.isfinite(rows) & (rows >= 0)).all():
        raise UsageError("a row of weights must hold finite numbers of at least 0")
    totals = rows.sum(axis=-1, keepdims=True)
    if not (totals > 0).all():
        raise UndefinedError("there is no answer with a weight above 0: nothing can be sharpened")
    return np.asarray(rows / totals)


def _row(p: Answers) -> Floats:
    row = _rows(p)
    if row.ndim != 1:
        raise UsageError(f"one row of weights is wanted, not an array of shape {row.shape}")
    return row


def _rewards(p: Answers, reward: Mapping[str, float] | ArrayLike) -> Floats:
    if isinstance(reward, Mapping):
        names = list(p) if isinstance(p, Mapping) else list(p.texts) if isinstance(p, Distribution) else []
        if lacking := [name for name in names if name not in reward]:
            raise UsageError(f"there is no reward for {lacking[0]!r}: give one for each answer")
        reward = [reward[name] for name in names]
    rewards = np.asarray(reward, dtype=np.float64)
    if rewards.shape[-1:] != _rows(p).shape[-1:]:
        raise UsageError(
            f"{rewards.size} rewards for {_rows(p).shape[-1]} answers: give one for each, by its text"
        )
    if not np.isfinite(rewards).all():
        raise UsageError("a reward must be a finite number")
    return rewards


def _like(p: Same, logs: Floats) -> Same:
    """The distribution of these log-weights, in the form of `p`."""
    weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    made: Any = weights
    if isinstance(p, Distribution):
        pairs = zip(p.candidates, weights.tolist(), strict=True)
        made = replace(p, candidates=tuple(replace(c, probability=weight) for c, weight in pairs))
    elif isinstance(p, Mapping):
        made = dict(zip(p, weights.tolist(), strict=True))
    return cast(Same, made)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be a finite number above 0, not {value:g}")
