"""The diversity of a set of responses: by their embeddings, by classes of equal ones, and by their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.values import Response
from outspoken.same_text import text_key

__all__ = [
    "answer_weights",
    "distinct_k",
    "effective_size",
    "entropy",
    "first_of_class",
    "partition",
    "partition_by_similarity",
    "published_average",
    "semantic_diversity",
    "semantic_pairs",
    "unit_rows",
    "utility_k",
    "vendi",
    "weights_of",
]

Floats = NDArray[np.float64]

_ROUNDING = 1e-12


def semantic_pairs(embeddings: ArrayLike) -> Floats:
    """1 - clip(cosine, 0, 1) of every pair i < j of the n rows, in the order of `np.triu_indices(n, 1)`.

    `embeddings` is (n, d); its rows need not be of unit length. The result is (n(n-1)/2,), from 0 (same direction)
    to 1. Source: arXiv 2510.01171, section 5, as its authors compute it.

    Raises `UndefinedError` for fewer than two rows, `UsageError` for a row that is zero or holds NaN or infinity.
    """
    rows = unit_rows(embeddings)
    if len(rows) < 2:
        raise UndefinedError("one response has no diversity: at least two are needed")
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    return 1.0 - np.clip(cosines, 0.0, 1.0)


def semantic_diversity(embeddings: ArrayLike) -> float:
    """The mean of `semantic_pairs`, from 0 to 1 (publications show it times 100)."""
    return float(semantic_pairs(embeddings).mean())


def vendi(embeddings: ArrayLike) -> float:
    """The Vendi score of the n rows, from 1 (all alike) to n (all orthogonal); 1 for a single row.

    exp(-sum l ln l) over the eigenvalues l of K / n, where K holds the cosines of all pairs: Friedman and Dieng
    2023, arXiv 2210.02410, definition 3.1. X X^T and X^T X have the same positive eigenvalues, so the smaller one
    is decomposed.

    Raises `UndefinedError` for no rows, `UsageError` for a row that is zero or holds NaN or infinity.
    """
    rows = unit_rows(embeddings)
    count, width = rows.shape
    if count == 0:
        raise UndefinedError("without responses there is no diversity")
    kernel = rows.T @ rows if count > width else rows @ rows.T
    values = np.linalg.eigvalsh(kernel) / count
    return math.exp(_entropy(values))


def partition(texts: Iterable[str], same: Callable[[str], Hashable] = text_key) -> tuple[int, ...]:
    """The class of each text, numbered from 0 by first appearance: texts with the same key are one class.

    `same` returns the key of a text; the default is `outspoken.same_text.text_key`.
    """
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(same(text), len(numbers)) for text in texts)


def partition_by_similarity(embeddings: ArrayLike, threshold: float) -> tuple[int, ...]:
    """The class of each row, numbered from 0 by first appearance, by cosines of at least `threshold`.

    Each row is compared with the first row of every class in order, and joins the first class that is similar
    enough, as in NoveltyBench (arXiv 2504.05228). NoveltyBench uses a trained classifier instead of the cosine, so
    here the classes depend on the embedder, the threshold and the order.

    Raises `UsageError` for a threshold outside -1 to 1, and for a row that is zero or holds NaN or infinity.
    """
    if not -1 <= threshold <= 1:
        raise UsageError(f"the threshold must be a cosine from -1 to 1, not {threshold:g}")
    rows = unit_rows(embeddings)
    firsts: list[int] = []
    classes: list[int] = []
    for index, row in enumerate(rows):
        # The cosine of a row with its own copy may be rounded to less than 1.
        similar = np.flatnonzero(rows[firsts] @ row >= threshold - _ROUNDING)
        if len(similar):
            classes.append(int(similar[0]))
        else:
            classes.append(len(firsts))
            firsts.append(index)
    return tuple(classes)


def distinct_k(classes: Iterable[Hashable]) -> int:
    """The number of classes among k responses: NoveltyBench, arXiv 2504.05228.

    The field `distinct` of its result files is this minus 1.
    """
    return len(set(classes))


def first_of_class(classes: Sequence[Hashable], scores: Sequence[float]) -> tuple[float, ...]:
    """The scores, 0 if the response's class appeared before. Raises `UsageError` for unequal lengths."""
    if len(classes) != len(scores):
        raise UsageError(
            f"{len(classes)} classes and {len(scores)} scores: give one class and one score for each response"
        )
    seen: set[Hashable] = set()
    kept: list[float] = []
    for number, score in zip(classes, scores, strict=True):
        kept.append(0.0 if number in seen else float(score))
        seen.add(number)
    return tuple(kept)


