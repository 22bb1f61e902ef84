"""What a measure is: its name, its formula, and how its figures are to be treated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure.answer_table import RowFormula, in_blocks
from outspoken.measure.measure_input import Basis, MeasureInput

__all__ = ["MeasureDefinition", "SumAndWeight", "compute", "of_answers", "of_several"]

Floats = NDArray[np.floating]

SumAndWeight = tuple[float, float]
"""The figure of one prompt. Over several prompts the sums and the weights are added up."""

Formula = Callable[[MeasureInput], float | Sequence[float] | Floats]


@dataclass(frozen=True, slots=True)
class MeasureDefinition:
    """A measure by name.

    `formula` returns one number for a prompt, or one for each response or pair of responses; the figure of several
    prompts is the mean of all these numbers. `about` explains it and names its source. `better` is "higher",
    "lower" or "" (neither), `scale` the factor by which tables multiply the figure. `kind` is "headline" for
    measures that tables show first, and "published" for formulas of the literature that are only meant for
    comparison with it. `needs_reference` marks measures that compare answers with known ones.

    Measures of answers have `rows`, the formula over a table of answers, and `basis`, what is counted. Those whose
    name ends in `_shares` differ from the measure without that ending only for stated probabilities. `grows` marks
    figures that depend on the number of responses, so that two groups are compared at equal numbers, and
    `per_response` formulas with one number for each response. `bounds` is
    the range of a prompt's figure, and `step` its grain if it is a count.
    """

    name: str
    title: str
    about: str
    formula: Formula
    better: str = "higher"
    scale: int = 1
    kind: str = ""
    needs_reference: bool = False
    rows: RowFormula | None = None
    basis: Basis = "draws"
    grows: bool = False
    per_response: bool = False
    bounds: tuple[float, float] | None = None
    step: float | None = None


def of_several(formula: Formula) -> Formula:
    """A formula that is undefined for a single response."""

    def checked(inputs: MeasureInput) -> float | Sequence[float] | Floats:
        if len(inputs.responses) < 2:
            raise UndefinedError("one response has no diversity: at least two are needed")
        return formula(inputs)

    return checked


def of_answers(
    name: str,
    title: str,
    about: str,
    rows: RowFormula,
    *,
    basis: Basis = "draws",
    undefined: str = "the figure does not exist for these answers",
    needs_reference: bool = False,
    grows: bool = True,
    **options: Any,
) -> MeasureDefinition:
    """A measure of a table of answers; `undefined` is the reason if the formula returns NaN."""

    def formula(inputs: MeasureInput) -> float:
        if needs_reference:
            _ = inputs.known
        columns = inputs.columns_of(basis)
        (figure,) = in_blocks(rows, columns, inputs.row(basis)[None, :])
        if math.isnan(figure):
            raise UndefinedError(undefined)
        return float(figure)

    return MeasureDefinition(
        name,
        title,
        about,
        formula,
        needs_reference=needs_reference,
        rows=rows,
        basis=basis,
        grows=grows,
        **options,
    )


def compute(measure: MeasureDefinition, inputs: MeasureInput) -> SumAndWeight:
    """A measure's sum and weight for one prompt. Raises `UndefinedError` if it does not exist for it."""
    if not inputs.responses and not (measure.name == "empty" and inputs.empty):
        raise UndefinedError("there is no response")
    values = measure.formula(inputs)
    if isinstance(values, (int, float)):
        return float(values), 1.0
    return float(np.sum(values)), float(len(values))
