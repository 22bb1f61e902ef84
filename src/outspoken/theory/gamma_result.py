"""A measured sharpening exponent: its figures, and their meaning in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from outspoken.io.dataclass_json import to_json
from outspoken.io.text import plural
from outspoken.report.format import alike, number, p_equation, percent

__all__ = ["Gamma", "Point"]

_ABOUT = {
    "deviance": "How much better a separate share for each answer would fit: 2 sum n ln(n / fitted).",
    "df": "Degrees of freedom of the deviance: the answers of the reference less two.",
    "p": "How often independent draws from the fitted power deviate as much as these (parametric bootstrap of the "
    "deviance). Below 0.05, a pure power of the reference does not describe the answers.",
    "tv": "Total variation between the fitted power and the observed shares, among the answers given, the mean "
    "over prompts: 0 is the same, 1 is nothing in common.",
    "tv_base": "The same for the unchanged base (gamma = 1).",
    "kl": "KL divergence of the observed shares from the fitted power, in nats.",
    "kl_base": "The same from the unchanged base (gamma = 1).",
    "outside": "The share of the draws whose answer is not in the reference; they are left out.",
    "r2": "The share of the variation of aligned log-probabilities within prompts that those of the base explain.",
    "residual_sd": "Distance of aligned log-probabilities from the line, in nats (standard deviation).",
}
_NEAR = 0.1  # total variation below which the fitted power comes close to the answers


@dataclass(frozen=True, slots=True)
class Point:
    """An answer to a prompt under both models: its natural log-probabilities, or its shares if they come from
    counts. `fitted` is the value that gamma predicts for `aligned`."""

    prompt: str
    answer: str
    base: float
    aligned: float
    fitted: float | None = None


@dataclass(frozen=True, slots=True)
class Gamma:
    """gamma with its 95 % interval. `p` is two-sided and tests gamma = 1; `how` is "counts" or "logprobs".

    The interval treats `units` of the kind `unit` as independent. `answers` counts the answers of the reference,
    or the rows of log-probabilities. `fit` describes how well a pure power fits; `to_dict()["about"]` explains its
    names.
    """

    how: Literal["counts", "shares", "logprobs"]
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
        """The result, for readers who do not know the paper."""
        base, basis = "the reference", plural(self.units, self.unit)
        if self.how == "logprobs":
            base = "the base model"
            basis = f"{plural(self.answers, 'answer')} to {plural(self.prompts, 'prompt')}"
        value, low, high = alike(self.value, self.low, self.high)
        finding = (
            f"The answers follow {base} to the power gamma = {value} (95 % interval {low} to {high}, from "
            f"{basis}); 1 would be {base} itself."
        )
        if self.p is None:
            verdict = "There is no variation, so the precision is unknown: do not trust the interval."
        elif self.low > 1:
            verdict = f"That is above 1, sharper: it favours likely answers more than {base} does."
        elif self.high < 0:
            verdict = f"That is below 0, reversed: it favours the answers that {base} finds least likely."
        elif self.high < 1:
            verdict = f"That is below 1, flatter: it favours likely answers less than {base} does."
        else:
            verdict = f"The interval includes 1: nothing here shows a distribution sharper or flatter than {base}."
        fits = {"counts": self._fit_of_counts, "shares": self._fit_of_shares, "logprobs": self._fit_of_logprobs}
        return (finding, verdict, *fits[self.how]())

    def _fit_of_counts(self) -> tuple[str, ...]:
        p, tv, before = self.fit["p"], self.fit["tv"], self.fit["tv_base"]
        if p >= 0.05:
            return (f"A pure power describes these answers as well as chance allows ({p_equation(p)}).",)
        distance = f"Total variation between the two is {number(tv)} (0 is the same, 1 nothing in common)"
        text = (
            f"But a pure power does not describe these answers ({p_equation(p)}). {distance}; for the unchanged "
            f"reference, {number(before)}. Read gamma as a summary of how much they favour likely answers, not as "
            "all that alignment did."
        )
        if tv < _NEAR:
            close = f"A pure power comes close to these answers, though not within chance ({p_equation(p)})."
            text = f"{close} {distance}."
        worst = max(self.points, key=lambda point: abs(point.aligned - (point.fitted or 0)))
        gap = (
            f"The largest gap is “{worst.answer}”: {percent(worst.aligned)} of the draws, while the power "
            f"predicts {percent(worst.fitted or 0)}."
        )
        return text, gap

    def _fit_of_shares(self) -> tuple[str, ...]:
        return (
            "These are stated shares and no draws: gamma is that of the power nearest to their mean, at a total "
            f"variation of {number(self.fit['tv'])} (0 is the same, 1 nothing in common); the unchanged reference "
            f"is at {number(self.fit['tv_base'])}.",
        )

    def _fit_of_logprobs(self) -> tuple[str, ...]:
        share = percent(self.fit["r2"], decimals=0) if "r2" in self.fit else "None"
        return (
            f"{share} of the variation of the aligned model's log-probabilities within prompts is explained by "
            f"the base model's; the rest has a standard deviation of {number(self.fit['residual_sd'])} nats.",
            "Noise in the base's log-probabilities (other tokens, coarser weights) pulls gamma towards 0.",
        )

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "gamma"."""
        entry = to_json(self)
        estimate = {name: entry.pop(name) for name in ("value", "low", "high", "se", "p")}
        about = {name: _ABOUT[name] for name in self.fit}
        return {"kind": "gamma", **entry, "gamma": estimate, "about": about, "sentences": list(self.sentences)}
