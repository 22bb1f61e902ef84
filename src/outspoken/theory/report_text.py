"""The words of a theory page: what it is about, its main figures, and what its terms mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.report.format import number

__all__ = ["ABOUT", "GLOSSARY", "TITLES", "Tile", "asked", "chance", "digits", "tiles", "written"]

TITLES = {
    "typicality": "Do people prefer what is typical?",
    "sharpen": "What alignment does to a distribution",
    "gamma": "How much sharper has alignment made the model?",
    "levels": "What to ask for: an answer, a list, or a distribution",
}
ABOUT = {
    "typicality": "A model is aligned with what people prefer. If people prefer familiar texts, whatever their "
    "worth, then alignment teaches the model to write the most familiar ones. How familiar a text is, a base "
    "model tells: by how likely it finds the text. Here is whether the preferences in this file lean that way.",
    "sharpen": "If people prefer what is familiar, alignment raises every probability to a power, gamma, and "
    "makes them sum to 1 again. Above 1 that takes from rare answers and gives to likely ones, though none is "
    "better than another.",
    "gamma": "Alignment that rewards the familiar raises every probability of the base model to a power, gamma. "
    "Where all answers are equally right, nothing else should move them, so gamma can be read off: 1 means that "
    "nothing changed.",
    "levels": "A sharpened model that is asked for one answer gives nearly always the same. It can also be asked "
    "for a list, or for a distribution: answers with their probabilities. Here is how near each comes to the "
    "model before alignment.",
}
GLOSSARY = (
    (
        "log-likelihood",
        "How likely a model finds a text, as a natural logarithm (in nats); here the mean over its tokens, so "
        "that long and short texts can be compared, unless a row says otherwise.",
    ),
    (
        "alpha, the typicality bias",
        "How much the log-odds of being preferred grow when a response is one nat a token more likely to the "
        "base model; 0 is no bias.",
    ),
    (
        "beta",
        "How strongly alignment holds the model to its base: the smaller it is, the more the reward may change.",
    ),
    (
        "gamma",
        "1 + alpha / beta, the power that alignment raises probabilities to: 1 changes nothing, more makes "
        "likely answers likelier still.",
    ),
    (
        "odds ratio",
        "By what the odds of being preferred are multiplied when a response is one standard deviation more "
        "likely to the base model; 1 is no difference.",
    ),
    (
        "effective size and entropy",
        "The effective size is how many equally likely answers would be as varied; entropy is its natural "
        "logarithm.",
    ),
    (
        "total variation",
        "The share of answers that would have to change to make two distributions equal: 0 is the same, 1 is "
        "nothing in common.",
    ),
    (
        "95 % interval",
        "The values that agree with the data; a method that makes such intervals misses the truth in 1 case of "
        "20.",
    ),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A main figure, its interval (empty for none), and what it means."""

    name: str
    value: str
    within: str
    meaning: str


def tiles(document: Mapping[str, Any]) -> list[Tile]:
    """The main figures of a document, by its `kind`."""
    made = {"typicality": _typicality, "sharpen": _sharpen, "gamma": _gamma, "levels": _levels}
    return made[document["kind"]](document)


def written(figure: Mapping[str, Any], scale: float = 1) -> tuple[str, str]:
    """A figure, and its interval as `low to high`, empty where there is none; both with the same decimals."""
    value, low, high = (None if figure[end] is None else scale * figure[end] for end in ("value", "low", "high"))
    if value is None:
        return "–", ""
    size = max(abs(end) for end in (value, low, high) if end is not None)
    text = "" if low is None or high is None else f"{digits(low, size)} to {digits(high, size)}"
    return digits(value, size), text


def digits(value: float, size: float) -> str:
    """A number with the decimals that suit numbers up to `size`, a million and more as a power of ten."""
    if size >= 1e6:
        text = f"{value:.2g}"
    elif 0.0005 <= size < 0.05:
        text = f"{value:.{4 if size >= 0.005 else 5}f}"
    else:
        return number(value, like=size)
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "\N{MINUS SIGN}")


def chance(p: float | None) -> str:
    return "–" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def _tile(name: str, figure: Mapping[str, Any], meaning: str, scale: float = 1, unit: str = "") -> Tile:
    value, within = written(figure, scale)
    return Tile(name, value + unit * (figure["value"] is not None), within, meaning)


def _typicality(document: Mapping[str, Any]) -> list[Tile]:
    p = chance(document["alpha"]["p"])
    return [
        _tile("alpha", document["alpha"], f"The typicality bias, per nat a token. 0 would be none (p {_is(p)})."),
        _tile(
            "odds ratio",
            document["odds_ratio"],
            "What the odds of being preferred are multiplied by when a response is one standard deviation "
            f"({number(document['sd'])} nats a token) more likely. 1 would be no bias.",
        ),
        _tile(
            "change, in points",
            document["change"],
            "How far the chance of being preferred moves, in percentage points, from one standard deviation less "
            "likely to one more. 0 would be no bias.",
            100,
        ),
        _tile(
            "typicality-bias rate",
            document["rate"],
            "Pairs in which the preferred response is the one that the base model finds more likely. 50 % would "
            "be no bias.",
            100,
            " %",
        ),
    ]


def _sharpen(document: Mapping[str, Any]) -> list[Tile]:
    before, after = document["before"], document["after"]
    top = max(document["answers"], key=lambda answer: float(answer["after"]))
    how = f"1 + {document['alpha']:g} / {document['beta']:g}. " if document["alpha"] is not None else ""
    return [
        Tile("gamma", number(document["gamma"]), "", f"{how}The power that every probability is raised to."),
        Tile(
            "effective size",
            f"{number(before['effective_size'])} → {number(after['effective_size'])}",
            "",
            "As many equally likely answers would be as varied.",
        ),
        Tile(
            "entropy",
            f"{number(before['entropy'])} → {number(after['entropy'])}",
            "",
            "The logarithm of the effective size, in nats.",
        ),
        Tile(
            "most likely answer",
            f"{top['before']:.1%} → {top['after']:.1%}",
            "",
            f"What becomes of {top['text'][:60]}.",
        ),
    ]


def _gamma(document: Mapping[str, Any]) -> list[Tile]:
    gamma, fit = document["gamma"], document["fit"]
    made = [
        _tile("gamma", gamma, "The power that leads from the base to the aligned model. 1 would be no change."),
        Tile("p of gamma = 1", chance(gamma["p"]), "", "How often chance alone would lead as far from 1."),
    ]
    names = {"tv": "distance from the fitted power", "r2": "explained by the base"}
    about = document.get("about", {})
    made += [
        Tile(title, number(fit[name]), "", about.get(name, "")) for name, title in names.items() if name in fit
    ]
    return made


def _levels(document: Mapping[str, Any]) -> list[Tile]:
    return [
        _tile(
            f"asked for {asked(arm['level'])}",
            arm["tv"],
            "Total variation from the base distribution: 0 would be none.",
        )
        for arm in document["arms"]
    ]


def asked(level: str) -> str:
    """What a level asks for."""
    return {"instance": "one answer", "list": "a list", "distribution": "a distribution"}.get(level, level)


def _is(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"
