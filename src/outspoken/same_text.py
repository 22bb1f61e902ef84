"""When two texts count as the same response."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["text_key"]

_OPENERS = "\"'`*_¿¡ "
_CLOSERS = ".,;:!?\"'`…。．，、；：！？·*_ "
_OPENING = frozenset(("Ps", "Pi", "Pf"))
_CLOSING = frozenset(("Pe", "Pi", "Pf"))


def text_key(text: str) -> str:
    """The normalised form of a text: two texts with the same key count as the same response.

    The text in Unicode compatibility form (NFKC) and case-folded, with single spaces, without quotes and brackets
    on both sides or sentence punctuation at the end. Signs that carry meaning stay, as in "C#", "-5" and ".NET". A
    text that consists of punctuation is its own key.
    """
    return _cached(text) if len(text) <= _CACHED_LENGTH else _key(text)


def _key(text: str) -> str:
    if text.isascii():
        folded = " ".join(text.lower().split())
        return folded.lstrip(_OPENERS + "([{").rstrip(_CLOSERS + ")]}") or folded
    normal = unicodedata.normalize("NFKC", text)
    folded = " ".join(unicodedata.normalize("NFKC", normal.casefold()).split())
    start, end = 0, len(folded)
    while start < end and (folded[start] in _OPENERS or unicodedata.category(folded[start]) in _OPENING):
        start += 1
    while end > start and (folded[end - 1] in _CLOSERS or unicodedata.category(folded[end - 1]) in _CLOSING):
        end -= 1
    return folded[start:end] or folded


# The key of a candidate is computed several times: when it is placed, merged with equal ones and drawn.
_CACHED_LENGTH = 2_000
_cached = lru_cache(maxsize=1024)(_key)
