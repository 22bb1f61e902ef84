"""Stated probabilities: from the numbers of a reply, as written, to probabilities.

`stated_probabilities` converts the candidates of a whole reply; `number` reads one number. The weights for
drawing, which sum to 1, are computed from the stated probabilities by
`outspoken.distribution.weights_from_stated`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from outspoken.distribution import Verbalized
from outspoken.parsing.field_names import WEIGHTS, plain
from outspoken.parsing.parsed_reply import RawCandidate
from outspoken.reply_shape import ReplyShape

__all__ = ["NUMBER", "number", "number_or_text", "stated_probabilities"]

_FLOAT = r"(?:\d+(?:[.,٫]\d+)?|[.,]\d+)(?:[eE][-+]?\d+)?"
NUMBER = rf"[-+−]?{_FLOAT}(?:\s?[%٪％]|\s?(?:/|in|out of)\s?\d+(?:[.,]\d+)?)?"
"""A pattern for a weight in running text: 0.07, .07, 0,07, 7%, 7 %, 1/14, 1 in 14, 7e-2."""

_WRITTEN = re.compile(
    rf"(?P<sign>[-+−]?)(?P<value>{_FLOAT})"
    rf"(?:(?P<percent>\s{{0,3}}(?:%|percent|per cent|pct|prozent))|\s?(?:/|in|out of)\s?(?P<of>\d+(?:[.,]\d+)?))?",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"-?[0-9]{0,300}\.?[0-9]{1,300}(?:[eE]-?[0-9]{1,3})?")
_LONGEST = 200


@dataclass(slots=True)
class _Number:
    """One number, the scale it is on ("none" without a number), and the repairs that reading it took."""

    value: float | None
    scale: str
    repairs: tuple[str, ...] = ()


def stated_probabilities(items: Sequence[RawCandidate], shape: ReplyShape | None) -> tuple[Verbalized, ...]:
    """The candidates with their stated probabilities, read from the weights as written.

    The meaning of a number without a scale is decided over the whole set, see `_decide_scale`.
    """
    numbers = [_read(item, shape) for item in items]
    _decide_scale([each for each in numbers if each.scale == "probability" and each.value is not None])
    return tuple(_verbalized(item, each) for item, each in zip(items, numbers, strict=True))


def number(raw: object) -> tuple[float | None, bool]:
    """The finite number that `raw` states, and whether it has a percent sign; (None, False) if there is none."""
    if isinstance(raw, bool) or raw is None:
        return None, False
    if isinstance(raw, (int, float)):
        try:
            value = float(raw)
        except OverflowError:
            return None, False
        return (value, False) if math.isfinite(value) else (None, False)
    if not isinstance(raw, str):
        return None, False
    written = unicodedata.normalize("NFKC", raw[:_LONGEST])
    written = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in written)
    match = _WRITTEN.search(written.replace("٫", ".").replace("٪", "%"))
    if match is None:
        return None, False
    value = _decimal(match["value"])
    if match["of"]:
        denominator = _decimal(match["of"])
        value = value / denominator if denominator else math.nan
    if match["sign"] in ("-", "−") and value:
        value = -value
    return (value, bool(match["percent"])) if math.isfinite(value) else (None, False)


def number_or_text(written: str) -> float | str:
    """A plain number as a float, so that only other ways of writing one count as a repair."""
    return float(written) if _PLAIN.fullmatch(written.strip()) else written


def _decimal(written: str) -> float:
    head, comma, tail = written.partition(",")
    if comma and len(tail) == 3 and head.strip("0"):
        return float(head + tail)
    return float(written.replace(",", "."))


def _read(item: RawCandidate, shape: ReplyShape | None) -> _Number:
    if not item.stated:
        return _Number(None, "none")
    value, percent = number(item.weight)
    if value is None:
        return _Number(None, "none", ("unreadable-probability",))
    repairs = ("text-probability",) if isinstance(item.weight, str) and item.key is not None else ()
    if percent:
        return _Number(value, "percent", repairs)
    if shape is not None and (item.key is None or item.key == shape.weight):
        return _Number(value, shape.scale, repairs)
    return _Number(value, WEIGHTS.get(plain(item.key or ""), "probability"), repairs)


def _decide_scale(numbers: Sequence[_Number]) -> None:
    """Decide what numbers above 1 mean in place of probabilities.

    Among fractions below 1 they are mistakes: percents up to 100, unreadable above. If all numbers are 0 or at
    least 1 they share a unit: percents if the largest is above 10 and at most 100, otherwise weights to be divided
    by their sum; a single one is a percent.
    """
    values = [parsed.value or 0.0 for parsed in numbers]
    if not values or max(values) <= 1:
        return
    common = all(value == 0 or value >= 1 for value in values)
    positive = [value for value in values if value > 0]
    weights = common and len(positive) > 1 and not 10 < max(values) <= 100
    total = math.fsum(positive) if weights else 0.0
    for parsed, value in zip(numbers, values, strict=True):
        if value < 0:
            continue
        if weights:
            parsed.value = value / total
            parsed.repairs += ("weights",)
        elif value > 100:
            parsed.value = None
            parsed.repairs += ("unreadable-probability",)
        elif value > 1 or (common and value):
            parsed.scale = "percent"


def _verbalized(item: RawCandidate, parsed: _Number) -> Verbalized:
    stated, log, repairs = _probability(parsed)
    named = dict.fromkeys((*item.repairs, *parsed.repairs, *repairs))
    if stated is None:
        named.pop("text-probability", None)
    return Verbalized(item.text, stated, log, tuple(named), item.value, item.meta)


def _probability(parsed: _Number) -> tuple[float | None, float | None, tuple[str, ...]]:
    """The probability that a number on its scale means, its logarithm, and the repairs."""
    value, scale = parsed.value, parsed.scale
    if value is None:
        return None, None, ()
    if scale in ("nll", "logprob"):
        log = -value if scale == "nll" else value
        if log <= 0:
            return math.exp(log), log + 0.0, ()
    elif scale == "perplexity":
        if value >= 1:
            return 1 / value, -math.log(value) + 0.0, ()
    else:
        share = value / 100 if scale == "percent" else value
        if 0 <= share <= 1:
            repairs = ("percent",) if scale == "percent" else ()
            return share + 0.0, math.log(share) if share else -math.inf, repairs
    return None, None, ("unreadable-probability",)
