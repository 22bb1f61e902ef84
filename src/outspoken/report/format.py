"""Figures as they are written."""

from __future__ import annotations

__all__ = ["number"]


def number(value: float, *, like: float | None = None) -> str:
    """A figure with about three digits and a real minus; `like` gives the decimals of another figure."""
    if value == 0 and like is None:
        return "0"
    size = abs(value if like is None else like)
    if 0 < size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")
