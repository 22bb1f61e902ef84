"""A measured sharpening exponent: the figures, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Gamma", "Point"]

_ABOUT = {
    "deviance": "How much better a share of its own for each answer would fit: 2 sum n ln(n / fitted).",
    "df": "Degrees of freedom of the deviance: the answers of the reference less two.",
    "p": "How often independent draws from the fitted power lie as far off as these (parametric bootstrap of the "
    "deviance). Below 0.05, a pure power of the reference does not describe the answers.",
    "tv": "Total variation between the fitted power and what was observed, among the answers given, the mean over "
    "prompts: 0 is the same, 1 is nothing in common.",
    "tv_base": "The same for the base as it is (gamma = 1).",
    "kl": "KL divergence of what was observed from the fitted power, in nats.",
    "kl_base": "The same from the base as it is (gamma = 1).",
    "outside": "The share of the draws whose answer the reference does not have; they are left out.",
    "r2": "The share of the variation of aligned log-probabilities within prompts that the base's account for.",
    "residual_sd": "How far aligned log-probabilities lie from the line, in nats (standard deviation).",
}
_NEAR = 0.1


@dataclass(frozen=True, slots=True)
class Point:
    """An answer to a prompt under both models: natural log-probabilities of the whole answer, or, made from
    counts, its shares. `fitted` is what gamma gives for `aligned`."""

    prompt: str
    answer: str
    base: float
    aligned: float
    fitted: float | None = None


@dataclass(frozen=True, slots=True)
class Gamma:
    """gamma with its 95 % interval. `p` is two-sided and tests gamma = 1; `how` is "counts" or "logprobs".

    `unit` is what the interval takes to be independent, `units` how many there are. `answers` are those of the
    reference, or the rows of log-probabilities. `fit` tells how far a pure power is from the truth; its names are
    explained in `to_dict()["about"]`.
    """

    how: str
    value: float
    low: float
    high: float
    se: float
    p: float | None
    unit: str
    units: int
    answers: int
    prompts: int
    fit: Mapping[str, float]
    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, for one who has not read the paper."""
        counted = self.how == "counts"
        base = "the reference" if counted else "the base model"
        basis = f"{self.answers:,} answers to {self.prompts:,} prompt{'s' * (self.prompts != 1)}"
        if counted:
            basis = f"{self.units:,} {self.unit}s"
        said = (
            f"The answers follow {base} to the power gamma = {self.value:.3g} (95 % interval {self.low:.3g} to "
            f"{self.high:.3g}, from {basis}); 1 would be {base} itself.",
        )
        if self.p is None:
            verdict = (
                "Without any variation nothing can be said of how sure this is: no interval is to be believed."
            )
        elif self.low > 1:
            verdict = f"That is above 1, sharper: it leans to likely answers more than {base} does."
        elif self.high < 0:
            verdict = f"That is below 0, turned round: it leans to the answers that {base} finds least likely."
        elif self.high < 1:
            verdict = f"That is below 1, flatter: it leans to likely answers less than {base} does."
        else:
            verdict = f"The interval holds 1: nothing here shows a distribution sharper or flatter than {base}."
        return (*said, verdict, *(self._of_counts() if counted else self._of_logprobs()))

    def _of_counts(self) -> tuple[str, ...]:
        p, tv, before = self.fit["p"], self.fit["tv"], self.fit["tv_base"]
        if p >= 0.05:
            return (f"A pure power describes these answers as well as chance allows (p = {p:.2f}).",)
        apart = f"Total variation between the two is {tv:.2f} (0 is the same, 1 nothing in common)"
        worst = max(self.points, key=lambda point: abs(point.aligned - (point.fitted or 0)))
        gap = (
            f"The largest gap is “{worst.answer}”: {worst.aligned:.1%} of the draws, where the power gives "
            f"{worst.fitted or 0:.1%}."
        )
        if tv < _NEAR:
            return (
                f"A pure power comes near these answers, though not within chance (p = {p:.2g}). {apart}.",
                gap,
            )
        return (
            f"But a pure power does not describe these answers (p = {p:.2g}). {apart}; for the reference as it "
            f"is, {before:.2f}. Take gamma for a summary of how much they lean to likely answers, not for all "
            "that alignment did.",
            gap,
        )

    def _of_logprobs(self) -> tuple[str, ...]:
        share = f"{self.fit['r2']:.0%}" if "r2" in self.fit else "None"
        return (
            f"{share} of the variation of the aligned model's log-probabilities within prompts goes with the base "
            f"model's; what is left has a standard deviation of {self.fit['residual_sd']:.2g} nats.",
            "Noise in the base's log-probabilities (other tokens, coarser weights) pulls gamma towards 0.",
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "gamma"."""
        return {
            "kind": "gamma",
            "warnings": list(self.warnings),
            "how": self.how,
            "gamma": {name: getattr(self, name) for name in ("value", "low", "high", "se", "p")},
            "answers": self.answers,
            "prompts": self.prompts,
            "unit": self.unit,
            "units": self.units,
            "fit": dict(self.fit),
            "about": {name: _ABOUT[name] for name in self.fit},
            "points": [asdict(point) for point in self.points],
            "sentences": list(self.sentences),
        }
