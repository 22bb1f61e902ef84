"""Numbers in one form everywhere: in tables in the terminal, pages, charts and sentences."""

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
    """A number with about three significant digits and a real minus sign.

    `like` is another number whose decimals are used, so that a column or an interval is written alike. From a
    billion on, and below 0.001, a number is written as a power of ten.
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
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", _MINUS)


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
    """`value [low, high]`, all with the same decimals; with `plus` as differences are written."""
    if value is None:
        return NONE
    if low is None or high is None:
        return (signed if plus else number)(value)
    text, *ends = alike(value, low, high, plus=plus)
    return f"{text} [{', '.join(ends)}]"


def alike(value: float, *others: float, plus: bool = False) -> list[str]:
    """Numbers that are read together, such as a figure and the ends of its interval, with the same decimals.

    They are those that suit the first number, or the largest if the first is less than a tenth of it.
    """
    largest = max(map(abs, others), default=0.0)
    like = value if abs(value) >= largest / 10 else largest
    small = 0.001 <= abs(like) < 0.01  # `number` would leave one significant digit
    return [
        _small(each, plus) if small else (signed if plus else number)(each, like=like) for each in (value, *others)
    ]


def _small(value: float, plus: bool) -> str:
    text = f"{value:.4f}"
    text = text.lstrip("-") if float(text) == 0 else text.replace("-", _MINUS)
    return f"+{text}" if plus and value > 0 else text


def p_value(p: float | None) -> str:
    """A p value with three decimals, `< 0.001` below that."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equation(p: float | None) -> str:
    """A p value within a sentence: `p = 0.012`, `p < 0.001`, or `no p`."""
    if p is None:
        return "no p"
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def times(ratio: float) -> str:
    """How many times as much, with two significant digits or more: `0.51 times`, `5.4 times`, `120 times`."""
    return f"{ratio:,.{0 if ratio >= 100 else 1 if ratio >= 1 else 2}f} times"


def percent(value: float | None, *, decimals: int = 1) -> str:
    """A share from 0 to 1 as a percentage."""
    return NONE if value is None else f"{100 * value:.{decimals}f} %".replace("-", _MINUS)


def share(part: float, total: float | None) -> str:
    """`part` of `total` as a percentage that is 0 % or 100 % only if it is exactly that."""
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
    if value == 0 or value >= 0.1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"


def duration(seconds: float | None) -> str:
    """A time span: `4.2 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def file_size(size: int) -> str:
    """Bytes as kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
