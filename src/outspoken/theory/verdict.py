"""What a typicality estimate allows to conclude, in words that need no paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outspoken.theory.effect_sizes import Effect
    from outspoken.theory.typicality import BaseModel

__all__ = ["FEW", "BiasVerdict", "verdict"]

_PART = 0.8  # what is left of alpha with length held equal, below which length is said to have a part in it

FEW = 30
"""Below this many pairs an estimate is no ground to stand on."""


@dataclass(frozen=True, slots=True)
class BiasVerdict:
    """`lead` is the finding in a sentence or two; `may` and `may_not` are what it does and does not allow to
    conclude."""

    lead: str
    may: tuple[str, ...]
    may_not: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        told = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


# By the direction of the estimate and of the one with length held equal: 1 towards the likelier response, -1 away
# from it, 0 where chance would do.
_MORE = "the response that {base} finds more likely, token by token, is preferred more often"
_LESS = "the response that {base} finds less likely, token by token, is preferred more often"
_EQUAL = "among responses of equal length the one that {base} finds"
_LEADS = {
    (1, 1): f"Yes: {_MORE}, and length does not explain it.",
    (
        1,
        0,
    ): f"Perhaps: {_MORE}, but once the responses' length is held equal the effect cannot be told from chance.",
    (1, -1): f"No: {_MORE} only because of its length; {_EQUAL} less likely is preferred.",
    (0, 1): f"Perhaps: at first sight there is no effect, but {_EQUAL} more likely is preferred. Length hid it.",
    (0, 0): "Nothing to be seen: whether {base} finds a response more likely makes no difference to these "
    "preferences that could be told from chance.",
    (0, -1): f"No: at first sight there is no effect, and {_EQUAL} less likely is preferred. Length hid it.",
    (-1, 1): f"Perhaps: {_LESS}, but that is the work of length; {_EQUAL} more likely is preferred.",
    (-1, 0): f"No: {_LESS}, and once length is held equal the effect cannot be told from chance.",
    (-1, -1): f"No, the opposite: {_LESS}, and length does not explain it.",
}


def verdict(model: BaseModel) -> BiasVerdict:
    """The verdict that the figures of one base model give."""
    raw = _direction(model.alpha)
    length = model.controls.get("length")
    held = raw if length is None else _direction(length.effect)
    lead = _LEADS[raw, held].format(base=model.base)
    if length is None and raw:
        lead = lead.replace(", and length does not explain it", "")
    if model.alpha.p is None:
        lead = f"Nothing can be told about {model.base}: there is no interval, for all pairs are of one prompt."
    lead += f" alpha, the typicality bias, is {_interval(model.alpha)}; 0 would be none."
    if model.pairs < FEW:
        lead += f" All of this rests on {_pairs(model.pairs)} only: take it for a trial, not for a finding."
    return BiasVerdict(lead, tuple(_may(model, raw, held)), tuple(_may_not(model, raw, held)))


def _may(model: BaseModel, raw: int, held: int) -> list[str]:
    told = []
    odds, change = model.odds_ratio, model.change
    if raw and odds.value is not None and change.value is not None:
        told.append(
            f"Of two responses, let one be a standard deviation ({model.sd:.2f} nats a token) more likely to "
            f"{model.base}: the odds that it is preferred are {odds.value:.2f} to 1. From one standard deviation "
            f"below to one above, the chance that it is preferred changes by {100 * change.value:+.0f} points."
        )
    if raw == 0 and not model.penalised and model.alpha.low is not None and model.alpha.high is not None:
        told.append(
            f"An alpha above {model.alpha.high:.2f} or below {model.alpha.low:.2f} does not fit these pairs."
        )
    length = model.controls.get("length")
    if length is not None and held and (held == raw or not raw):
        told.append(f"Among responses of equal length alpha is {_interval(length.effect)}.")
    if model.correctness and raw:
        told.append(
            f"Correctness as rated is not the reason: alpha rests on the {_pairs(model.pairs)} whose responses "
            "were rated equally correct."
        )
    rate = model.rate
    if rate.low is not None and rate.high is not None:
        told.append(
            f"In {100 * rate.value:.1f} % of the {_pairs(model.scored)} (95 % interval {100 * rate.low:.1f} to "
            f"{100 * rate.high:.1f}) the preferred response is the more likely one; 50 % would be no tendency."
        )
    null = model.controls.get("permutation_null")
    if raw and null is not None and null.effect.p is not None and null.effect.p < 0.05:
        told.append(
            f"Chance is a poor explanation: with preferences reversed at random, {_share(null.effect.p)} of the "
            "estimates lay as far from 0."
        )
    return told


def _may_not(model: BaseModel, raw: int, held: int) -> list[str]:
    told = []
    length = model.controls.get("length")
    if model.correctness:
        told.append(
            "That typicality alone was at work: the pairs are equal in rated correctness, not in everything else "
            "that makes a response good."
        )
    else:
        told.append(
            "That people like a text because it is typical: correctness was not rated here, so it was not held "
            "equal, and a better response may also be a likelier one."
        )
    if raw and held != raw:
        told.append(
            "That likelihood itself moved the preferences: with length held equal the effect "
            + ("turns round" if held else "cannot be told from chance")
            + f" ({_interval(model.controls['length'].effect)}), so length explains it as well."
        )
    if length is not None and raw and held == raw and abs(length.effect.value) < _PART * abs(model.alpha.value):
        told.append(
            f"That all of alpha is typicality: with length held equal it is {length.effect.value:.2f} in place of "
            f"{model.alpha.value:.2f}, so length has a part in it."
        )
    if raw == 0 and model.alpha.p is not None:
        told.append("That there is no typicality bias: an effect within its interval would look just like this.")
    if raw and model.p_holm is not None and model.p_holm >= 0.05:
        told.append(
            "That it is no luck of trying several base models: corrected for their number, p is "
            f"{model.p_holm:.2f}."
        )
    told += _disagreements(model, raw)
    if model.pairs < FEW:
        told.append(f"Anything about other data: {_pairs(model.pairs)} cannot show it.")
    if model.penalised:
        told.append("How strong the effect is: the regression fits all these pairs, so its size is not bounded.")
    told.append(
        f"That {model.base} stands for what people find familiar: another base model may rank the same responses "
        "otherwise. Several of them in one call tell."
    )
    told.append(
        "How far a model trained on these preferences will collapse: that depends on the strength of the training "
        "(beta) as well, gamma = 1 + alpha / beta."
    )
    return told


def _disagreements(model: BaseModel, raw: int) -> list[str]:
    """Where another way to make the estimate does not bear it out."""
    told = []
    summed = model.controls.get("summed")
    if summed is not None and (other := _direction(summed.effect)) != raw:
        told.append(
            "That it does not matter how likelihood is counted: with the log-likelihood of the whole response in "
            f"place of its mean per token the estimate {_DIRECTIONS[other]}."
        )
    turned = model.controls.get("randomised_order")
    if turned is not None and (other := _direction(turned.effect)) != raw:
        told.append(
            f"That the order of the responses does not matter: with each pair in random order the estimate "
            f"{_DIRECTIONS[other]}."
        )
    null = model.controls.get("permutation_null")
    if raw and null is not None and null.effect.p is not None and null.effect.p >= 0.05:
        told.append(
            f"That chance is ruled out: with preferences reversed at random, {_share(null.effect.p)} of the "
            "estimates lay as far from 0."
        )
    adjusted = model.controls.get("adjusted")
    if adjusted is not None and (other := _direction(adjusted.effect)) != raw:
        told.append(
            "That it holds beyond pairs of equal correctness: over all pairs, with the difference of correctness "
            f"taken into account, the estimate {_DIRECTIONS[other]}."
        )
    return told


_DIRECTIONS = {
    1: "points towards the more likely response",
    0: "cannot be told from chance",
    -1: "points towards the less likely response",
}


def _direction(effect: Effect) -> int:
    if not effect.clear:
        return 0
    return 1 if effect.value > 0 else -1


def _interval(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return f"{effect.value:.2f} (without an interval)"
    return f"{effect.value:.2f} (95 % interval {effect.low:.2f} to {effect.high:.2f})"


def _pairs(count: int) -> str:
    return f"{count:,} pair" + ("" if count == 1 else "s")


def _share(p: float) -> str:
    return "fewer than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"
