"""The figures of a typicality estimate: an effect with its interval, also as an odds ratio and as a change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from outspoken.theory.documents import ControlEntry, EffectEntry, IntervalEntry
from outspoken.theory.logistic import Fit

__all__ = ["Control", "Effect", "Range", "change", "odds_ratio"]


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with its 95 % interval. A figure or an end is None if it does not exist or overflows."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> IntervalEntry:
        """A JSON-ready dictionary."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Effect:
    """A coefficient with its 95 % interval, its standard error and its two-sided p (null hypothesis: it is 0)."""

    value: float
    low: float | None
    high: float | None
    se: float | None
    p: float | None

    @classmethod
    def of(cls, fit: Fit, column: int = 0) -> Effect:
        """The effect of one column of a fit."""
        low, high = fit.interval(column) or (None, None)
        se = float(fit.se[column])
        return cls(float(fit.coef[column]), low, high, se if math.isfinite(se) else None, fit.p(column))

    @property
    def clear(self) -> bool:
        """Whether the effect differs from 0 at the 5 % level."""
        return self.p is not None and self.p < 0.05

    def to_dict(self) -> EffectEntry:
        """A JSON-ready dictionary."""
        return {"value": self.value, "low": self.low, "high": self.high, "se": self.se, "p": self.p}


@dataclass(frozen=True, slots=True)
class Control:
    """The estimate made in another way, to check that it holds. `about` says what it controls for."""

    title: str
    about: str
    effect: Effect
    odds_ratio: Range | None

    def to_dict(self) -> ControlEntry:
        """A JSON-ready dictionary."""
        odds = None if self.odds_ratio is None else self.odds_ratio.to_dict()
        return {"title": self.title, "about": self.about, **self.effect.to_dict(), "odds_ratio": odds}


def odds_ratio(effect: Effect, sd: float) -> Range:
    """exp(alpha sd): the factor by which one standard deviation multiplies the odds of being preferred."""
    return _transform(effect, lambda alpha: math.exp(alpha * sd))


def change(effect: Effect, sd: float) -> Range:
    """sigmoid(alpha sd) - sigmoid(-alpha sd) = tanh(alpha sd / 2): the change of the probability from -1 to +1 SD.

    At an intercept of 0, which reproduces the published figures (arXiv 2510.01171, Table 5).
    """
    return _transform(effect, lambda alpha: math.tanh(alpha * sd / 2))


def _transform(effect: Effect, scale: Callable[[float], float]) -> Range:
    def scaled(alpha: float | None) -> float | None:
        try:
            return None if alpha is None else scale(alpha)
        except OverflowError:
            return None

    return Range(scaled(effect.value), scaled(effect.low), scaled(effect.high))
