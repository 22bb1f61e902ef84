"""A distribution before and after alignment: the figures, and what they mean in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from outspoken.distribution import Candidate, Distribution
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.divergence import shares
from outspoken.report.format import number, percent
from outspoken.theory.documents import SharpenDocument
from outspoken.theory.sharpening import SharpenedVariety, gamma_of, sharpen, variety_curve

__all__ = ["Sharpened"]


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
        """What happens to the distribution, for readers who do not know the paper."""
        first, last = SharpenedVariety.of(self.before), SharpenedVariety.of(self.before, self.gamma)
        top, share = self.before.argmax(), sharpen(np.array(self.before.probabilities), self.gamma)[0]
        source = "" if self.alpha is None else f" (1 + {self.alpha:g} / {self.beta:g})"
        later, before = (
            "never comes" if math.isinf(more) else f"takes {number(more)} more draws on average"
            for more in (last.draws_to_new, first.draws_to_new)
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
        """What the reader should know about an unusual gamma."""
        if self.gamma >= 1:
            return ()
        if self.gamma > 0:
            return (f"gamma is {self.gamma:.3g}, below 1: this flattens the distribution",)
        if self.gamma == 0:
            return ("gamma is 0: all answers that have a weight become equally likely",)
        return (f"gamma is {self.gamma:.3g}, below 0: this makes the rarest answers the likeliest",)

    def to_dict(self) -> SharpenDocument:
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
