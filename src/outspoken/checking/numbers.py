"""Reading answers that are numbers: value, percent sign, unit, and number of decimals."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from outspoken.same_text import text_key

__all__ = ["Number", "is_words", "read_number", "same_number", "tidy"]

LONGEST = 1000
"""Answers longer than this, in characters, are compared as texts only."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SIGNS = str.maketrans("−–‒﹣٫٬«»’٪", "----.," + '""\'%')
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\quad|\\qquad|~")
_WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|textit|operatorname)\s*\{([^{}]*)\}")
_DIGITS = r"\d{1,3}(?:[,' ]\d{3})+(?![\d,])|\d+"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?P<currency>[$€£¥₹₩₽]?)\s*(?P<minus>-?)
    (?: (?:(?P<mixed>\d+)\ ?(?:\ (?=\d)|(?=\\)))?
        (?:(?P<top>\d+)\s*/\s*(?P<bottom>\d+)|\\frac\s*\{{(?P<over>-?\d+)\}}\s*\{{(?P<under>-?\d+)\}})
      | (?P<whole>{_DIGITS})(?P<decimals>\.\d+)?(?!\d)
      | (?P<point>\.\d+) )
    (?:(?:e|\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^)\s*(?P<power>[-+]?\d{{1,2}}|\{{[-+]?\d{{1,2}}\}})(?!\d))?
    (?P<percent>\s*(?:%|percent\b|per\ cent\b|pct\b))?(?P<rest>.*)""",
    re.VERBOSE | re.IGNORECASE,
)
# A unit after a number: "cm^2", "square feet", "km/h", "个", "^\circ"; but not the x of 5x.
_REST = re.compile(
    r"\s*(?:\^\s*\{?\s*(?:\\circ|[°∘])\s*\}?|[°∘]|[$€£¥]|[^\W\d_][^\d=+*<>^\\_{}()|]{0,40}(?:\^\{?[23]\}?)?)?"
)
_FUNCTION = re.compile("pi|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|mod|inf|infinity|or|and")
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "千": 3, "万": 4, "亿": 8}
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_MATHEMATICS = re.compile(r"[\\\d=+*/^<>|_{}∞√]|\b(?:pi|sqrt|infinity|inf|oo)\b", re.IGNORECASE)
_PLACES = 6

# The first spelling is the name of the unit. Answers differ if they have different units of this list; other units
# are ignored.
_SPELLINGS = """
km kilometre kilometer 公里 千米|m metre meter 米|cm centimetre centimeter 厘米|mm millimetre millimeter 毫米
mile mi 英里|foot feet ft|inch in|yard yd|kg kilogram kilo 公斤 千克|g gram 克|mg milligram|pound lb|ounce oz
l litre liter 升|ml millilitre milliliter 毫升|hour h hr 小时|minute min 分钟 分|second s sec 秒
day 天|week 周|month 个月|year yr 年|dollar $ usd 美元|euro € eur 欧元|£ gbp|cent|yuan rmb 元|yen 円
° degree \\circ ∘ 度
""".replace("\n", "|")
_UNITS = {name: names.split()[0] for names in _SPELLINGS.strip("|").split("|") for name in names.split()}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written: its `value` (50 for "50%", with `percent`), its decimal `places` (None for a
    fraction, which is exact) and its `unit` ("" for none)."""

    value: Fraction
    percent: bool = False
    places: int | None = 0
    unit: str = ""


@lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    """An answer in ASCII and plain LaTeX: digits of any script, signs, spacing and wrappers are converted.

    Unicode superscripts become powers. Dollar signs and brackets around mathematics, emphasis and the final full
    stop are removed.
    """
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text).replace("\N{FRACTION SLASH}", "/")
    text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    text = text.translate(_SIGNS).replace("{,}", ",")
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = _SPACES.sub(" ", text.replace(r"\!", ""))
    text = re.sub(r"\\(?:left|right)(?![a-z])|\\displaystyle", "", text)
    text = _WRAPPED.sub(r"\1", text).replace(r"\%", "%").replace(r"\$", "$")
    text = re.sub(r"\s+", " ", text).strip(' *`"\n')
    text = re.sub(r"(?<=[^.])[.,;。，]+$", "", text).strip(' *`"')
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inside = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inside and opening not in inside:
            return inside.strip(" .")
    return text


