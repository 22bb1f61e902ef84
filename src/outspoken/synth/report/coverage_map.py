"""The coverage map of the report: where generated records lie, what became of each, and the clusters they form."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.tokenization import words
from outspoken.same_text import text_key
from outspoken.synth.kmeans import Clustering
from outspoken.synth.report.samples import KEPT, LOST, Row, cut

__all__ = [
    "LEAST",
    "Projection",
    "clusters",
    "how_many",
    "made",
    "nearest",
    "plane",
    "telling",
    "terms",
]

Floats = NDArray[np.float64]

_MOST_CLUSTERS = 12
_FEW = 20
_LONGEST_TERM = 40


@dataclass(frozen=True, slots=True)
class Projection:
    """`points` (n, 2), and the shares of the variance that lie along its two axes."""

    points: Floats
    explained: tuple[float, float]


def plane(vectors: NDArray[np.floating]) -> Projection:
    """The vectors (n, d) on the plane of their first two principal components, n at least 1.

    Each component's greatest entry is positive, so the same vectors always give the same picture.
    """
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    points = np.zeros((len(centred), 2))
    points[:, : axes.shape[1]] = centred @ axes
    whole = float(values.clip(0).sum())
    first, second = (float(share) / whole if whole > 0 else 0.0 for share in (*values[::-1].clip(0), 0.0)[:2])
    return Projection(points, (first, second))


def how_many(records: int) -> int:
    """How many clusters so many records are parted into: about the root of half of them, at most twelve; 0 for
    fewer than twenty."""
    return 0 if records < _FEW else max(2, min(_MOST_CLUSTERS, round(math.sqrt(records / 2))))


def clusters(vectors: NDArray[np.floating], count: int, seed: int) -> list[int]:
    """The cluster of each vector by k-means on their directions, numbered from 0 by falling size; perhaps fewer
    than `count`."""
    rows = _directions(vectors).astype(np.float32)
    clustering = Clustering(rows, count, seed)
    for _ in clustering.work():
        pass
    return [int(label) for label in clustering.labels]


def nearest(vectors: NDArray[np.floating], members: Sequence[int]) -> list[int]:
    """The members of a cluster, those first that lie nearest to its centre."""
    rows = _directions(vectors[list(members)])
    order = np.argsort(-(rows @ rows.sum(axis=0)), kind="stable")
    return [members[at] for at in order]


def terms(text: str) -> set[str]:
    """What a text says, for telling clusters apart: its words of two letters and more, and each two characters
    that stand together where a script is written without blanks."""
    split = words(text)
    pairs = {a + b for a, b in pairwise(split) if _alone(a) and _alone(b)}
    return pairs | {word for word in split if 1 < len(word) <= _LONGEST_TERM and any(map(str.isalpha, word))}


def telling(inside: Iterable[str], outside: Iterable[str], most: int = 5) -> list[str]:
    """The terms by which the texts inside differ most from those outside.

    Ordered by p ln(p / q), p and q the shares of the texts inside and outside that have the term. Only terms count
    that two texts inside have, and more of them than of those outside.
    """
    within, beyond = list(map(terms, inside)), list(map(terms, outside))
    here, there = (Counter(term for text in texts for term in text) for texts in (within, beyond))

    def weight(term: str) -> float:
        p = here[term] / len(within)
        q = (there[term] + 0.5) / (len(beyond) + 1)
        return p * math.log(p / q)

    ranked = sorted((-weight(term), term) for term, count in here.items() if count > 1)
    return [term for score, term in ranked[:most] if score < 0]


def _alone(word: str) -> bool:
    return len(word) == 1 and unicodedata.category(word) == "Lo"


def _directions(vectors: NDArray[np.floating]) -> Floats:
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


LEAST = 3
"""Fewer records make no map."""

_HOVER = 240
_EXAMPLES = 3
_EXAMPLE = 1_000


def made(
    rows: Sequence[Row], vectors: NDArray[np.floating], fates: Mapping[str, str], order: Sequence[str], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The map of these records and its clusters, as the report has them.

    `fates` says of each id what became of it, `order` how these follow each other: `LOST`, `KEPT`, and the labels
    of the steps that remove.
    """
    projected = plane(vectors)
    count = how_many(len(rows))
    labels = clusters(vectors, count, seed) if count else [0] * len(rows)
    became = [fates.get(str(row["id"]), LOST) for row in rows]
    points = [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "text": cut(row["text"], _HOVER),
            "fate": fate,
            "cluster": label + 1,
        }
        for row, (x, y), label, fate in zip(rows, projected.points, labels, became, strict=True)
    ]
    there = set(became)
    drawn = {
        "points": points,
        "fates": [fate for fate in order if fate in there or fate == KEPT],
        "explained": list(projected.explained),
    }
    return drawn, _clusters(rows, vectors, labels, became, points) if count else []


def _clusters(
    rows: Sequence[Row],
    vectors: NDArray[np.floating],
    labels: Sequence[int],
    became: Sequence[str],
    points: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    told = []
    for label in range(max(labels) + 1):
        members = [at for at, found in enumerate(labels) if found == label]
        kept = [at for at in members if became[at] == KEPT]
        told.append(
            {
                "number": label + 1,
                "generated": len(members),
                "kept": len(kept),
                "x": float(np.median([points[at]["x"] for at in members])),
                "y": float(np.median([points[at]["y"] for at in members])),
                "words": telling(
                    (rows[at]["text"] for at in members),
                    (row["text"] for row, found in zip(rows, labels, strict=True) if found != label),
                ),
                "examples": _typical(rows, nearest(vectors, kept or members)),
            }
        )
    return told


def _typical(rows: Sequence[Row], order: Sequence[int]) -> list[str]:
    """The first texts that differ."""
    found: dict[str, str] = {}
    for at in order:
        if len(found) < _EXAMPLES:
            found.setdefault(text_key(rows[at]["text"]), cut(rows[at]["text"], _EXAMPLE))
    return list(found.values())
