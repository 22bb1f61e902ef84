"""The signs and keys of almost-JSON: brackets, quotes and commas of any script, and keys in any notation."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain

__all__ = [
    "BLANK",
    "CLOSERS",
    "CLOSING_QUOTES",
    "COMMAS",
    "OPENERS",
    "Key",
    "is_known",
    "key_at",
    "weight_name",
]

BLANK = r"\s\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\xad"
"""Blanks and signs without width, for a class of a regular expression."""
COMMAS = ",，،、;；"
OPENERS = {"{": "}", "｛": "}", "[": "]", "［": "]", "【": "]", "(": ")", "（": ")"}
CLOSERS = {"}": "}", "｝": "}", "]": "]", "］": "]", "】": "]", ")": ")", "）": ")"}
CLOSING_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": '“”"',
    "”": "”",
    "„": "“”",
    "«": "»",
    "»": "«»",
    "‹": "›",
    "›": "‹›",
    "‘": "’'",
    "‚": "‘’",
    "「": "」",
    "『": "』",
    "〝": "〞〟",
    "＂": "＂",
    "＇": "＇",
}
"""The quotes that may end a string which begins with this one."""
KNOWN = TEXTS.keys() | WEIGHTS.keys() | LISTS | REASONING
_KEY = re.compile(
    r"(?:\"([^\"\\\n]{0,120}+)\"|'([^'\\\n]{0,120}+)'"
    r"|[“”„«»‹›‘‚「『〝＂＇`]([^“”„«»‹›‘’「」『』〞〟＂＇`\"\\\n]{0,120}+)[“”«»‹›‘’」』〞〟＂＇`\"]"
    r"|\[[\"']([^\"'\\\n]{0,120}+)[\"']\]"
    r"|:?((?:[^\W\d]|\$)[\w$-]{0,60}+(?:[ ][\w$-]{1,40}+){0,4}+|\d{1,4}+)\??)"
    rf"[{BLANK}]*+(?:=>|->|:=|[:：=＝])"
)
_HALF_KEY = re.compile(
    rf"[\"'“‘«「『]{{0,2}}([^\W\d][\w -]{{0,40}}+)[\"'”“`’»」』]{{0,2}}[{BLANK}]*+[:：=]"
    r"|[\"'“]([^\W\d][\w -]{0,40}+)[\"'”][ \t]*+(?=[\"'\[{\d])"
)
_WORD = re.compile(r"[_().\[\]:=,/-]+")
_WEIGHT_WORDS = WEIGHTS.keys() | {
    *("estimated", "stated", "level", "value", "subjective", "relative", "estimate", "number", "rating", "my"),
    *("in", "of", "as", "the", "to", "response", "answer", "text", "item", "candidate", "0", "1", "100", "final"),
}
_USUAL_WEIGHTS = ("probability", "confidence", "likelihood", "probabilities", "percentage")
_INDEX = re.compile(r"_?\d{1,4}\Z|_[a-j]\Z")


class Key(NamedTuple):
    """A key of an object, the position after its colon, and what was wrong with it: "" or the name of a repair."""

    name: str
    end: int
    repair: str
    bare: bool = False


_KEY_REPAIRS = {1: "", 2: "python-literal", 3: "smart-quotes", 4: "python-literal", 5: "unquoted"}


def key_at(text: str, at: int) -> Key | None:
    """The key at a position, in any notation; one that is damaged must be a known name."""
    match = _KEY.match(text, at)
    if match is not None:
        group = match.lastindex or 1
        repair = "python-literal" if match[0][-1] in "=>＝" else _KEY_REPAIRS[group]
        return Key(match[group], match.end(), repair, group == 5)
    match = _HALF_KEY.match(text, at)
    if match is None or not is_known(match[1] or match[2]):
        return None
    return Key(match[1] or match[2], match.end(), "missing-quote" if match[1] else "missing-comma")


@lru_cache(maxsize=4096)
def weight_name(key: str) -> str | None:
    """The name of the weight that a key stands for: "percent" for "probability (%)", "nll" for "nll", or None."""
    name = plain(key)
    if name in WEIGHTS:
        return name
    words = [word for word in _WORD.split(name) if word]
    if not 1 < len(words) < 5 or any(word not in _WEIGHT_WORDS for word in words):
        close = get_close_matches(name, _USUAL_WEIGHTS, 1, 0.85) if 5 < len(name) < 25 else []
        return close[0] if close and name not in TEXTS else None
    found = [word for word in words if word in WEIGHTS]
    return next((word for word in found if WEIGHTS[word] != "probability"), found[0] if found else None)


@lru_cache(maxsize=4096)
def is_known(key: str) -> bool:
    """Whether a key is one that models use, perhaps with a number or a letter after it."""
    name = plain(key)
    return name in KNOWN or _INDEX.sub("", name) in KNOWN or weight_name(key) is not None
