"""Limits for figures, such as a test in continuous integration has: which groups lie beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from outspoken.errors import UnknownNameError, UsageError
from outspoken.measure.analysis import Analysis
from outspoken.measure.measured import MeasuredGroup
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import JsonResult, group_label
from outspoken.report.format import number, with_interval

__all__ = ["EMBEDDED", "GateResult", "Limit", "check", "limits"]

EMBEDDED = ("semantic_diversity", "distinct_meanings", "vendi")
"""The measures that need embeddings."""


@dataclass(frozen=True, slots=True)
class Limit(JsonResult):
    """A limit of a measure, in the unit in which tables show it: figures must not be `over` it, or under it."""

    measure: str
    value: float
    over: bool


@dataclass(frozen=True, slots=True)
class GateResult(JsonResult):
    """A sentence for each figure that is beyond its limit, and one for each that could not be checked."""

    failures: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure was checked and lies within its limit."""
        return not self.failures and not self.missing


def limits(
    fail_under: Mapping[str, float] | None = None, fail_over: Mapping[str, float] | None = None
) -> tuple[Limit, ...]:
    """The limits by names of measures.

    Raises `UsageError` for an unknown measure, and a limit that is no number.
    """
    found = []
    for over, given in ((False, fail_under or {}), (True, fail_over or {})):
        for name, value in given.items():
            if name not in MEASURES:
                raise UnknownNameError("measure", name, MEASURES)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f"the limit of {name} must be a finite number, not {value!r}")
            found.append(Limit(name, float(value), over))
    return tuple(found)


def check(analysis: Analysis, wanted: tuple[Limit, ...], *, strict: bool = False) -> GateResult:
    """Compare the figures of every group with the limits.

    A figure is beyond its limit if its whole 95 % interval is, with `strict` if any of it is. A figure without an
    interval cannot be checked.
    """
    failures, missing = [], []
    groups = [measured.group for measured in analysis.groups]
    for measured in analysis.groups:
        label = group_label(measured.group, groups)
        for limit in wanted:
            failure, reason = _check(measured, limit, strict)
            name = f"{label}: {MEASURES[limit.measure].title} ({limit.measure})"
            if failure:
                failures.append(f"{name} is {failure}")
            if reason:
                missing.append(f"{name} cannot be checked: {reason}")
    return GateResult(tuple(failures), tuple(missing))


def _check(measured: MeasuredGroup, limit: Limit, strict: bool) -> tuple[str, str]:
    """Why a figure is beyond its limit, and why it cannot be checked; "" if neither."""
    figure = measured.figures.get(limit.measure)
    if figure is None:
        return "", measured.undefined.get(limit.measure, "it does not exist for these responses")
    scaled = figure.scaled(MEASURES[limit.measure].scale)
    if scaled.low is None or scaled.high is None:
        return "", f"there is no interval ({figure.note})"
    nearest, farthest = (scaled.low, scaled.high) if limit.over else (scaled.high, scaled.low)
    end = farthest if strict else nearest
    if not (end > limit.value if limit.over else end < limit.value):
        return "", ""
    side = "above" if limit.over else "below"
    text = with_interval(scaled.value, scaled.low, scaled.high)
    return f"{text}, {side} the limit of {number(limit.value)}" + (" in part" if strict else ""), ""
