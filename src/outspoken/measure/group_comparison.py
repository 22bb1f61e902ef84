"""Comparisons of groups of responses, measure by measure, at equal numbers of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from outspoken.errors import UndefinedError
from outspoken.measure.equal_size import at_size, size_to_compare
from outspoken.measure.estimates import Comparison
from outspoken.measure.measure_definition import MeasureDefinition, SumAndWeight
from outspoken.measure.measure_input import MeasureInput
from outspoken.measure.measures import MEASURES
from outspoken.measure.statistics import compare
from outspoken.measure.within_prompt import compare_within

__all__ = ["GroupComparer"]

Sums = Mapping[str, Mapping[str, SumAndWeight]]


class GroupComparer:
    """Compares groups, given the `sums` of each measure (by measure and prompt id) and the inputs of each group.

    Figures that depend on the number of responses are computed again for the larger group of each prompt, at the
    number of the smaller one.
    """

    def __init__(
        self, sums: Sequence[Sums], inputs: Sequence[Mapping[str, MeasureInput]], seed: int, resamples: int
    ) -> None:
        self._sums = sums
        self._inputs = inputs
        self._seed = seed
        self._resamples = resamples
        self._at_size: dict[tuple[str, int, str, int], SumAndWeight | None] = {}

    def compare(self, name: str, a: int, b: int) -> Comparison | None:
        """Group `a` minus group `b` by a measure, on the prompts that both have; None if there are none."""
        measure = MEASURES[name]
        shared = sorted(self._sums[a].get(name, {}).keys() & self._sums[b].get(name, {}).keys())
        if not shared:
            return None
        if len(shared) == 1:
            within = self.within(name, a, b, shared)
            if within is not None:
                return within
        rows, sizes = [], []
        for prompt in shared:
            size = size_to_compare(measure, self._inputs[a][prompt], self._inputs[b][prompt])
            pair = [self._figure(measure, group, prompt, size) for group in (a, b)]
            if pair[0] is not None and pair[1] is not None:
                rows.append((*pair[0], *pair[1]))
                sizes += [] if size is None else [size]
        if not rows:
            return None
        values_a, weights_a, values_b, weights_b = np.array(rows).T
        of_units = {"bounds": measure.bounds, "step": measure.step}
        of_test = {"resamples": self._resamples, "seed": self._seed}
        result = compare(values_a, values_b, weights_a, weights_b, **of_units, **of_test)  # type: ignore[arg-type]
        return result if not sizes else replace(result, note="; ".join(filter(None, (result.note, _at(sizes)))))

    def within(self, name: str, a: int, b: int, prompts: Sequence[str] | None = None) -> Comparison | None:
        """The same with the prompts as they are: their draws are resampled (see `within_prompt`)."""
        if prompts is None:
            prompts = sorted(self._sums[a].get(name, {}).keys() & self._sums[b].get(name, {}).keys())
        pairs = [(self._inputs[a][prompt], self._inputs[b][prompt]) for prompt in prompts]
        return compare_within(MEASURES[name], pairs, self._seed)

    def _figure(
        self, measure: MeasureDefinition, group: int, prompt: str, size: int | None
    ) -> SumAndWeight | None:
        if size is None:
            return self._sums[group][measure.name][prompt]
        key = measure.name, group, prompt, size
        if key not in self._at_size:
            try:
                figure = at_size(measure, self._inputs[group][prompt], size, self._seed)
            except UndefinedError:
                figure = None
            self._at_size[key] = figure
        return self._at_size[key]


def _at(sizes: Sequence[int]) -> str:
    smallest, largest = min(sizes), max(sizes)
    span = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    return f"compared at equal numbers: {span} responses a prompt"
