"""Formulas over tables of answers: each row is a set of responses (or a resample of one), each column an answer.

A table holds counts of draws or shares of a distribution, of shape (rows, answers); a formula returns one figure
for each row, NaN where it does not exist. Logarithms are natural. The formulas of single sets, with their sources,
are in `divergence` and `sets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from outspoken.errors import UndefinedError
from outspoken.measure import divergence
from outspoken.measure.divergence import smoothed

__all__ = ["AnswerColumns", "RowFormula", "in_blocks"]

Floats = NDArray[np.float64]

_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class AnswerColumns:
    """The answers that the columns of a table stand for.

    `known` marks the columns of correct answers, `answers` those that are answers at all (not refusals), and
    `reference` holds the share that each column ought to have, None without known answers. `numbers` holds the
    numbers that the answers are, NaN for those that are none.
    """

    names: tuple[str, ...]
    known: NDArray[np.bool_]
    answers: NDArray[np.bool_]
    reference: Floats | None
    numbers: Floats

    def row(self, weights: Mapping[str, float]) -> Floats:
        """The weights of answers as a row; an answer without weight is 0."""
        return np.array([weights.get(name, 0.0) for name in self.names], dtype=np.float64)


RowFormula = Callable[[AnswerColumns, Floats], Floats]
"""A figure for each row of a table."""


def in_blocks(formula: RowFormula, columns: AnswerColumns, rows: Sequence[Floats] | Floats) -> Floats:
    """The figures of all rows, computed for as many at once as fit into about 16 MB."""
    table = np.asarray(rows, dtype=np.float64)
    at_once = max(1, _BLOCK // max(1, table.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [formula(columns, table[start : start + at_once]) for start in range(0, len(table), at_once)]
    return np.concatenate(parts) if parts else np.empty(0)


def _shares(table: Floats) -> Floats:
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _reference(columns: AnswerColumns) -> Floats:
    if columns.reference is None:
        raise UndefinedError("there is no reference")
    return columns.reference


def _nan_if_empty(table: Floats, figures: Floats) -> Floats:
    return np.where(table.sum(axis=1) > 0, figures, math.nan)


def distinct(columns: AnswerColumns, table: Floats) -> Floats:
    """The number of different answers; refusals are none."""
    return np.asarray((table[:, columns.answers] > 0).sum(axis=1), dtype=np.float64)


def entropy(columns: AnswerColumns, table: Floats) -> Floats:
    """-sum p ln p in nats."""
    return np.asarray(special.entr(_shares(table)).sum(axis=1))


def effective_size(columns: AnswerColumns, table: Floats) -> Floats:
    """exp of the entropy."""
    return np.asarray(np.exp(entropy(columns, table)))


def coverage(columns: AnswerColumns, table: Floats) -> Floats:
    """The share of the known answers that appear."""
    return _nan_if_empty(table, (table[:, columns.known] > 0).mean(axis=1))


def precision(columns: AnswerColumns, table: Floats) -> Floats:
    """The share of the weight that known answers have."""
    return np.asarray(np.minimum(1.0, _shares(table)[:, columns.known].sum(axis=1)))


def tv(columns: AnswerColumns, table: Floats) -> Floats:
    """Total variation from the reference: sum |p - q| / 2."""
    return divergence.tv_of(_reference(columns), _shares(table))


def js(columns: AnswerColumns, table: Floats) -> Floats:
    """Jensen-Shannon divergence from the reference in nats."""
    return divergence.js_of(_reference(columns), _shares(table))


def ks(columns: AnswerColumns, table: Floats) -> Floats:
    """The Kolmogorov-Smirnov distance from the reference, over the answers that are numbers."""
    if np.isnan(columns.numbers[columns.known]).any():
        return np.full(len(table), math.nan)
    numeric = np.flatnonzero(~np.isnan(columns.numbers))
    places, which = np.unique(columns.numbers[numeric], return_inverse=True)
    p = np.bincount(which, _reference(columns)[numeric], len(places))
    q = _shares(table[:, numeric])
    gaps = np.zeros((len(table), len(places)))
    for column, place in enumerate(which):
        gaps[:, place] += q[:, column]
    return np.asarray(np.abs(np.cumsum(p / p.sum() - gaps, axis=1)).max(axis=1))


def kl_shared(columns: AnswerColumns, table: Floats) -> Floats:
    """KL(reference || answers) over the answers that both have, each renormalised."""
    return divergence.kl_shared_of(_reference(columns), table)


def kl_uniform(columns: AnswerColumns, table: Floats) -> Floats:
    """KL(known answers given || uniform over all known ones)."""
    known = table[:, columns.known]
    figures = math.log(max(1, known.shape[1])) - special.entr(_shares(known)).sum(axis=1)
    return np.where(known.sum(axis=1) > 0, np.maximum(0.0, figures), math.nan)


def kl_uniform_published(columns: AnswerColumns, table: Floats) -> Floats:
    """KL(known answers given || uniform over those that appeared)."""
    known = table[:, columns.known]
    figures = np.log((known > 0).sum(axis=1)) - special.entr(_shares(known)).sum(axis=1)
    return np.where(known.sum(axis=1) > 0, np.maximum(0.0, figures), math.nan)


def kl_smoothed(columns: AnswerColumns, table: Floats) -> Floats:
    """KL(reference || answers) with 1e-10 added to every share."""
    return divergence.kl_of(smoothed(_reference(columns)), smoothed(_shares(table)))


def kl_model(columns: AnswerColumns, table: Floats) -> Floats:
    """KL(answers || reference) with 1e-10 added to every share."""
    return divergence.kl_of(smoothed(_shares(table)), smoothed(_reference(columns)))
