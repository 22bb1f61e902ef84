"""A measured typicality bias: its figures, and the conclusions that they allow, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outspoken.io.dataclass_json import to_json
from outspoken.measure.estimates import Estimate
from outspoken.report.format import alike, number, p_value, percent, signed
from outspoken.theory.controls import Control, Effect, Range
from outspoken.theory.preferences import Preferences

__all__ = ["FEW", "BiasVerdict", "ModelBias", "Typicality"]

_PART = 0.8  # length accounts for a part of alpha if less than this share of it is left with length held equal

FEW = 30
"""With fewer pairs than this an estimate is only a trial."""


@dataclass(frozen=True, slots=True)
class BiasVerdict:
    """`lead` is the finding in a sentence or two; `may` and `may_not` list the claims that it does and does not
    support."""

    lead: str
    may: tuple[str, ...]
    may_not: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelBias:
    """The typicality bias of preferences under one base model.

    `alpha` is estimated from `pairs` pairs of `prompts` prompts: those of equal correctness if correctness was
    rated (`correctness`), else all `scored` ones. `p_holm` is alpha's p corrected for the base models of one call.
    `sd` is the standard deviation of the difference of mean log-likelihood, in nats a token; `odds_ratio` is per
    SD and `change` is the change of the probability from -1 to +1 SD. `rate` is the typicality-bias rate: the
    share of all scored pairs whose preferred response is the likelier one; a tie counts half. `penalised`: the
    pairs are separable, and the estimate is Firth's.
    """

    base: str
    pairs: int
    prompts: int
    scored: int
    skipped: Mapping[str, int]
    alpha: Effect
    p_holm: float | None
    sd: float
    odds_ratio: Range
    change: Range
    rate: Estimate
    controls: Mapping[str, Control]
    curve: Mapping[str, Any]
    correctness: bool
    penalised: bool
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> BiasVerdict:
        """The conclusions that the figures allow, in words."""
        raw = _direction(self.alpha)
        length = self.controls.get("length")
        held = raw if length is None else _direction(length.effect)
        return BiasVerdict(
            _lead(self, raw, held), tuple(_supported(self, raw, held)), tuple(_unsupported(self, raw, held))
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        entry: dict[str, Any] = to_json(self)
        for name in ("p_holm", "correctness", "penalised", "notes"):
            del entry[name]
        return {
            **entry,
            "alpha": {**entry["alpha"], "p_holm": self.p_holm},
            "rate": {name: entry["rate"][name] for name in ("value", "low", "high")},
            "controls": {name: control.to_dict() for name, control in self.controls.items()},
            "verdict": to_json(self.verdict),
        }


@dataclass(frozen=True, slots=True)
class Typicality:
    """The typicality bias of a preference file under one or several base models, in their order.

    `identities` maps a model's name to the exact weights that scored the texts.
    """

    preferences: Preferences
    models: tuple[ModelBias, ...]
    warnings: tuple[str, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The document of kind "typicality": the figures of the first base model, and the others in a list."""
        data = self.preferences
        own = ("file", "layout", "rows", "prompts", "skipped", "examples", "ties", "correctness")
        counts = {"found": data.available, "pairs": len(data.pairs), "text": data.prompt_format}
        first, *others = [model.to_dict() for model in self.models]
        return {
            "kind": "typicality",
            "warnings": list(self.warnings),
            "identities": dict(self.identities),
            "data": {**{name: to_json(getattr(data, name)) for name in own}, **counts},
            **first,
            "others": others,
        }


# By the direction of the estimate and of the one with length held equal: 1 towards the likelier response, -1 away
# from it, 0 if chance explains it.
_MORE = "the response that {base} finds more likely, token by token, is preferred more often"
_LESS = "the response that {base} finds less likely, token by token, is preferred more often"
_EQUAL = "among responses of equal length the one that {base} finds"
_LEADS = {
    (1, 1): f"Yes: {_MORE}, and length does not explain it.",
    (1, 0): f"Perhaps: {_MORE}, but once the responses' length is held equal, chance explains the effect.",
    (1, -1): f"No: {_MORE} only because of its length; {_EQUAL} less likely is preferred.",
    (0, 1): f"Perhaps: at first sight there is no effect, but {_EQUAL} more likely is preferred. Length hid it.",
    (0, 0): "No effect is visible: whether {base} finds a response more likely makes no difference to these "
    "preferences that goes beyond chance.",
    (0, -1): f"No: at first sight there is no effect, and {_EQUAL} less likely is preferred. Length hid it.",
    (-1, 1): f"Perhaps: {_LESS}, but length causes that; {_EQUAL} more likely is preferred.",
    (-1, 0): f"No: {_LESS}, and once length is held equal, chance explains the effect.",
    (-1, -1): f"No, the opposite: {_LESS}, and length does not explain it.",
}


def _lead(model: ModelBias, raw: int, held: int) -> str:
    lead = _LEADS[raw, held].format(base=model.base)
    if raw and "length" not in model.controls:
        lead = lead.replace(", and length does not explain it", "")
    if model.alpha.p is None:
        lead = (
            f"Nothing can be concluded about {model.base}: there is no interval, as all pairs are of one prompt."
        )
    lead += f" alpha, the typicality bias, is {_interval(model.alpha)}; 0 would be none."
    if model.pairs < FEW:
        lead += f" This rests on {_pairs(model.pairs)} only: treat it as a trial, not as a finding."
    return lead


