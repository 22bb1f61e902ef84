"""What one stated weight says, and what the weights of a whole set mean together."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outspoken.distribution import Verbalized
from outspoken.parsing.field_names import WEIGHTS, plain
from outspoken.reply_shape import ReplyShape

__all__ = ["NUMBER", "RawCandidate", "figure", "number", "weigh"]

_FLOAT = r"(?:\d+(?:[.,٫]\d+)?|[.,]\d+)(?:[eE][-+]?\d+)?"
NUMBER = rf"[-+−]?{_FLOAT}(?:\s?[%٪％]|\s?(?:/|in|out of)\s?\d+(?:[.,]\d+)?)?"
"""A pattern for a weight as people write it: 0.07, .07, 0,07, 7%, 7 %, 1/14, 1 in 14, 7e-2."""

_WRITTEN = re.compile(
    rf"(?P<sign>[-+−]?)(?P<value>{_FLOAT})"
    rf"(?:(?P<percent>\s{{0,3}}(?:%|percent|per cent|pct|prozent))|\s?(?:/|in|out of)\s?(?P<of>\d+(?:[.,]\d+)?))?",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"-?[0-9]{0,300}\.?[0-9]{1,300}(?:[eE]-?[0-9]{1,3})?")
_LONGEST = 200


@dataclass(slots=True)
class RawCandidate:
    """A candidate whose weight is still as written: `weight` under the key `key` (None where unlabelled)."""

    text: str
    weight: Any = None
    key: str | None = None
    stated: bool = False
    value: Any = None
    repairs: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Reading:
    value: float | None
    scale: str
    repairs: tuple[str, ...] = ()


def number(raw: Any) -> tuple[float | None, bool]:
    """The finite number that `raw` states, and whether it carries a percent sign; (None, False) if none does."""
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
    found = _WRITTEN.search(written.replace("٫", ".").replace("٪", "%"))
    if found is None:
        return None, False
    value = _decimal(found["value"])
    if found["of"]:
        whole = _decimal(found["of"])
        value = value / whole if whole else math.nan
    if found["sign"] in ("-", "−") and value:
        value = -value
    return (value, bool(found["percent"])) if math.isfinite(value) else (None, False)


def figure(written: str) -> float | str:
    """A plain number as a number, so that only other ways of writing one count as a repair."""
    return float(written) if _PLAIN.fullmatch(written.strip()) else written


def _decimal(written: str) -> float:
    head, comma, tail = written.partition(",")
    if comma and len(tail) == 3 and head.strip("0"):
        return float(head + tail)
    return float(written.replace(",", "."))


def weigh(items: Sequence[RawCandidate], shape: ReplyShape | None) -> tuple[Verbalized, ...]:
    """Turn weights as written into stated probabilities, deciding over the whole set what a bare number means."""
    readings = [_read(item, shape) for item in items]
    _settle([r for r in readings if r.scale == "probability" and r.value is not None])
    return tuple(_verbalized(item, reading) for item, reading in zip(items, readings, strict=True))


def _read(item: RawCandidate, shape: ReplyShape | None) -> _Reading:
    if not item.stated:
        return _Reading(None, "none")
    value, sign = number(item.weight)
    if value is None:
        return _Reading(None, "none", ("unreadable-probability",))
    repairs = ("text-probability",) if isinstance(item.weight, str) and item.key is not None else ()
    if sign:
        return _Reading(value, "percent", repairs)
    if shape is not None and (item.key is None or item.key == shape.weight):
        return _Reading(value, shape.scale, repairs)
    return _Reading(value, WEIGHTS.get(plain(item.key or ""), "probability"), repairs)


def _settle(readings: Sequence[_Reading]) -> None:
    """Decide what numbers above 1 are where a probability was meant.

    Together with fractions below 1 they are slips: percents up to 100, unreadable above. A set of whole or large
    numbers has one unit: percents where the largest is above 10 and at most 100, else weights to be divided by
    their sum; a single one is a percent.
    """
    values = [reading.value or 0.0 for reading in readings]
    if not values or max(values) <= 1:
        return
    common = all(value == 0 or value >= 1 for value in values)
    positive = [value for value in values if value > 0]
    weights = common and len(positive) > 1 and not 10 < max(values) <= 100
    total = math.fsum(positive) if weights else 0.0
    for reading, value in zip(readings, values, strict=True):
        if value < 0:
            continue
        if weights:
            reading.value = value / total
            reading.repairs += ("weights",)
        elif value > 100:
            reading.value = None
            reading.repairs += ("unreadable-probability",)
        elif value > 1 or (common and value):
            reading.scale = "percent"


def _verbalized(item: RawCandidate, reading: _Reading) -> Verbalized:
    stated, log, repairs = _convert(reading)
    named = dict.fromkeys((*item.repairs, *reading.repairs, *repairs))
    if stated is None:
        named.pop("text-probability", None)
    return Verbalized(item.text, stated, log, tuple(named), item.value, item.meta)


def _convert(reading: _Reading) -> tuple[float | None, float | None, tuple[str, ...]]:
    value, scale = reading.value, reading.scale
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
