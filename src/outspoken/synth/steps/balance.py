"""The step that gives every kind of record its share: clusters of embeddings, each cut to a size."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.measure.sets import effective_size
from outspoken.settings import option
from outspoken.synth.kmeans import Clustering, shares, spread
from outspoken.synth.records import RecordWriter, batches, count, pa, with_columns
from outspoken.synth.steps.base import Step, StepOutcome

__all__ = ["BalanceOptions", "run"]

FULL = "its cluster is full"
NO_TEXT = "no text to embed"

_MOST_CLUSTERS = 1000
_EXCERPT = 120
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True)
class BalanceOptions:
    """Keep as many records of each cluster, so that what the model likes to write does not crowd out the rest.

    Clusters are those of k-means on embeddings of length 1, from the pipeline's seed. Those kept of a cluster are
    spread over it: first the one nearest to its centre, then ever the one farthest from all that were taken
    (Gonzalez 1985); so near-duplicates go first.
    """

    most: int | None = option(
        None, "At most this many records of each cluster. Default: twice as many as an average one has."
    )
    total: int | None = option(
        None, "In place of most: this many records, as evenly over the clusters as they allow."
    )
    clusters: int | None = option(
        None, f"How many clusters. Default: the root of half the records, at most {_MOST_CLUSTERS:,}."
    )
    embedder: str = option(DEFAULT, "What embeds the records; `wordllama` is for hundreds of thousands.")

    def __post_init__(self) -> None:
        if self.most is not None and self.total is not None:
            raise UsageError("most (of each cluster) and total exclude each other: say one of them")
        for name in ("most", "total", "clusters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        embedder(self.embedder, cache=None)


async def run(options: BalanceOptions, step: Step) -> StepOutcome:
    """Embed, cluster, choose; 4 bytes a dimension and record are held (1.5 GB for a million by minilm)."""
    source = step.needed()
    made = embedder(options.embedder)
    vectors, rows, ids = await _embedded(source, made, step)
    found = len(vectors)
    if options.clusters is not None and options.clusters > found:
        raise UsageError(
            f"{options.clusters:,} clusters of {found:,} records cannot be: ask for fewer, or leave clusters out"
        )
    labels, centres = await _clustered(vectors, options.clusters or _usual(found), step)
    before = np.bincount(labels, minlength=len(centres))
    if options.total is not None:
        quota = shares(before, options.total)
    else:
        quota = np.minimum(before, options.most or math.ceil(2 * found / max(1, len(centres))))
    chosen = _Chosen(rows, labels, ids)
    await _choose(vectors, centres, quota, chosen, step)
    kept, removed = await _write(step, chosen)
    figures = {
        "clusters": len(centres),
        "sizes_before": before.tolist(),
        "sizes_after": quota.tolist(),
        "effective_before": effective_size(before) if found else 0.0,
        "effective_after": effective_size(quota) if found else 0.0,
        "examples": await asyncio.to_thread(_texts, source, chosen.central),
    }
    warnings = [*made.warnings, *_warnings(options, found, len(centres))]
    return StepOutcome(kept, removed, figures, tuple(warnings))


def _warnings(options: BalanceOptions, found: int, clusters: int) -> Iterator[str]:
    if options.clusters and clusters < options.clusters:
        yield f"the records have only {clusters:,} different embeddings: so many clusters there are"
    if options.total is not None and options.total >= found:
        yield f"total is {options.total:,} and there are {found:,} records with a text: all of them are kept"
    elif options.total is not None and options.total < clusters:
        yield (
            f"total is {options.total:,} and there are {clusters:,} clusters: the smaller ones keep nothing; "
            "ask for fewer clusters or a larger total"
        )


class _Chosen:
    """By row of the file: the cluster, the row that stands for it (itself: it is kept) and the cosine of both; -1
    for none. `central` are the rows nearest to the centres."""

    def __init__(self, rows: NDArray[np.int64], labels: NDArray[np.int64], ids: Any) -> None:
        self.rows, self.ids = rows, ids
        self.cluster = np.full(len(ids), -1)
        self.cluster[rows] = labels
        self.stands_for = np.full(len(ids), -1)
        self.cosines = np.full(len(ids), -1.0)
        self.central: list[int] = []


async def _embedded(source: Path, made: Embedder, step: Step) -> tuple[Any, NDArray[np.int64], Any]:
    """The unit vectors of all records with a text, their rows in the file, and the ids of all records."""
    total = count(source)
    vectors: Any = None
    ids: list[Any] = []
    rows: list[int] = []
    at = 0
    for table in batches(source, ("id", "text"), rows=_ROWS_AT_ONCE):
        step.watch.tell("embedding", at, total)
        texts = table.column("text").to_pylist()
        good = [row for row, text in enumerate(texts) if text and text.strip()]
        if good:
            found = await made.embed([texts[row] for row in good])
            if vectors is None:
                vectors = np.empty((total, found.shape[1]), np.float32)
            norms = np.linalg.norm(found, axis=1, keepdims=True)
            vectors[len(rows) : len(rows) + len(good)] = found / np.maximum(norms, np.finfo(np.float32).tiny)
        ids += table.column("id").cast(pa.string()).chunks
        rows += [at + row for row in good]
        at += len(texts)
    if vectors is None:
        vectors = np.empty((0, 0), np.float32)
    return vectors[: len(rows)], np.array(rows, np.int64), pa.chunked_array(ids, pa.string())


def _usual(records: int) -> int:
    return max(1, min(_MOST_CLUSTERS, round(math.sqrt(records / 2))))


async def _clustered(vectors: Any, wanted: int, step: Step) -> tuple[Any, Any]:
    if not len(vectors):
        return np.empty(0, np.int64), vectors
    clustering = Clustering(vectors, wanted, step.seed)
    work, done = clustering.work(), 0
    while not await asyncio.to_thread(next, work, True):
        done += 1
        step.watch.tell("clustering", done)
    return clustering.labels, clustering.centres


async def _choose(vectors: Any, centres: Any, quota: Any, chosen: _Chosen, step: Step) -> None:
    """Take as many of each cluster as its quota says, and find who stands for each of the others."""
    labels = chosen.cluster[chosen.rows]
    for number, centre in enumerate(centres):
        step.watch.tell("choosing", number, len(centres))
        members = np.flatnonzero(labels == number)
        found = await asyncio.to_thread(spread, vectors[members], centre, max(1, int(quota[number])))
        rows = chosen.rows[members]
        chosen.central.append(int(rows[found.taken[0]]))
        if quota[number]:
            chosen.stands_for[rows] = rows[found.stands_for]
            chosen.cosines[rows] = found.cosines


async def _write(step: Step, chosen: _Chosen) -> tuple[int, dict[str, int]]:
    at = 0
    with RecordWriter(step.out) as kept, RecordWriter(step.removed) as gone:
        for table in batches(step.needed()):
            step.watch.tell("writing", at, len(chosen.ids))
            await asyncio.sleep(0)
            rows = np.arange(at, at + table.num_rows)
            at += table.num_rows
            clusters = chosen.cluster[rows]
            table = with_columns(table, {"cluster": pa.array(clusters, pa.int64(), mask=clusters < 0)})
            keep = chosen.stands_for[rows] == rows
            kept.write(table.filter(pa.array(keep)))
            if not keep.all():
                out = rows[~keep]
                stands_for = chosen.stands_for[out]
                nobody = stands_for < 0
                columns = {
                    "reason": pa.array([NO_TEXT if chosen.cluster[row] < 0 else FULL for row in out], pa.string()),
                    "because_of": chosen.ids.take(pa.array(stands_for, pa.int64(), mask=nobody)),
                    "similarity": pa.array(chosen.cosines[out], pa.float64(), mask=nobody),
                }
                gone.write(with_columns(table.filter(pa.array(~keep)), columns))
    silent = int((chosen.cluster < 0).sum())
    counts = {FULL: gone.rows - silent, NO_TEXT: silent}
    return kept.rows, {reason: number for reason, number in counts.items() if number}


def _texts(source: Path, rows: Sequence[int]) -> list[str]:
    """The beginnings of the texts in these rows of the file."""
    found: dict[int, str] = {}
    wanted, at = set(rows), 0
    for table in batches(source, ("text",)):
        for row in wanted.intersection(range(at, at + table.num_rows)):
            found[row] = " ".join(table.column("text")[row - at].as_py().split())[:_EXCERPT]
        at += table.num_rows
    return [found[row] for row in rows]