def _supported(model: ModelBias, raw: int, held: int) -> list[str]:
    points = []
    odds, change = model.odds_ratio, model.change
    if raw and odds.value is not None and change.value is not None:
        points.append(
            f"If one of two responses is a standard deviation ({number(model.sd)} nats a token) more likely under "
            f"{model.base}, the odds that it is preferred are {number(odds.value)} to 1. From one standard "
            "deviation below to one above, the probability that it is preferred changes by "
            f"{signed(100 * change.value)} points."
        )
    if raw == 0 and not model.penalised and model.alpha.low is not None and model.alpha.high is not None:
        high, low = alike(model.alpha.high, model.alpha.low)
        points.append(f"An alpha above {high} or below {low} does not fit these pairs.")
    length = model.controls.get("length")
    if length is not None and held and (held == raw or not raw):
        points.append(f"Among responses of equal length alpha is {_interval(length.effect)}.")
    if model.correctness and raw:
        points.append(
            f"Correctness as rated is not the reason: alpha comes from the {_pairs(model.pairs)} whose responses "
            "were rated equally correct."
        )
    rate = model.rate
    if rate.low is not None and rate.high is not None:
        points.append(
            f"In {percent(rate.value)} of the {_pairs(model.scored)} (95 % interval {percent(rate.low)} to "
            f"{percent(rate.high)}) the preferred response is the more likely one; 50 % would be no tendency."
        )
    null = model.controls.get("permutation_null")
    if raw and null is not None and null.effect.p is not None and null.effect.p < 0.05:
        points.append(
            f"Chance is a poor explanation: with preferences reversed at random, {_share(null.effect.p)} of the "
            "estimates were as far from 0."
        )
    return points


def _unsupported(model: ModelBias, raw: int, held: int) -> list[str]:
    points = []
    length = model.controls.get("length")
    if model.correctness:
        points.append(
            "That typicality is the only cause: the pairs are equal in rated correctness, not in everything else "
            "that makes a response good."
        )
    else:
        points.append(
            "That people like a text because it is typical: correctness was not rated here, so it was not held "
            "equal, and a better response may also be a likelier one."
        )
    if length is not None and raw and held != raw:
        effect = "reverses" if held else "is no clearer than chance"
        points.append(
            f"That likelihood itself moved the preferences: with length held equal the effect {effect} "
            f"({_interval(length.effect)}), so length explains it as well."
        )
    if length is not None and raw and held == raw and abs(length.effect.value) < _PART * abs(model.alpha.value):
        with_length, without = alike(length.effect.value, model.alpha.value)
        points.append(
            f"That all of alpha is typicality: with length held equal it is {with_length} instead of {without}, "
            "so length accounts for a part of it."
        )
    if raw == 0 and model.alpha.p is not None:
        points.append("That there is no typicality bias: an effect within its interval would look just like this.")
    if raw and model.p_holm is not None and model.p_holm >= 0.05:
        points.append(
            "That it is no accident of trying several base models: corrected for their number, p is "
            f"{p_value(model.p_holm)}."
        )
    for name, sentence in _DISAGREEMENTS.items():
        control = model.controls.get(name)
        if control is not None and (direction := _direction(control.effect)) != raw:
            points.append(sentence.format(_DIRECTIONS[direction]))
    null = model.controls.get("permutation_null")
    if raw and null is not None and null.effect.p is not None and null.effect.p >= 0.05:
        points.append(
            f"That chance is ruled out: with preferences reversed at random, {_share(null.effect.p)} of the "
            "estimates were as far from 0."
        )
    if model.pairs < FEW:
        points.append(f"Anything about other data: {_pairs(model.pairs)} cannot show it.")
    if model.penalised:
        points.append("How strong the effect is: the regression fits all these pairs, so its size is not bounded.")
    points.append(
        f"That {model.base} represents what people find familiar: another base model may rank the same responses "
        "differently. Measure with several of them in one call."
    )
    points.append(
        "How far a model trained on these preferences will collapse: that depends on the strength of the training "
        "(beta) as well, gamma = 1 + alpha / beta."
    )
    return points


# The claims that a control's estimate does not support if it points in another direction than the main one.
_DISAGREEMENTS = {
    "summed": "That it does not matter how likelihood is counted: with the log-likelihood of the whole response "
    "instead of its mean per token the estimate {}.",
    "randomised_order": "That the order of the responses does not matter: with each pair in random order the "
    "estimate {}.",
    "adjusted": "That it holds beyond pairs of equal correctness: over all pairs, with the difference of "
    "correctness taken into account, the estimate {}.",
}
_DIRECTIONS = {
    1: "points towards the more likely response",
    0: "is no clearer than chance",
    -1: "points towards the less likely response",
}


def _direction(effect: Effect) -> int:
    if not effect.clear:
        return 0
    return 1 if effect.value > 0 else -1


def _interval(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return f"{number(effect.value)} (without an interval)"
    value, low, high = alike(effect.value, effect.low, effect.high)
    return f"{value} (95 % interval {low} to {high})"


def _pairs(count: int) -> str:
    return f"{count:,} pair" + ("" if count == 1 else "s")


def _share(p: float) -> str:
    return "fewer than 0.1 %" if p < 0.001 else percent(p)
