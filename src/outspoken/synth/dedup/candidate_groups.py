"""Which records can have to do with each other: found by sorting, and cut into pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from outspoken._extras import need

__all__ = ["Edges", "Ints", "companions", "firsts", "pieces"]

Ints = NDArray[np.int64]
Edges = tuple[Ints, Ints]
"""Pairs of records, as two arrays of equal length."""


def firsts(digests: NDArray[np.uint64]) -> Ints:
    """For each record the earliest one with the same digest (its own number where it is the first)."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leaders = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    found = np.empty(len(order), dtype=np.int64)
    found[order] = leaders
    return found


def companions(band: NDArray[np.uint32], alive: Ints) -> Edges:
    """Pairs that connect all records (of those `alive`) with the same key of one band: one less than they are."""
    keys = band[alive]
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    return alive[order[:-1][same]], alive[order[1:][same]]


def pieces(edges: Iterable[Edges], lengths: NDArray[np.int32], most: int) -> Iterator[Ints]:
    """The connected records in ascending order, in pieces whose lengths sum to `most` or little more.

    What is connected is in one piece, which is larger where it has to be. The order of the pieces says nothing.
    """
    sparse = need("scipy.sparse", "finding near-duplicates", "synth")
    graphs = need("scipy.sparse.csgraph", "finding near-duplicates", "synth")
    ones, others = map(np.concatenate, zip(*edges, strict=True))
    if not len(ones):
        return
    members, numbered = np.unique(np.concatenate([ones, others]), return_inverse=True)
    ends = numbered[: len(ones)], numbered[len(ones) :]
    graph = sparse.coo_array((np.ones(len(ones), dtype=np.int8), ends), shape=(len(members), len(members)))
    _, labels = graphs.connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    members, labels = members[order], labels[order]
    closes = np.flatnonzero(np.append(labels[1:] != labels[:-1], True)) + 1
    reached = np.cumsum(lengths[members], dtype=np.int64)[closes - 1]
    start, passed = 0, 0
    while start < len(members):
        last = min(int(np.searchsorted(reached, passed + most)), len(closes) - 1)
        end = int(closes[last])
        passed = int(reached[last])
        yield np.sort(members[start:end])
        start = end
