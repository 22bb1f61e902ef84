"""The effect of alignment on a distribution: the power of the probabilities, and the variety that remains.

A reward with typicality bias, r + alpha log pi_ref, and a KL penalty beta have the optimum
pi* = pi_ref^gamma exp(r / beta) / Z with gamma = 1 + alpha / beta: Verbalized Sampling (arXiv 2510.01171),
equations 1 to 3. Answers are a mapping {answer: weight}, a `Distribution`, or rows of weights (numpy, answers on
the last axis); weights are divided by their sum. The result has the form of the argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outspoken.candidate import Candidate
from outspoken.distribution import Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure import sets
from outspoken.measure.divergence import shares
from outspoken.report.format import number, percent

__all__ = [
    "Sharpened",
    "SharpenedVariety",
    "aligned_optimum",
    "apply_reward",
    "draws_to_new",
    "effective_size",
    "entropy",
    "expected_distinct",
    "gamma_of",
    "log_weights",
    "objective",
    "rewards_of",
    "sharpen",
    "variety_curve",
]

Floats = NDArray[np.float64]
Answers = Mapping[str, float] | Distribution | Floats
Same = TypeVar("Same", Mapping[str, float], Distribution, Floats)


def gamma_of(alpha: float, beta: float) -> float:
    """gamma = 1 + alpha / beta, the power that alignment raises the base distribution to.

    alpha is the typicality bias of the reward (per nat), beta > 0 the KL coefficient. A gamma of 1 (alpha = 0)
    changes nothing, above 1 it sharpens. With a negative alpha the unusual is preferred: a gamma between 0 and 1
    flattens, 0 (alpha = -beta) makes all answers equally likely, below 0 the rarest become the likeliest.

    Raises `UsageError` if alpha or gamma is not finite, or beta is not above 0.
    """
    _positive("beta", beta)
    if not math.isfinite(alpha):
        raise UsageError(f"alpha must be a finite number, not {alpha:g}")
    gamma = 1 + alpha / beta
    if not math.isfinite(gamma):
        raise UsageError(f"alpha {alpha:g} over beta {beta:g} is not a finite number: give a larger beta")
    return gamma


def sharpen(p: Same, gamma: float) -> Same:
    """p^gamma / sum p^gamma. A weight of 0 stays 0 for every gamma; gamma = 0 is uniform over the others.

    A `Distribution` keeps its provenance and all its other fields (for gamma > 0 it is `tempered(1 / gamma)`).
    """
    if isinstance(p, Distribution) and 0 < gamma < math.inf:
        return p.tempered(1 / gamma)
    return _like(p, log_weights(_rows(p), gamma))


def apply_reward(p: Same, reward: Mapping[str, float] | ArrayLike, beta: float) -> Same:
    """p exp(reward / beta) / Z: the optimum for a reward without typicality bias.

    `reward` has one finite number for each answer of `p`, by its text or in the order of a row.
    """
    return aligned_optimum(p, reward, 0.0, beta)


def aligned_optimum(p: Same, reward: Mapping[str, float] | ArrayLike | None, alpha: float, beta: float) -> Same:
    """pi* = p^gamma exp(reward / beta) / Z, gamma = 1 + alpha / beta: the maximum of `objective`, in closed form.

    Source: arXiv 2510.01171, equation 3. `reward` as in `apply_reward`; None is a constant one.
    """
    rewards = None if reward is None else rewards_of(p, reward)
    return _like(p, log_weights(_rows(p), gamma_of(alpha, beta), rewards, beta))


def log_weights(rows: Floats, gamma: float, reward: Floats | None = None, beta: float = 1.0) -> Floats:
    """gamma ln p + reward / beta of rows of shares, not normalised; -inf where p is 0. Powers do not overflow."""
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
    """E_pi[r + alpha ln p] - beta KL(pi || p), in the unit of the reward: the aim of alignment.

    Source: arXiv 2510.01171, equations 1 and 2. Both are mappings, or rows in the same order. The result is -inf
    if `pi` gives weight to an answer that has none in `p`.
    """
    if isinstance(pi, Mapping) and isinstance(p, Mapping):
        if any(weight > 0 and not p.get(answer, 0) > 0 for answer, weight in pi.items()):
            return -math.inf
        pi = np.array([pi.get(answer, 0.0) for answer in p])
    chosen, base = _row(pi), _row(p)
    rewards = np.zeros_like(base) if reward is None else rewards_of(p, reward)
    possible = chosen > 0
    if (base[possible] == 0).any():
        return -math.inf
    logs, chosen = np.log(base[possible]), chosen[possible]
    return float(chosen @ (rewards[possible] + alpha * logs - beta * (np.log(chosen) - logs)))


def entropy(p: Answers) -> float:
    """-sum p ln p, in nats."""
    return sets.entropy(_row(p))


def effective_size(p: Answers) -> float:
    """exp of the entropy: the number of equally likely answers with the same entropy."""
    return sets.effective_size(_row(p))


def expected_distinct(p: Answers, n: int) -> float:
    """sum 1 - (1 - p)^n: the expected number of different answers among n independent draws."""
    if n < 0:
        raise UsageError(f"the number of draws must be at least 0, not {n}")
    row = _row(p)
    with np.errstate(divide="ignore"):
        return float(-np.expm1(n * np.log1p(-row)).sum()) if n else 0.0


def draws_to_new(p: Answers) -> float:
    """sum p / (1 - p): the expected number of further draws until one differs from the first.

    After a first answer i it is 1 / (1 - p_i). Infinite if one answer has all the weight.
    """
    row = np.sort(_row(p))
    # For the likeliest answer, 1 - p is computed as the sum of the others: the difference would lose digits.
    rest = 1 - row
    rest[-1] = row[:-1].sum()
    return math.inf if rest[-1] == 0 else float((row / rest).sum())


@dataclass(frozen=True, slots=True)
class SharpenedVariety:
    """The variety of a distribution after sharpening by `gamma` (1: unchanged). Entropy is in nats; `distinct_10`
    and `distinct_100` are the expected numbers of different answers in 10 and in 100 draws."""

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
        distinct = (expected_distinct(row, 10), expected_distinct(row, 100))
        return cls(gamma, entropy(row), effective_size(row), draws_to_new(row), *distinct)

    def to_dict(self) -> dict[str, float | None]:
        """The figures without gamma, JSON-ready: None for an infinite number of draws."""
        figures = {name: value for name, value in asdict(self).items() if name != "gamma"}
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def variety_curve(p: Answers, gammas: Iterable[float]) -> tuple[SharpenedVariety, ...]:
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
        raise UsageError(f"one row of weights is needed, not an array of shape {row.shape}")
    return row


def rewards_of(p: Answers, reward: Mapping[str, float] | ArrayLike) -> Floats:
    """The rewards of the answers of `p`, in its order. Raises `UsageError` if one is missing or not finite."""
    if isinstance(reward, Mapping):
        names = list(p) if isinstance(p, Mapping) else list(p.texts) if isinstance(p, Distribution) else []
        if missing := [name for name in names if name not in reward]:
            raise UsageError(f"there is no reward for {missing[0]!r}: give one for each answer")
        reward = [reward[name] for name in names]
    rewards, answers = np.asarray(reward, dtype=np.float64), _rows(p).shape[-1:]
    if rewards.shape[-1:] != answers:
        raise UsageError(f"{rewards.size} rewards for {answers[0]} answers: give one for each, by its text")
    if not np.isfinite(rewards).all():
        raise UsageError("a reward must be a finite number")
    return rewards


def _like(p: Same, logs: Floats) -> Same:
    """The distribution of these log-weights, in the form of `p`."""
    weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    if isinstance(p, Distribution):
        pairs = zip(p.candidates, weights.tolist(), strict=True)
        return replace(p, candidates=tuple(replace(c, probability=weight) for c, weight in pairs))
    return cast(Same, dict(zip(p, weights.tolist(), strict=True)) if isinstance(p, Mapping) else weights)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be a finite number above 0, not {value:g}")


@dataclass(frozen=True, slots=True)
class Sharpened:
    """A distribution before and after alignment. `alpha` and `beta` are None if gamma was given directly."""

    before: Distribution
    gamma: float
    alpha: float | None = None
    beta: float | None = None

    @classmethod
    def of(
        cls,
        p: Mapping[str, float] | Distribution,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        gamma: float | None = None,
    ) -> Sharpened:
        """Sharpen `p`, the weights of answers, by alpha and beta or by gamma.

        Raises `UsageError` for both or neither, `UndefinedError` if fewer than two answers have a weight.
        """
        if (gamma is None) == (alpha is None and beta is None):
            raise UsageError("give alpha and beta, or gamma instead of both")
        if gamma is None:
            if alpha is None or beta is None:
                raise UsageError(f"{'alpha' if alpha is None else 'beta'} is missing: gamma = 1 + alpha / beta")
            gamma = gamma_of(alpha, beta)
        if isinstance(p, Mapping):
            p = Distribution(tuple(Candidate(answer, share) for answer, share in shares(p).items()))
        if sum(share > 0 for share in p.probabilities) < 2:
            raise UndefinedError("one answer has all the weight, so nothing can be sharpened: give at least two")
        return cls(p, gamma, alpha, beta)

    @property
    def after(self) -> Distribution:
        """The distribution after alignment."""
        return sharpen(self.before, self.gamma)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The effect on the distribution, for readers who do not know the paper."""
        first, last = SharpenedVariety.of(self.before), SharpenedVariety.of(self.before, self.gamma)
        top, share = self.before.argmax(), sharpen(np.array(self.before.probabilities), self.gamma)[0]
        source = "" if self.alpha is None else f" (1 + {self.alpha:g} / {self.beta:g})"
        later, before = (
            "never comes" if math.isinf(draws) else f"takes {number(draws)} more draws on average"
            for draws in (last.draws_to_new, first.draws_to_new)
        )
        return (
            f"Alignment raises every probability to the power {self.gamma:.3g}{source}: “{top.text}” goes from "
            f"{percent(top.probability)} to {percent(float(share))} of the answers.",
            f"The effective size goes from {number(first.effective_size)} to {number(last.effective_size)} "
            "answers.",
            f"After a first draw, a different answer {later}; before alignment it {before}.",
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """A note on a gamma below 1, which is unusual."""
        if self.gamma >= 1:
            return ()
        if self.gamma > 0:
            return (f"gamma is {self.gamma:.3g}, below 1: this flattens the distribution",)
        if self.gamma == 0:
            return ("gamma is 0: all answers that have a weight become equally likely",)
        return (f"gamma is {self.gamma:.3g}, below 0: this makes the rarest answers the likeliest",)

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "sharpen"."""
        row = np.array(self.before.probabilities)
        pairs = zip(self.before, row.tolist(), sharpen(row, self.gamma).tolist(), strict=True)
        return {
            "kind": "sharpen",
            "warnings": list(self.warnings),
            "alpha": self.alpha,
            "beta": self.beta,
            "gamma": self.gamma,
            "before": SharpenedVariety.of(row).to_dict(),
            "after": SharpenedVariety.of(row, self.gamma).to_dict(),
            "distribution": self.after.to_dict(),
            "answers": [{"text": c.text, "before": before, "after": after} for c, before, after in pairs],
            "curve": [
                {"gamma": variety.gamma, **variety.to_dict()} for variety in variety_curve(row, _grid(self.gamma))
            ],
            "sentences": list(self.sentences),
        }


def _grid(gamma: float) -> list[float]:
    """Powers for a chart, closer together where the figures change more; they include 0, 1 and gamma."""
    below, above = np.linspace(min(0.0, 1.5 * gamma), 2, 21), np.geomspace(2, max(10, 2 * gamma), 41)
    around = np.round(np.concatenate([below, above]), 4)
    return sorted({*around.tolist(), 0.0, 1.0, gamma})
