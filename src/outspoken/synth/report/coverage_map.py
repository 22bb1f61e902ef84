"""The coverage map of the report: where generated records lie, what became of each, and the clusters they form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.same_text import text_key
from outspoken.synth.report import projection
from outspoken.synth.report.samples import Row, cut

__all__ = ["KEPT", "LEAST", "LOST", "made"]

LOST, KEPT = "no longer there", "kept"
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
    plane = projection.plane(vectors)
    count = projection.how_many(len(rows))
    labels = projection.clusters(vectors, count, seed) if count else [0] * len(rows)
    became = [fates.get(str(row["id"]), LOST) for row in rows]
    points = [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "text": cut(row["text"], _HOVER),
            "fate": fate,
            "cluster": label + 1,
        }
        for row, (x, y), label, fate in zip(rows, plane.points, labels, became, strict=True)
    ]
    there = set(became)
    drawn = {
        "points": points,
        "fates": [fate for fate in order if fate in there or fate == KEPT],
        "explained": list(plane.explained),
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
                "words": projection.telling(
                    (rows[at]["text"] for at in members),
                    (row["text"] for row, found in zip(rows, labels, strict=True) if found != label),
                ),
                "examples": _typical(rows, projection.nearest(vectors, kept or members)),
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
