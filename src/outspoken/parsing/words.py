"""The words by which running text is understood, from `words.toml`."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files

__all__ = ["alternatives", "pattern"]


@lru_cache(maxsize=1)
def _words() -> dict[str, list[str]]:
    return tomllib.loads((files(__package__) / "words.toml").read_text(encoding="utf-8"))


def pattern(name: str, *, grouped: bool = False) -> str:
    """The words of this name as the alternatives of a regular expression; `grouped`: see `alternatives`."""
    words = "|".join(_words()[name])
    return alternatives(words) if grouped else words


def alternatives(words: str) -> str:
    """Words with bars between them as the alternatives of a regular expression, the longest first.

    They are grouped by their first sign and tried only before one of those: most positions of a text have no word.
    """
    groups: dict[str, list[str]] = {}
    for word in sorted(words.split("|"), key=len, reverse=True):
        groups.setdefault(word[0], []).append(word[1:])
    parts = (f"{first}(?:{'|'.join(rests)})" for first, rests in groups.items())
    return f"(?=[{''.join(groups)}])(?:{'|'.join(parts)})"
