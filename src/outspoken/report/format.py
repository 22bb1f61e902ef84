"""Numbers as text, in the same form in tables of the terminal, pages, charts and sentences."""

from __future__ import annotations

__all__ = [
    "NONE",
    "alike",
    "count",
    "dollars",
    "duration",
    "file_size",
    "interval",
    "number",
    "p_equation",
    "p_value",
    "percent",
    "share",
    "signed",
    "times",
    "with_interval",
]

NONE = "–"
"""The text for a figure that does not exist."""

_MINUS = "\N{MINUS SIGN}"


def number(value: float, *, like: float | None = None) -> str:
    """A number with about three significant digits and a typographic minus sign.

    With `like`, another number, it has the decimals of that one, so that a column or an interval is written alike.
    Numbers from a billion on and below 0.001 are written with a power of ten.
    """
    if value == 0 and like is None:
        return "0"
    size = abs(value if like is None else like)
    if size >= 1e9 or abs(value) >= 1e9:
        text = f"{value:.3g}"
    elif 0 < size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
    return _with_minus(text)


def _with_minus(text: str) -> str:
    """The text of a number with a typographic minus sign, and without a sign if it is 0."""
    return (text.lstrip("-") if float(text.replace(",", "")) == 0 else text).replace("-", _MINUS)


def signed(value: float, *, like: float | None = None) -> str:
    """A difference: `number` with a plus sign if it is positive."""
    text = number(value, like=like)
    return f"+{text}" if value > 0 else text


def interval(low: float | None, high: float | None, *, like: float | None = None) -> str:
    """`low to high`; empty if an end does not exist."""
    if low is None or high is None:
        return ""
    return f"{number(low, like=like)} to {number(high, like=like)}"


def with_interval(value: float | None, low: float | None, high: float | None, *, plus: bool = False) -> str:
    """`value [low, high]`, all with the same decimals; with `plus`, positive numbers have a plus sign."""
    if value is None:
        return NONE
    if low is None or high is None:
        return (signed if plus else number)(value)
    text, *ends = alike(value, low, high, plus=plus)
    return f"{text} [{', '.join(ends)}]"


def alike(value: float, *others: float, plus: bool = False) -> list[str]:
    """Numbers that are read together, such as a figure and the ends of its interval, with the same decimals.

    The decimals suit the first number, or the largest if the first is less than a tenth of it.
    """
    largest = max(map(abs, others), default=0.0)
    like = value if abs(value) >= largest / 10 else largest
    small = 0.001 <= abs(like) < 0.01  # `number` would leave one significant digit
    texts = []
    for each in (value, *others):
        text = _with_minus(f"{each:.4f}") if small else number(each, like=like)
        texts.append(f"+{text}" if plus and each > 0 else text)
    return texts


def p_value(p: float | None) -> str:
    """A p value with three decimals, `< 0.001` below that."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equation(p: float | None) -> str:
    """A p value within a sentence: `p = 0.012`, `p < 0.001`, or `no p`."""
    if p is None:
        return "no p"
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def times(ratio: float) -> str:
    """A ratio with at least two significant digits: `0.51 times`, `5.4 times`, `120 times`."""
    return f"{ratio:,.{0 if ratio >= 100 else 1 if ratio >= 1 else 2}f} times"


def percent(value: float | None, *, decimals: int = 1) -> str:
    """A share from 0 to 1 as a percentage."""
    return NONE if value is None else _with_minus(f"{100 * value:.{decimals}f}") + " %"


def share(part: float, total: float | None) -> str:
    """`part` of `total` as a percentage, rounded to 0 % or 100 % only if it is exactly that."""
    if not total:
        return NONE
    value = 100 * part / total
    if 0 < value < 1:
        return f"{value:.1f} %" if value >= 0.1 else "< 0.1 %"
    if 99 < value < 100:
        return f"{value:.1f} %" if value <= 99.9 else "> 99.9 %"
    return f"{value:.0f} %"


def count(value: float | None) -> str:
    """A whole number with separators between thousands."""
    return NONE if value is None else f"{value:,.0f}"


def dollars(value: float | None) -> str:
    """US dollars: cents from 10 cents on, two significant digits below."""
    if value is None:
        return NONE
    if value == 0 or round(value, 2) >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"


def duration(seconds: float | None) -> str:
    """A time span: `4.2 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds is None:
        return NONE
    if round(seconds, 1) < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def file_size(size: int) -> str:
    """Bytes as kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
