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
    """What two texts must share to count as the same response.

    Unicode compatibility form (NFKC), case folded, blanks made single, quotes and brackets trimmed on both sides
    and sentence punctuation at the end. Signs that carry meaning stay: "C#", "-5" and ".NET" are themselves. A
    text of nothing but punctuation is its own key.
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


# A candidate's key is asked for again soon: while it is placed, while equal ones are merged, while it is drawn.
_CACHED_LENGTH = 2_000
_cached = lru_cache(maxsize=1024)(_key)
