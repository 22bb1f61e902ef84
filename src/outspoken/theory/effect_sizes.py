"""The figures of a typicality estimate: an effect with its interval, on the scales that people read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from outspoken.theory.logistic import Fit

__all__ = ["Control", "Effect", "Range", "change", "odds_ratio"]


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with its 95 % interval; None for an end that does not exist or is beyond every number."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Effect:
    """A coefficient with its 95 % interval, its standard error and the two-sided p of its being 0."""

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
        """Whether the effect is told from 0 at the 5 % level."""
        return self.p is not None and self.p < 0.05

    def to_dict(self) -> dict[str, float | None]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Control:
    """The estimate made in another way, to see whether it stands. `about` says what it controls for."""

    title: str
    about: str
    effect: Effect
    odds_ratio: Range | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        odds = None if self.odds_ratio is None else self.odds_ratio.to_dict()
        return {"title": self.title, "about": self.about, **self.effect.to_dict(), "odds_ratio": odds}


def odds_ratio(effect: Effect, sd: float) -> Range:
    """exp(alpha sd): by how much one standard deviation multiplies the odds of being preferred."""
    return _over(effect, lambda alpha: math.exp(alpha * sd))


def change(effect: Effect, sd: float) -> Range:
    """sigmoid(alpha sd) - sigmoid(-alpha sd) = tanh(alpha sd / 2): the change of the probability from -1 to +1 SD.

    At an intercept of 0, which reproduces the published figures (arXiv 2510.01171, Table 5).
    """
    return _over(effect, lambda alpha: math.tanh(alpha * sd / 2))


def _over(effect: Effect, scale: Callable[[float], float]) -> Range:
    def scaled(alpha: float | None) -> float | None:
        try:
            return None if alpha is None else scale(alpha)
        except OverflowError:
            return None

    return Range(scaled(effect.value), scaled(effect.low), scaled(effect.high))