@lru_cache(maxsize=4096)
def read_number(text: str) -> Number | None:
    """The number in a text from `tidy`, with its sign, currency, percent or unit; None for other texts."""
    match = _NUMBER.match(text) if len(text) <= 200 else None
    if match is None or not _REST.fullmatch(match["rest"]):
        return None
    try:
        value, places = _value(match)
    except ZeroDivisionError:
        return None
    words = match["rest"].strip()
    first, _, others = words.partition(" ")
    if (power := _SCALES.get(first.casefold())) is not None:
        value, words, places = value * 10**power, others, None if places is None else max(0, places - power)
    unit = _unit(words, match["rest"])
    if unit is None:
        return None
    return Number(value, bool(match["percent"]), places, unit or _unit(match["currency"], "") or "")


def same_number(one: Number, other: Number) -> bool:
    """Whether two numbers are the same.

    A decimal with at least 6 places equals the numbers that round to it (0.333333 is 1/3, but 0.33 is not). A
    percentage equals both the fraction and the plain number: 50% is 0.5, and also 50, the answer to "how many
    percent". Numbers with two different known units differ.
    """
    if one.unit in _UNITS and other.unit in _UNITS and one.unit != other.unit:
        return False
    if one.percent != other.percent:
        share, plain = (one, other) if one.percent else (other, one)
        whole = Number(share.value, places=share.places)
        part = Number(share.value / 100, places=None if share.places is None else share.places + 2)
        return _close(whole, plain) or _close(part, plain)
    return _close(one, other)


def is_words(text: str) -> bool:
    """Whether a text from `tidy` consists of words, to be compared as text: "Tuesday", but not "2x" or "pi"."""
    return bool(_LETTERS.search(text)) and not _MATHEMATICS.search(text)


def _value(match: re.Match[str]) -> tuple[Fraction, int | None]:
    sign = -1 if (match["sign"] == "-") != bool(match["minus"]) else 1
    power = int((match["power"] or "0").strip("{}"))
    if match["bottom"] or match["under"]:
        part = Fraction(int(match["top"] or match["over"]), int(match["bottom"] or match["under"]))
        return sign * (part + int(match["mixed"] or 0)) * Fraction(10) ** power, None
    decimals = (match["decimals"] or match["point"] or "").removeprefix(".")
    whole = re.sub(r"\D", "", match["whole"] or "")
    value = Fraction(int((whole or "0") + decimals), 10 ** len(decimals))
    return sign * value * Fraction(10) ** power, max(0, len(decimals) - power)


def _unit(words: str, written: str) -> str | None:
    """The unit in `words`, "" for none, None if they are part of the mathematics, as in 5x.

    `written` is the whole text after the number: its first space and its length distinguish an unknown unit from a
    variable.
    """
    unit = re.sub(r"^[\^{\s]+|[}\s.]+$", "", words.casefold())
    known = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    if known or not unit:
        return known or ""
    first = re.split(r"[\W\d_]", unit, maxsplit=1)[0]
    if _FUNCTION.fullmatch(first) or len(unit.split()) > 3:
        return None
    if first.isascii() and first not in _UNITS and (len(first) < 3 or not written.startswith(" ")):
        return None
    return text_key(unit)


def _close(one: Number, other: Number) -> bool:
    if one.value == other.value:
        return True
    places = [number.places for number in (one, other) if number.places is not None]
    fewest = min(places, default=0)
    return fewest >= _PLACES and abs(one.value - other.value) <= Fraction(1, 2 * 10**fewest)