def utility_k(scores: Sequence[float], patience: float = 0.8) -> float:
    """(1-p) / (1-p^k) * sum over i from 0 of p^i s_i: NoveltyBench, arXiv 2504.05228.

    `scores` are those of the k responses in order, 0 if the response's class appeared before (`first_of_class`).
    p is the `patience`: the probability that a reader reads one more response. The unit is that of the scores.

    Raises `UndefinedError` for no scores, `UsageError` for one that is not finite or a patience outside 0 to 1.
    """
    if not 0 <= patience <= 1:
        raise UsageError(f"the patience must be a probability from 0 to 1, not {patience:g}")
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        raise UndefinedError("without responses there is no utility")
    if not np.isfinite(values).all():
        raise UsageError(f"score {int(np.flatnonzero(~np.isfinite(values))[0])} is not a finite number")
    # The factor (1-p) / (1-p^k) is one over the sum of the weights, also for p = 1.
    weights = patience ** np.arange(len(values))
    return float(weights @ values / weights.sum())


def weights_of(responses: Sequence[Response]) -> Floats:
    """The weight of each response in the distribution that a user draws from; the weights sum to 1.

    A call is a distribution over its responses: their normalised probabilities, or equal shares if one of them has
    no probability or all are zero. The calls are averaged, because each draw of a user is a new call. Responses
    without a call form one call together.

    Raises `UndefinedError` for no responses, `UsageError` for a probability that is negative or not finite.
    """
    if not responses:
        raise UndefinedError("there is no response to draw from")
    calls: dict[int | None, list[int]] = {}
    for index, response in enumerate(responses):
        calls.setdefault(response.call, []).append(index)
    weights = np.empty(len(responses))
    for indices in calls.values():
        values = [value for index in indices if (value := responses[index].probability) is not None]
        if any(not 0 <= value < math.inf for value in values):
            raise UsageError("a probability must be a finite number of at least 0")
        largest = max(values, default=0)
        if len(values) < len(indices) or largest == 0:
            values, largest = [1.0] * len(indices), 1.0
        scaled = np.array(values) / largest
        weights[indices] = scaled / (scaled.sum() * len(calls))
    return weights


def answer_weights(responses: Sequence[Response], label: Callable[[str], str]) -> dict[str, float]:
    """The sum of `weights_of` over the responses with each label, in order of appearance."""
    weights: dict[str, float] = {}
    for response, weight in zip(responses, weights_of(responses), strict=True):
        answer = label(response.text)
        weights[answer] = weights.get(answer, 0.0) + float(weight)
    return weights


def published_average(calls: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The published mean of several stated distributions (arXiv 2510.01171, Table 32).

    Each is divided by its sum, and each answer's shares are averaged over the calls that contain it, so the result
    sums to more than 1 if calls differ in their answers. The mixture that one draws from divides by all calls
    (`answer_weights`): it is the better law, and this one is for comparison with published figures.
    """
    totals: dict[str, float] = {}
    counts: dict[str, int] = {}
    for call in calls:
        whole = math.fsum(call.values())
        if not whole > 0:
            raise UndefinedError("a call whose weights sum to 0 states nothing")
        for answer, weight in call.items():
            totals[answer] = totals.get(answer, 0.0) + weight / whole
            counts[answer] = counts.get(answer, 0) + 1
    return {answer: total / counts[answer] for answer, total in totals.items()}


def entropy(weights: Iterable[float]) -> float:
    """-sum w ln w in nats, of the weights divided by their sum.

    Raises `UndefinedError` if their sum is 0, `UsageError` for one that is negative or not finite.
    """
    values = np.array(list(weights), dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise UsageError("a weight must be a finite number of at least 0")
    if not values.any():
        raise UndefinedError("weights that sum to 0 have no entropy")
    values = values / values.max()  # the sum of large weights may not be finite
    return max(0.0, _entropy(values / values.sum()))


def _entropy(shares: Floats) -> float:
    positive = shares[shares > 0]
    return -float(positive @ np.log(positive))


def effective_size(weights: Iterable[float]) -> float:
    """exp of the entropy of the weights: the number of equally likely answers with the same entropy.

    From 1 to the number of positive weights. Source: the Hill number of order 1, Hill 1973, Ecology 54.
    """
    return math.exp(entropy(weights))


def unit_rows(embeddings: ArrayLike) -> Floats:
    """The rows divided by their lengths. Raises `UsageError` for a row that is zero or holds NaN or infinity."""
    try:
        rows = np.asarray(embeddings, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError("embeddings must be rows with the same number of numbers") from None
    if rows.ndim != 2:
        raise UsageError(f"embeddings must be a table of (responses, dimensions), not of shape {rows.shape}")
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    bad = np.flatnonzero(~(np.isfinite(squares) & (squares > 0)))
    if len(bad):
        index = int(bad[0])
        row = rows[index]
        what = "holds NaN" if np.isnan(row).any() else "holds infinity" if np.isinf(row).any() else "is zero"
        if what == "is zero" and row.any():
            what = "is too long or too short for a cosine"
        raise UsageError(f"embedding {index} {what}: embed that response again, or leave it out")
    return np.asarray(rows / np.sqrt(squares)[:, None])
