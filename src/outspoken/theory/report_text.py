"""The text of a theory page: its subject, its main figures, and the meaning of its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outspoken.io.text import shorten
from outspoken.report.format import NONE, alike, number, p_equation, p_value, percent

__all__ = ["ABOUT", "GLOSSARY", "TITLES", "ends", "estimates", "interval_text", "level_title", "tiles"]

TITLES = {
    "typicality": "Do people prefer what is typical?",
    "sharpen": "What alignment does to a distribution",
    "gamma": "How much sharper has alignment made the model?",
    "levels": "What to ask for: an answer, a list, or a distribution",
}
ABOUT = {
    "typicality": "A model is aligned with what people prefer. If people prefer familiar texts regardless of "
    "their quality, alignment teaches the model to write the most familiar ones. How familiar a text is can be "
    "measured by how likely a base model finds it. This page shows whether the preferences in this file favour "
    "familiar texts.",
    "sharpen": "If people prefer what is familiar, alignment raises every probability to a power, gamma, and "
    "makes them sum to 1 again. A power above 1 moves probability from rare answers to likely ones, although none "
    "is better than another.",
    "gamma": "Alignment that rewards the familiar raises every probability of the base model to a power, gamma. "
    "If all answers are equally right, nothing else should change them, so gamma can be measured: 1 means that "
    "nothing changed.",
    "levels": "A sharpened model that is asked for one answer nearly always gives the same. It can also be asked "
    "for a list, or for a distribution: answers with their probabilities. This page shows how close each of them "
    "comes to the model before alignment.",
}
GLOSSARY = {
    "log-likelihood": "How likely a model finds a text, as a natural logarithm (in nats). Here it is the mean "
    "over its tokens, so that long and short texts can be compared, unless a row says otherwise.",
    "alpha, the typicality bias": "How much the log-odds of being preferred grow when a response is one nat a "
    "token more likely under the base model; 0 is no bias.",
    "beta": "How strongly alignment keeps the model close to its base: the smaller it is, the more the reward can "
    "change.",
    "gamma": "1 + alpha / beta, the power that alignment raises probabilities to: 1 changes nothing, a larger one "
    "makes likely answers even likelier.",
    "odds ratio": "The factor by which the odds of being preferred change when a response is one standard "
    "deviation more likely under the base model; 1 is no difference.",
    "effective size and entropy": "The effective size is the number of equally likely answers that have the same "
    "entropy; entropy is its natural logarithm.",
    "total variation": "The share of answers that would have to change to make two distributions equal: 0 is the "
    "same, 1 is nothing in common.",
    "95 % interval": "The values that are compatible with the data; a method that gives such intervals misses the "
    "true value in 1 case of 20.",
}


def estimates(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The estimates of one base model of a typicality document: `name` "main", and the controls by their names."""
    main = {"title": "Main estimate", **model["alpha"], "odds_ratio": model["odds_ratio"]}
    return [{"name": name, **entry} for name, entry in {"main": main, **model["controls"]}.items()]


def ends(figure: dict[str, Any]) -> tuple[Any, Any, Any]:
    """A figure of a document and the ends of its interval, each a number or None."""
    return figure["value"], figure["low"], figure["high"]


def interval_text(figure: dict[str, Any], scale: float = 1) -> tuple[str, str]:
    """A figure, and its interval as `low to high` (empty if there is none), with the same decimals."""
    value, low, high = ends(figure)
    if value is None:
        return NONE, ""
    if low is None or high is None:
        return number(scale * value), ""
    text, *limits = alike(scale * value, scale * low, scale * high)
    return text, " to ".join(limits)


def level_title(level: str) -> str:
    """What a model is asked for at this level."""
    return {"instance": "one answer", "list": "a list", "distribution": "a distribution"}.get(level, level)


@dataclass(frozen=True, slots=True)
class Tile:
    """A main figure, its interval (empty if there is none), and its meaning."""

    name: str
    value: str
    within: str
    meaning: str


def tiles(document: dict[str, Any]) -> list[Tile]:
    """The main figures of a document."""
    of_kind = {"typicality": _typicality, "sharpen": _sharpen, "gamma": _gamma, "levels": _levels}
    return of_kind[document["kind"]](document)


def _tile(name: str, figure: dict[str, Any], meaning: str, scale: float = 1, unit: str = "") -> Tile:
    value, within = interval_text(figure, scale)
    return Tile(name, value + unit * (figure["value"] is not None), within, meaning)


def _change(before: float | None, after: float | None) -> str:
    return " → ".join(NONE if figure is None else number(figure) for figure in (before, after))


def _typicality(document: dict[str, Any]) -> list[Tile]:
    p = p_equation(document["alpha"]["p"])
    return [
        _tile("alpha", document["alpha"], f"The typicality bias, per nat a token. 0 would be none ({p})."),
        _tile(
            "odds ratio",
            document["odds_ratio"],
            "The factor by which the odds of being preferred change when a response is one standard deviation "
            f"({number(document['sd'])} nats a token) more likely. 1 would be no bias.",
        ),
        _tile(
            "change, in points",
            document["change"],
            "The change of the probability of being preferred, in percentage points, from one standard deviation "
            "less likely to one more. 0 would be no bias.",
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


def _sharpen(document: dict[str, Any]) -> list[Tile]:
    before, after = document["before"], document["after"]
    top = max(document["answers"], key=lambda answer: answer["after"])
    alpha, beta = document["alpha"], document["beta"]
    source = "" if alpha is None or beta is None else f"1 + {alpha:g} / {beta:g}. "
    return [
        Tile("gamma", number(document["gamma"]), "", f"{source}The power that every probability is raised to."),
        Tile(
            "effective size",
            _change(before["effective_size"], after["effective_size"]),
            "",
            "The number of equally likely answers with the same entropy.",
        ),
        Tile(
            "entropy",
            _change(before["entropy"], after["entropy"]),
            "",
            "The logarithm of the effective size, in nats.",
        ),
        Tile(
            "most likely answer",
            f"{percent(top['before'])} → {percent(top['after'])}",
            "",
            f"The share of {shorten(top['text'], 60)}.",
        ),
    ]


def _gamma(document: dict[str, Any]) -> list[Tile]:
    gamma, fit = document["gamma"], document["fit"]
    names = {"tv": "distance from the fitted power", "r2": "explained by the base"}
    return [
        _tile("gamma", gamma, "The power that leads from the base to the aligned model. 1 would be no change."),
        Tile("p of gamma = 1", p_value(gamma["p"]), "", "How often chance alone would lead as far from 1."),
        *(
            Tile(title, number(fit[name]), "", document["about"].get(name, ""))
            for name, title in names.items()
            if name in fit
        ),
    ]


def _levels(document: dict[str, Any]) -> list[Tile]:
    return [
        _tile(
            f"asked for {level_title(arm['level'])}",
            arm["tv"],
            "Total variation from the base distribution: 0 would be none.",
        )
        for arm in document["arms"]
    ]
