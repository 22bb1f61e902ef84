"""Limits for figures, such as a test in continuous integration has: which groups lie beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.text import plural
from outspoken.measure.analysis import Analysis
from outspoken.measure.measured import MeasuredGroup
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import JsonResult, group_label
from outspoken.report.format import number, with_interval

__all__ = ["EMBEDDED", "GateResult", "Limit", "LimitFailure", "LimitUnchecked", "check", "limits"]

EMBEDDED = ("semantic_diversity", "distinct_meanings", "vendi")
"""The measures that need embeddings."""


@dataclass(frozen=True, slots=True)
class Limit(JsonResult):
    """A limit of a measure, in the unit in which tables show it: figures must not be `over` it, or under it."""

    measure: str
    value: float
    over: bool


@dataclass(frozen=True, slots=True)
class LimitFailure(JsonResult):
    """A figure of the group beyond its limit, in the unit of the tables; `text` is the sentence about it."""

    group: str
    limit: Limit
    value: float
    low: float
    high: float
    note: str
    text: str


@dataclass(frozen=True, slots=True)
class LimitUnchecked(JsonResult):
    """A figure of the group that could not be checked, and why; `text` is the sentence about it."""

    group: str
    limit: Limit
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class GateResult(JsonResult):
    """The figures that are beyond their limits, and those that could not be checked."""

    failures: tuple[LimitFailure, ...]
    missing: tuple[LimitUnchecked, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure was checked and lies within its limit."""
        return not self.failures and not self.missing

    @property
    def lines(self) -> tuple[str, ...]:
        """A sentence for each failure, then one for each figure that could not be checked."""
        return (*(one.text for one in self.failures), *(one.text for one in self.missing))


def limits(
    fail_under: Mapping[str, float] | None = None, fail_over: Mapping[str, float] | None = None
) -> tuple[Limit, ...]:
    """The limits by names of measures.

    Raises `UsageError` for an unknown measure, and a limit that is no number.
    """
    found: list[Limit] = []
    for over, given in ((False, fail_under or {}), (True, fail_over or {})):
        if not isinstance(given, Mapping):
            raise UsageError(f"limits are a mapping such as {{'distinct_answers': 5}}, not {given!r}")
        for name, value in given.items():
            if name not in MEASURES:
                raise UnknownNameError("measure", name, MEASURES)
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise UsageError(f"the limit of {name} must be a finite number, not {value!r}")
            found.append(Limit(name, float(value), over))
    return tuple(found)


def check(analysis: Analysis, wanted: tuple[Limit, ...], *, strict: bool = False) -> GateResult:
    """Compare the figures of every group with the limits.

    A figure is beyond its limit if its whole 95 % interval is, with `strict` if any of it is. A figure cannot be
    checked if it has no interval, or if its limit is more than the number of responses to a prompt allows.
    """
    failures: list[LimitFailure] = []
    missing: list[LimitUnchecked] = []
    groups = [measured.group for measured in analysis.groups]
    for measured in analysis.groups:
        label = group_label(measured.group, groups)
        for limit in wanted:
            name = f"{label}: {MEASURES[limit.measure].title} ({limit.measure})"
            if reason := _why_unchecked(measured, limit):
                text = f"{name} cannot be checked: {reason}"
                missing.append(LimitUnchecked(label, limit, reason, text))
            elif (failure := _failure(measured, limit, strict, label, name)) is not None:
                failures.append(failure)
    return GateResult(tuple(failures), tuple(missing))


_REMEDIES = {
    **dict.fromkeys(EMBEDDED, "name an embedder, such as minilm"),
    "quality": "name a judge",
    **dict.fromkeys(("distinct_k", "utility_k"), "give rows with a partition"),
}
_COUNTS = ("distinct_answers", "distinct_meanings", "effective_size", "effective_size_shares", "distinct_k")
"""The measures that are at most the number of responses to a prompt."""


def _why_unchecked(measured: MeasuredGroup, limit: Limit) -> str:
    """Why a figure cannot be checked, and what to do; "" if it can."""
    name, figure = limit.measure, measured.figures.get(limit.measure)
    if figure is None:
        reason = measured.undefined.get(name, "it does not exist for these responses")
        remedy = _REMEDIES.get(name) if name in measured.not_given else None
        return f"{reason}: {remedy}" if remedy else reason
    most = max((len(prompt.responses) for prompt in measured.group.prompts), default=0)
    if name in _COUNTS and not limit.over and limit.value > most:
        responses = plural(most, "response")
        return f"{responses} to a prompt cannot reach the limit of {number(limit.value)}: give more responses"
    if any(end is None or not math.isfinite(end) for end in (figure.value, figure.low, figure.high)):
        return f"there is no interval ({figure.note or 'not finite'}): give more responses, or more prompts"
    return ""


def _failure(measured: MeasuredGroup, limit: Limit, strict: bool, label: str, name: str) -> LimitFailure | None:
    """The failure, if the figure is beyond its limit."""
    figure = measured.figures[limit.measure].scaled(MEASURES[limit.measure].scale)
    if figure.low is None or figure.high is None:
        return None
    nearest, farthest = (figure.low, figure.high) if limit.over else (figure.high, figure.low)
    end = farthest if strict else nearest
    if not (end > limit.value if limit.over else end < limit.value):
        return None
    side = "above" if limit.over else "below"
    whole = nearest > limit.value if limit.over else nearest < limit.value
    text = f"{name} is {with_interval(figure.value, figure.low, figure.high)}, "
    text += f"{side} the limit of {number(limit.value)}" + ("" if whole else " in part")
    return LimitFailure(label, limit, figure.value, figure.low, figure.high, figure.note, text)
