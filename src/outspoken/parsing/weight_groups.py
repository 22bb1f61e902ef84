"""The weight in the text between brackets, bold or backticks: alone, labelled, or one of several parts."""

from __future__ import annotations

import re

from outspoken.parsing.numbers import number
from outspoken.parsing.weight_patterns import (
    AFTERWARDS,
    DIGIT,
    LABELLED,
    NO_NUMBERS,
    SYMBOL,
    WEIGHT_FIELD,
    LineWeight,
    ascii_digits,
    weight_of,
)

__all__ = ["INDEX", "group_content"]

_PARTS = re.compile(r"\s*(?:[;；、|·•]|[,，](?!\d)|(?<!\d)[,，]|\s[-–—]\s)\s*")
_UNKNOWN_LABEL = re.compile(r"[^\W\d][^\d:：=.]{1,30}(?:[:：=]|\.(?=\s))\s*(?P<value>[^:：=]{1,30})")
_ONLY_DIGITS = re.compile(r"[\d.,\s%]+")
INDEX = re.compile(r"[,;:]?\d{1,3}\s?[.)]")


def group_content(content: str) -> LineWeight | None:
    """The weight in the text between brackets, and the rest of it as a note."""
    content = content.strip(" *_`\"'")
    if content[:1] in "([（【" and content[-1:] in ")]）】":
        content = content[1:-1].strip(" *_`\"'")
    if not content or INDEX.fullmatch(content) or (DIGIT.search(content) is None and len(content) > 40):
        return None
    parts = [part for part in _PARTS.split(content) if part]
    if len(parts) < 2:
        return _part(content)
    found = [(at, part) for at, part in ((at, _part(part)) for at, part in enumerate(parts)) if part is not None]
    labelled = [each for each in found if each[1].key is not None]
    chosen = labelled or found
    if len(chosen) != 1:
        return _part(content)
    at, weight = chosen[0]
    if any(_ONLY_DIGITS.fullmatch(ascii_digits(part)) for part in parts[at + 1 :]):
        return LineWeight(content, weight.key)
    weight.note = ", ".join(part.strip("*_ ") for index, part in enumerate(parts) if index != at)
    if weight.key is None and DIGIT.search(weight.note):
        return None
    return weight


def _part(content: str) -> LineWeight | None:
    match = WEIGHT_FIELD.match(content) or SYMBOL.match(content)
    if match is not None:
        value = content[match.end() :].strip(" *_`\"'")
        index = match["index"] or (match.groupdict().get("second") or "")
        if number(value)[0] is not None and len(value) < 60:
            return LineWeight(value, match["key"], index=index)
        if value and (value.lower() in NO_NUMBERS or (DIGIT.match(ascii_digits(value)) and len(value) < 30)):
            return LineWeight(value, match["key"], index=index)
    if weight_of(content):
        return LineWeight(content, None)
    unknown = _UNKNOWN_LABEL.fullmatch(content)
    if unknown is not None and weight_of(unknown["value"]):
        return LineWeight(unknown["value"], "probability")
    after = AFTERWARDS.fullmatch(content) or LABELLED.search(content)
    if after is not None and after.re is AFTERWARDS and number(after["value"])[0] is not None:
        return LineWeight(after["value"], after["key"])
    if after is not None and after.re is LABELLED and weight_of(content[after.end() :]):
        return LineWeight(content[after.end() :], after["key"], note=content[: after.start()].strip(" ,;:"))
    return None
