"""Intervals for figures of one prompt with known answers: its calls are resampled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import sets
from outspoken.measure.measures import MeasureDefinition, MeasureInput, compute
from outspoken.measure.statistics import Comparison, Estimate, plugin_estimate
from outspoken.measure.values import Response

__all__ = ["compare_calls", "estimate_from_calls"]

# Fewer than for prompts, because each resample counts the answers again.
_RESAMPLES = 2_000


def estimate_from_calls(measure: MeasureDefinition, inputs: MeasureInput, seed: int) -> Estimate | None:
    """The figure of one prompt, with an interval from resampling its calls; None for fewer than two calls."""
    calls: dict[int | None, list[Response]] = {}
    for response in inputs.responses:
        calls.setdefault(response.call, []).append(response)
    if len(calls) < 2 or None in calls:
        return None
    # For each call, the weights of its answers, and how often each answer appears in it.
    weights = [sets.answer_weights(call, inputs.answers.label) for call in calls.values()]
    counts = [MeasureInput(tuple(call), inputs.answers).counts for call in calls.values()]

    def statistic(resampled: NDArray[np.integer]) -> NDArray[np.floating]:
        figures = np.empty(len(resampled))
        for row, times in enumerate(resampled):
            resample = MeasureInput(inputs.responses, inputs.answers)
            resample.weights, resample.counts = _total(weights, times), _total(counts, times)
            try:
                figures[row], _ = compute(measure, resample)
            except UndefinedError:
                figures[row] = math.nan
        return figures

    estimate = plugin_estimate(statistic, len(calls), resamples=_RESAMPLES, seed=seed, unit="call")
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = (min(max(end, 0.0), measure.maximum) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def _total(parts: Sequence[Mapping[str, float]], times: Iterable[int]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part, count in zip(parts, times, strict=True):
        if count:
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + int(count) * value
    return total


def compare_calls(a: Estimate, b: Estimate) -> Comparison:
    """Compare two figures of one prompt, each with an interval from its own calls.

    The interval of the difference follows from the two intervals by Zou and Donner (2008, Statistics in Medicine
    27). There is no test, because nothing is paired, and the calls of two methods are not exchangeable.
    """
    difference = a.value - b.value
    low = high = None
    if a.low is not None and a.high is not None and b.low is not None and b.high is not None:
        # An interval that is corrected for bias may not contain its figure.
        low = difference - math.hypot(max(a.value - a.low, 0), max(b.high - b.value, 0))
        high = difference + math.hypot(max(a.high - a.value, 0), max(b.value - b.low, 0))
    note = "one prompt: the interval is from the calls of each group, and there is no test"
    return Comparison(difference, low, high, None, None, None, min(a.units, b.units), None, note)
