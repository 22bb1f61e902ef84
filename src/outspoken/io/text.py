"""Cutting texts to a length."""

from __future__ import annotations

__all__ = ["one_line", "shorten"]


def shorten(text: str, most: int) -> str:
    """The text, cut to `most` characters; an ellipsis, which counts as one of them, marks the cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str, most: int = 120) -> str:
    """The text on one line, with single spaces, cut to `most` characters."""
    return shorten(" ".join(text.split()), most)
