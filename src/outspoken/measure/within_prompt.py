"""Intervals and comparisons with the prompts as they are: the draws of each prompt are resampled, not the prompts.

With one prompt nothing else can be resampled, and with few prompts it answers another question: whether two groups
differ on these prompts, and not on prompts like these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import norm
from scipy.stats import t as student

from outspoken.errors import UndefinedError
from outspoken.measure.answer_table import in_blocks
from outspoken.measure.equal_size import at_size, generator, size_to_compare
from outspoken.measure.estimates import Comparison, Estimate
from outspoken.measure.measure_definition import MeasureDefinition, compute
from outspoken.measure.measure_input import Basis, MeasureInput
from outspoken.measure.sets import weights_of
from outspoken.measure.statistics import LEVEL, mean_estimate, middle, plugin_estimate, wilson

__all__ = ["compare_within", "estimate_within"]

Floats = NDArray[np.float64]

_RESAMPLES = 2_000
_PARTS = 30
_MAX_DRAWS_OF_SLOW_FIGURE = 2_000

_NO_CALLS = (
    "no interval: the responses have probabilities and no call; number the calls in a column `call` so that they "
    "can be resampled"
)
# Measures that depend on answers that never appeared. Resampled draws do not contain these, so intervals would
# cover the truth in less than half of all samples (see `plugin_estimate`).
_NO_INTERVAL = ("coverage", "kl_reference", "kl_reference_shared")
_NO_INTERVAL_NOTE = (
    "no interval with one prompt: it depends on the answers that never appeared, which no resampling knows"
)
_LOW_NOTE = "resampled draws only hold answers that appeared: the interval lies low"


def estimate_within(measure: MeasureDefinition, inputs: MeasureInput, seed: int) -> Estimate:
    """The figure of one prompt, with an interval from resampling its draws, or its calls if these hold several
    responses.

    Figures of answers are resampled directly: the number of different ones with the percentiles (which lie low, as
    resampled draws repeat answers), the others as `plugin_estimate` does. The others have the interval of the
    delete-a-group jackknife. The `note` says why there is none.
    """
    total, weight = compute(measure, inputs)
    value = total / weight
    unit, units = _units(inputs, measure.basis)
    if measure.per_response:
        each = np.asarray(measure.formula(inputs), dtype=np.float64)
        return mean_estimate(each, bounds=measure.bounds, step=measure.step, unit="draw")
    if measure.name in _NO_INTERVAL:
        return Estimate(value, None, None, units, unit, _NO_INTERVAL_NOTE)
    if units < 2:
        return Estimate(
            value, None, None, units, unit, f"one {unit}: nothing to resample" if unit == "draw" else _NO_CALLS
        )
    if measure.name == "precision" and unit == "draw":
        return Estimate(value, *wilson(round(value * units), units), units, unit)
    if measure.rows is None:
        return _bounded(measure, _jackknife(measure, inputs, value, seed))
    if measure.basis != "shares" and measure.step is not None:
        low, high = middle(_resampled(measure, inputs, None, seed))
        return Estimate(value, low, high, units, unit, _LOW_NOTE if low < high <= value else "")
    formula, columns, by_unit = measure.rows, inputs.columns_of(measure.basis), _unit_rows(inputs, measure.basis)

    def statistic(times: NDArray[np.int32]) -> Floats:
        return in_blocks(formula, columns, _tables(by_unit, times))

    return _bounded(measure, plugin_estimate(statistic, units, resamples=_RESAMPLES, seed=seed, unit=unit))


def compare_within(
    measure: MeasureDefinition,
    pairs: Sequence[tuple[MeasureInput, MeasureInput]],
    seed: int,
) -> Comparison | None:
    """Two groups on the same prompts, a minus b at equal numbers of responses, with the prompts as they are.

    The difference is the mean over the prompts. Its standard error comes from resampling the draws of each prompt
    and group, at the compared number of responses; interval and p value are those of the normal distribution. None
    if the measure is not one of answers, or its interval does not exist (see `estimate_within`).
    """
    if measure.rows is None or measure.name.startswith("kl_"):
        return None
    differences, variances, units = [], [], []
    for a, b in pairs:
        if min(_units(side, measure.basis)[1] for side in (a, b)) < 2:
            return None
        size = size_to_compare(measure, a, b)
        figures = []
        for side in (a, b):
            figure = compute(measure, side) if size is None else at_size(measure, side, size, seed)
            if figure is None:
                return None
            figures.append(figure[0] / figure[1])
            variances.append(float(np.var(_resampled(measure, side, size, seed))))
            units.append(_units(side, measure.basis))
        differences.append(figures[0] - figures[1])
    if not differences:
        return None
    error = math.sqrt(sum(variances)) / len(differences)
    difference = float(np.mean(differences))
    prompts = "one prompt" if len(pairs) == 1 else f"these {len(pairs)} prompts"
    unit = "call" if any(name == "call" for name, _ in units) else "draw"
    them = "it" if len(pairs) == 1 else "them"
    note = f"{prompts}: the {unit}s of each group are resampled, so the result holds for {them} alone"
    count = min(count for _, count in units)
    if not error > 0:
        return Comparison(
            difference, difference, difference, None, None, None, count, None, f"{note}; no variation"
        )
    reach = float(norm.isf(LEVEL / 2)) * error
    p = float(2 * norm.sf(abs(difference) / error))
    return Comparison(difference, difference - reach, difference + reach, p, p, None, count, None, note)


def _units(inputs: MeasureInput, basis: Basis) -> tuple[str, int]:
    """What is resampled, and how many of it there are: the calls if one of them holds several responses."""
    calls = [response.call for response in inputs.responses]
    named = [call for call in calls if call is not None]
    if not named and not (basis == "shares" and inputs.states_shares):
        return "draw", len(calls)
    distinct = len(set(named)) + (1 if basis == "shares" else calls.count(None)) * (None in calls)
    if distinct < 2 and not (basis == "shares" and inputs.states_shares):
        return "draw", len(calls)  # the answers of a single list, or counts, are taken as draws
    return ("draw" if distinct == len(calls) else "call"), distinct


def _unit_rows(inputs: MeasureInput, basis: Basis) -> sparse.csr_matrix:
    """The row of each unit in a table of answers, of shape (units, answers)."""
    numbers: dict[object, int] = {}
    unit, _ = _units(inputs, basis)
    at = [
        numbers.setdefault(
            position
            if unit == "draw" or (response.call is None and basis != "shares")
            else ("call", response.call),
            len(numbers),
        )
        for position, response in enumerate(inputs.responses)
    ]
    weights = weights_of(inputs.responses) if basis == "shares" else np.ones(len(at))
    shape = (len(numbers), len(inputs.columns_of(basis).names))
    return sparse.csr_matrix((weights, (at, inputs.positions(basis))), shape=shape)


def _tables(by_unit: sparse.csr_matrix, times: NDArray[np.signedinteger]) -> Floats:
    return np.asarray((by_unit.T @ times.T.astype(np.float64)).T)


def _resampled(measure: MeasureDefinition, inputs: MeasureInput, size: int | None, seed: int) -> Floats:
    """The figures of resamples with as many responses as `size`, or as there are."""
    assert measure.rows is not None
    _, units = _units(inputs, measure.basis)
    random = generator(seed, size or 0, "resample", *inputs.texts)
    stated = measure.basis == "shares" and inputs.states_shares
    drawn = units if size is None or stated else max(1, round(size * units / len(inputs.responses)))
    times = random.multinomial(drawn, np.full(units, 1 / units), _RESAMPLES)
    table = _tables(_unit_rows(inputs, measure.basis), times)
    if stated and size is not None:
        table = random.multinomial(size, table / table.sum(axis=1, keepdims=True)).astype(np.float64)
    figures = in_blocks(measure.rows, inputs.columns_of(measure.basis), table)
    return figures[np.isfinite(figures)]


def _jackknife(measure: MeasureDefinition, inputs: MeasureInput, value: float, seed: int) -> Estimate:
    """The interval from leaving out one of at most 30 random groups of responses in turn, with Student's t."""
    count = len(inputs.responses)
    if count > _MAX_DRAWS_OF_SLOW_FIGURE:
        note = f"no interval: more than {_MAX_DRAWS_OF_SLOW_FIGURE:,} responses to one prompt"
        return Estimate(value, None, None, count, "draw", note)
    groups = min(count, _PARTS)
    order = generator(seed, count, "jackknife", *inputs.texts).permutation(count)
    figures = []
    for part in range(groups):
        kept = np.sort(np.delete(order, np.arange(part, count, groups)))
        try:
            total, weight = compute(measure, inputs.subset(kept.tolist()))
        except UndefinedError:
            return Estimate(value, None, None, count, "draw", "too few responses for an interval")
        figures.append(total / weight)
    spread = math.sqrt((groups - 1) * float(np.var(figures)))
    reach = float(student.isf(LEVEL / 2, groups - 1)) * spread
    return Estimate(value, value - reach, value + reach, count, "draw")


def _bounded(measure: MeasureDefinition, estimate: Estimate) -> Estimate:
    if measure.bounds is None or estimate.low is None or estimate.high is None:
        return estimate
    low, high = (min(max(end, measure.bounds[0]), measure.bounds[1]) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)
