"""Near-duplicates among texts, by MinHash: in memory, or in a file of which only a piece at a time is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outspoken._extras import need
from outspoken.same_text import text_key
from outspoken.synth.dedup.greedy import Decisions, decide
from outspoken.synth.dedup.minhash import bands_for, check_similarity, sign, spread

__all__ = [
    "KEPT",
    "MEANING",
    "NEAR",
    "SAME",
    "Edges",
    "Ints",
    "NearDuplicates",
    "Tell",
    "Texts",
    "companions",
    "find",
    "firsts",
    "near_duplicates",
    "pieces",
]

# By what a record is removed.
KEPT, SAME, NEAR, MEANING = range(4)

Tell = Callable[[str, int, int], None]
"""Is told that so many of so many records of a stage are done, and ends the work by raising."""

_SLICE = 4096
_PIECE = 1 << 26


class Texts(Protocol):
    """Texts that can be gone through, and read again in places."""

    def __len__(self) -> int: ...

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        """All of them in order, at most `rows` at a time."""
        ...

    def at(self, places: Ints) -> Sequence[str]:
        """Those at these places, which ascend."""
        ...


@dataclass(slots=True)
class NearDuplicates:
    """For each record: which one stands for it (itself where it is kept), how similar the two are, and by what.

    `first` is the first record with its text. Until `follow` only those first ones are settled. `crowded` is how
    many had more look-alikes than they were compared with.
    """

    first: Ints
    stands_for: Ints
    similarity: NDArray[np.float64]
    by: NDArray[np.int8]
    crowded: int = 0

    @classmethod
    def of(cls, first: Ints) -> NearDuplicates:
        """Where each record is like the first one with its text."""
        by = np.where(first == np.arange(len(first)), KEPT, SAME).astype(np.int8)
        return cls(first, first.copy(), np.ones(len(first)), by)

    def take(self, places: Ints, decided: Decisions) -> None:
        """What was decided of the near-duplicates among the records at `places`."""
        self.stands_for[places] = places[decided.stands_for]
        self.similarity[places] = decided.similarity
        self.by[places] = np.where(self.stands_for[places] == places, KEPT, NEAR)
        self.crowded += decided.crowded

    def follow(self) -> None:
        """Settle each record with the text of an earlier one: where that one was removed, as that one was."""
        gone = self.by[self.first] != KEPT
        later = np.flatnonzero(gone & (self.by == SAME))
        for values in (self.stands_for, self.similarity, self.by):
            values[later] = values[self.first[later]]


class _InMemory:
    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        for start in range(0, len(self._texts), rows):
            yield self._texts[start : start + rows]

    def at(self, places: Ints) -> Sequence[str]:
        return [self._texts[place] for place in places.tolist()]


def near_duplicates(texts: Sequence[str], similarity: float = 0.9) -> Ints:
    """For each text the place of the one that stands for it: its own where it is kept.

    Two texts are as similar as the sets of all three successive characters of their `text_key` (Jaccard). They are
    gone through in order, and one is kept unless an earlier kept one is at least so similar; the earliest such
    stands for it. 0.9 finds what differs in a few characters of a hundred, a changed number too.

    Pairs are found by MinHash (0.995 or more of those at the threshold, nearly all above it) and compared exactly,
    so that what is found is right. Raises `UsageError` for a similarity outside 0.5 to 1.
    """
    check_similarity(similarity)
    found = find(_InMemory(texts), exact=True, similarity=similarity, tell=lambda what, done, total: None)
    found.follow()
    return found.stands_for


def find(texts: Texts, *, exact: bool, similarity: float | None, tell: Tell) -> NearDuplicates:
    """Which records stand for which others: of the same text where `exact`, and of a similar one (None: not)."""
    count = len(texts)
    bands = None if similarity is None else bands_for(similarity)
    marks = np.zeros((count if exact else 0, 2), dtype=np.uint64)
    banded = np.zeros((bands.count if bands else 0, count), dtype=np.uint32)
    lengths = np.zeros(count, dtype=np.int32)
    start = 0
    for signed in spread(partial(sign, exact=exact, bands=bands), texts.slices(_SLICE)):
        tell("reading", start, count)
        here = slice(start, start + len(signed.lengths))
        marks[here], banded[:, here], lengths[here] = signed.marks, signed.banded, signed.lengths
        start = here.stop
    found = NearDuplicates.of(firsts(marks) if exact else np.arange(count))
    if similarity is None:
        return found
    alive = np.flatnonzero(found.by == KEPT)
    edges: list[Edges] = []
    for edge in spread(partial(companions, alive=alive), banded):
        tell("sorting", len(edges), len(banded))
        edges.append(edge)
    del banded, marks
    done = 0
    for places in pieces(edges, lengths, _PIECE):
        keys = [text_key(text) for text in texts.at(places)]
        tell_more = partial(_tell_more, tell, done, len(alive))
        found.take(places, decide(keys, similarity, tell_more))
        done += len(places)
    return found


def _tell_more(tell: Tell, before: int, total: int, done: int) -> None:
    tell("comparing", before + done, total)


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
