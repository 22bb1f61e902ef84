"""A figure with its interval, and the comparison of two methods on the same prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from outspoken.io.dataclass_json import finite

__all__ = ["Comparison", "Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval from `low` to `high`; both are None if there is no interval.

    `units` is the number of resampled units, and `unit` the name of one. `note` says how far the interval can be
    trusted.
    """

    value: float
    low: float | None
    high: float | None
    units: int
    unit: str = "prompt"
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary: None for numbers that are not finite, and `note` only if there is one."""
        entry: dict[str, Any] = finite(asdict(self))
        return entry if self.note else {key: entry[key] for key in entry if key != "note"}

    def scaled(self, factor: float) -> Self:
        """The figure and its interval times a factor."""
        return replace(self, **_scaled(self, factor, "value"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on the same prompts: `difference` is a minus b, with its interval.

    `p` is two-sided, `p_holm` the same after Holm's correction for its family (equal to `p` until `corrected`).
    `effect` is Cohen's d_z with Hedges' correction. `needed` is the number of prompts that would show a difference
    of this size with a power of 0.8 at the level 0.05, among as many comparisons; it helps to plan the next
    experiment, and says nothing about this one. `sd` is the standard deviation of the units' differences. Figures
    that do not exist are None.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    effect: float | None
    units: int
    needed: int | None
    note: str = ""
    sd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary: None for numbers that are not finite."""
        return dict(finite(asdict(self)))

    def scaled(self, factor: float) -> Self:
        """The difference and its interval times a factor."""
        return replace(self, **_scaled(self, factor, "difference"))

    def swapped(self) -> Self:
        """The same comparison as b minus a."""
        low, high, effect = (None if end is None else -end for end in (self.high, self.low, self.effect))
        return replace(self, difference=-self.difference, low=low, high=high, effect=effect)


def _scaled(figure: object, factor: float, name: str) -> dict[str, Any]:
    ends = {each: getattr(figure, each) for each in (name, "low", "high")}
    return {each: None if end is None else end * factor for each, end in ends.items()}
