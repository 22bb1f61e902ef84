"""Figures at a given number of responses, so that two groups are compared at equal numbers.

Most figures of a set of answers depend on its size: different answers grow with it, and the distance of draws from
their own law falls. So the larger of two groups is reduced to the size of the smaller one, many times at random
(rarefaction), and the noise floor is the figure that as many perfect draws would have.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure.answer_table import in_blocks
from outspoken.measure.measure_definition import MeasureDefinition, SumAndWeight, compute
from outspoken.measure.measure_input import MeasureInput
from outspoken.measure.statistics import middle
from outspoken.measure.values import JsonResult

__all__ = ["NoiseFloor", "at_size", "generator", "noise_floor", "size_to_compare"]

_TABLE_DRAWS = 200
_SUBSETS = 30
_FLOOR_DRAWS = 400


def size_to_compare(measure: MeasureDefinition, a: MeasureInput, b: MeasureInput) -> int | None:
    """The number of responses at which two groups are compared on this prompt; None if both stay as they are.

    Stated shares are no draws and have no number. If only one side has stated shares, the other one's number of
    responses counts, and as many answers are drawn from the shares.
    """
    if not measure.grows:
        return None
    sizes = [None if measure.basis == "shares" and side.states_shares else len(side.responses) for side in (a, b)]
    known = [size for size in sizes if size is not None]
    if not known or (len(known) == 2 and known[0] == known[1]):
        return None
    return min(known)


def at_size(measure: MeasureDefinition, inputs: MeasureInput, size: int, seed: int) -> SumAndWeight | None:
    """The mean figure of random sets of `size` responses; None if it does not exist for any of them.

    The sets are drawn without replacement, or from the stated shares with it.
    """
    from_shares = measure.basis == "shares" and inputs.states_shares
    if not from_shares and size == len(inputs.responses):
        return compute(measure, inputs)
    random = generator(seed, size, *inputs.texts)
    if measure.rows is None:
        return _mean_of_subsets(measure, inputs, size, random)
    row = inputs.row("shares" if from_shares else "meanings" if measure.basis == "meanings" else "draws")
    if from_shares:
        table = random.multinomial(size, row / row.sum(), _TABLE_DRAWS)
    else:
        table = random.multivariate_hypergeometric(row.astype(np.int64), size, _TABLE_DRAWS, method="marginals")
    figures = in_blocks(measure.rows, inputs.columns_of(measure.basis), table.astype(np.float64))
    finite = figures[np.isfinite(figures)]
    return (float(finite.mean()), 1.0) if len(finite) else None


def _mean_of_subsets(
    measure: MeasureDefinition, inputs: MeasureInput, size: int, random: np.random.Generator
) -> SumAndWeight | None:
    figures = []
    for _ in range(_SUBSETS):
        chosen = np.sort(random.choice(len(inputs.responses), size, replace=False))
        try:
            total, weight = compute(measure, inputs.subset(chosen.tolist()))
        except UndefinedError:
            continue
        figures.append(total / weight)
    return (float(np.mean(figures)), 1.0) if figures else None


@dataclass(frozen=True, slots=True)
class NoiseFloor(JsonResult):
    """The mean of a figure over sets of perfect draws from the reference, as many as there are responses, and the
    range from `low` to `high` of 95 % of such sets.

    Nothing that draws its answers can have a figure beyond it for long: it is due to chance alone.
    """

    value: float
    low: float
    high: float


def noise_floor(measure: MeasureDefinition, inputs: Mapping[str, MeasureInput], seed: int) -> NoiseFloor | None:
    """The noise floor of a measure over prompts; None for measures without one, and for stated shares."""
    if not (measure.rows and measure.needs_reference and measure.grows):
        return None
    draws: list[NDArray[np.float64]] = []
    for one in inputs.values():
        if not one.responses or not one.answers.known or (measure.basis == "shares" and one.states_shares):
            continue
        columns = one.columns
        shares = np.zeros(len(columns.names)) if columns.reference is None else columns.reference
        random = generator(seed, len(one.responses), *columns.names)
        table = random.multinomial(len(one.responses), shares / shares.sum(), _FLOOR_DRAWS)
        draws.append(in_blocks(measure.rows, columns, table.astype(np.float64)))
    if not draws:
        return None
    figures = np.mean(draws, axis=0)
    figures = figures[np.isfinite(figures)]
    if not len(figures):
        return None
    return NoiseFloor(float(figures.mean()), *middle(figures))


def generator(seed: int, size: int, *texts: str) -> np.random.Generator:
    """Random numbers that depend on these arguments alone, whatever the order of the prompts."""
    return np.random.default_rng((seed, size, zlib.crc32("\x1f".join(texts).encode("utf-8", "surrogatepass"))))
