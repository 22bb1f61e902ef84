"""The search for near-duplicates among texts, by MinHash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.same_text import text_key
from outspoken.synth.dedup.greedy import Decisions, decide
from outspoken.synth.dedup.minhash import bands_for, check_similarity, map_in_threads, sign
from outspoken.synth.records import batches, count, pa, pq

__all__ = ["Edges", "Ints", "NearDuplicates", "Report", "TextFile", "TextList", "Texts", "find", "near_duplicates"]

Ints = NDArray[np.int64]


class TextList:
    """Texts in memory, which can be read in order, and again at given positions."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        """All texts in order, at most `rows` at a time."""
        for start in range(0, len(self._texts), rows):
            yield self._texts[start : start + rows]

    def at(self, places: Ints) -> Sequence[str]:
        """The texts at these positions, which are in ascending order."""
        return [self._texts[place] for place in places.tolist()]


class TextFile:
    """The column `text` of a Parquet file, read as a `TextList` is. Raises `UsageError` if a text is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = count(path)

    def __len__(self) -> int:
        return self._rows

    def slices(self, rows: int, groups: Sequence[int] | None = None) -> Iterator[Sequence[str]]:
        """All texts, or those of these consecutive row groups, at most `rows` at a time."""
        start = sum(self.group_sizes()[: groups[0]]) if groups else 0
        for table in batches(self.path, ["text"], rows, groups):
            yield self._texts(table, start)
            start += table.num_rows

    def at(self, places: Ints) -> Sequence[str]:
        return self.column_at("text", places)

    def column_at(self, name: str, places: Ints) -> list[Any]:
        """The values of a column at these positions, in ascending order; only row groups with some are read."""
        values, start = list[Any](), 0
        with pq.ParquetFile(self.path) as file:
            for group, size in enumerate(self.group_sizes()):
                end = start + size
                low, high = np.searchsorted(places, [start, end])
                if low < high:
                    column = file.read_row_group(group, columns=[name]).column(0)
                    values.extend(column.take(pa.array(places[low:high] - start)).to_pylist())
                start = end
        return values

    def group_sizes(self) -> list[int]:
        """The number of records in each row group."""
        metadata = pq.read_metadata(self.path)
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def _texts(self, table: Any, start: int) -> list[str]:
        column = table.column("text")
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise UsageError(f"the column text of {self.path.name} holds {column.type}, not strings: convert it")
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise UsageError(f"record {row + 1} of {self.path.name} has no text: fill it, or leave the record out")
        texts: list[str] = column.to_pylist()
        return texts


Texts = TextList | TextFile

# The reasons for removing a record.
KEPT, SAME, NEAR, MEANING = range(4)

MAX_PIECE = 1 << 26
"""The number of characters of the texts that are compared at once."""

Report = Callable[[str, int, int], None]
"""Called with a stage, the number of records done and of all; it may end the work by raising."""

Edges = tuple[Ints, Ints]
"""Pairs of records, as two arrays of equal length."""

_SLICE = 4096


@dataclass(slots=True)
class NearDuplicates:
    """For each record the record that stands for it (itself if it is kept), their similarity, and the reason.

    `first` is the first record with the same text; until `resolve_equal_texts` only these are decided. `crowded`
    is the number of texts with more similar candidates than they were compared with.
    """

    first: Ints
    stands_for: Ints
    similarity: NDArray[np.float64]
    by: NDArray[np.int8]
    crowded: int = 0

    @classmethod
    def from_first(cls, first: Ints) -> NearDuplicates:
        """Each record is a duplicate of the first one with the same text."""
        by = np.where(first == np.arange(len(first)), KEPT, SAME).astype(np.int8)
        return cls(first, first.copy(), np.ones(len(first)), by)

    def add(self, places: Ints, decisions: Decisions) -> None:
        """Add the decisions about the records at `places`."""
        self.stands_for[places] = places[decisions.stands_for]
        self.similarity[places] = decisions.similarity
        self.by[places] = np.where(self.stands_for[places] == places, KEPT, NEAR)
        self.crowded += decisions.crowded

    def resolve_equal_texts(self) -> None:
        """If the first record with a text was removed, treat the later ones as that one."""
        removed = self.by[self.first] != KEPT
        later = np.flatnonzero(removed & (self.by == SAME))
        for values in (self.stands_for, self.similarity, self.by):
            values[later] = values[self.first[later]]


def near_duplicates(texts: Sequence[str], similarity: float = 0.9) -> Ints:
    """For each text the position of the text that stands for it: its own if it is kept.

    In order, a text is kept unless an earlier kept one is at least that similar; the earliest such one stands for
    it. The similarity is the Jaccard similarity of the sets of all sequences of three characters in the `text_key`
    of each. 0.9 finds texts that differ in a few of a hundred characters, also in a number.

    Pairs are found by MinHash (0.995 or more of those at the threshold, nearly all above it) and compared exactly,
    so every removed text really is that similar. Raises `UsageError` for a similarity outside 0.5 to 1.
    """
    check_similarity(similarity)
    result = find(TextList(texts), True, similarity, lambda stage, done, total: None)
    result.resolve_equal_texts()
    return result.stands_for


def find(texts: Texts, exact: bool, similarity: float | None, report: Report) -> NearDuplicates:
    """Find records with the same text if `exact`, and those of this similarity (None: not searched for)."""
    count = len(texts)
    bands = None if similarity is None else bands_for(similarity)
    digests = np.zeros((count if exact else 0, 2), dtype=np.uint64)
    band_keys = np.zeros((bands.count if bands else 0, count), dtype=np.uint32)
    lengths = np.zeros(count, dtype=np.int32)
    start = 0
    for signed in map_in_threads(partial(sign, exact=exact, bands=bands), texts.slices(_SLICE)):
        report("reading", start, count)
        here = slice(start, start + len(signed[-1]))
        digests[here], band_keys[:, here], lengths[here] = signed
        start = here.stop
    result = NearDuplicates.from_first(first_equal(digests) if exact else np.arange(count))
    if similarity is None:
        return result
    candidates = np.flatnonzero(result.by == KEPT)
    edges: list[Edges] = []
    for pairs in map_in_threads(partial(neighbours, candidates=candidates), band_keys):
        report("sorting", len(edges), len(band_keys))
        edges.append(pairs)
    del band_keys, digests
    compared = 0

    def report_more(done: int) -> None:
        report("comparing", compared + done, len(candidates))

    for places in connected_pieces(edges, lengths, MAX_PIECE):
        result.add(places, decide([text_key(text) for text in texts.at(places)], similarity, report_more))
        compared += len(places)
    return result


def first_equal(digests: NDArray[np.uint64]) -> Ints:
    """For each record the earliest one with the same digest (its own number if it is the first)."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leaders = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = leaders
    return first


def neighbours(band: NDArray[np.uint32], candidates: Ints) -> Edges:
    """Pairs that connect all `candidates` with the same key of a band: each record with the next one."""
    keys = band[candidates]
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    return candidates[order[:-1][same]], candidates[order[1:][same]]


def connected_pieces(edges: Iterable[Edges], lengths: NDArray[np.int32], most: int) -> Iterator[Ints]:
    """The connected records in pieces of about `most` characters, each in ascending order.

    Connected records are in the same piece, which may have to be larger. The order of the pieces has no meaning.
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
    component_ends = np.flatnonzero(np.append(labels[1:] != labels[:-1], True)) + 1
    sums = np.cumsum(lengths[members], dtype=np.int64)[component_ends - 1]
    start, before = 0, 0
    while start < len(members):
        last = min(int(np.searchsorted(sums, before + most)), len(component_ends) - 1)
        end = int(component_ends[last])
        before = int(sums[last])
        yield np.sort(members[start:end])
        start = end
