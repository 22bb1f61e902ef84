"""The step `balance`: limits the number of records in each cluster of embeddings."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.io.text import one_line
from outspoken.measure.embedding import DEFAULT, Embedder, embedder
from outspoken.measure.sets import effective_size
from outspoken.settings import check_values, option
from outspoken.synth.dedup.search import TextFile
from outspoken.synth.kmeans import Clustering, shares, spread, unit_vectors
from outspoken.synth.records import batches, count, pa, with_columns
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records

__all__ = ["BalanceOptions", "run"]

FULL = "its cluster is full"
NO_TEXT = "no text to embed"

_MAX_CLUSTERS = 1000
_EXCERPT = 120
_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class BalanceOptions(StepOptions):
    """Limit the records of each cluster, so that the model's favourite kinds do not crowd out the others.

    The clusters come from k-means on embeddings of unit length, with the pipeline's seed. The kept records are
    spread over their cluster: first the one nearest to the centre, then repeatedly the one farthest from all that
    were taken (Gonzalez 1985). So near-duplicates are removed first.
    """

    most: int | None = option(
        None, "At most this many records of each cluster. Default: twice the average size of a cluster.", low=1
    )
    total: int | None = option(
        None, "Instead of most: this many records, spread over the clusters as evenly as their sizes allow.", low=1
    )
    clusters: int | None = option(
        None,
        f"Number of clusters. Default: the square root of half the number of records, at most {_MAX_CLUSTERS:,}.",
        low=1,
    )
    embedder: str = option(DEFAULT, "Embedding model; `wordllama` is for hundreds of thousands of records.")

    def __post_init__(self) -> None:
        check_values(self)
        if self.most is not None and self.total is not None:
            raise UsageError("most (of each cluster) and total exclude each other: give one of them")
        embedder(self.embedder, cache=None)

    def added_fields(self) -> tuple[str, ...]:
        return ("cluster",)


async def run(options: BalanceOptions, step: Step) -> StepOutcome:
    """Embed, cluster and choose the records.

    All vectors are in memory: 4 bytes for each dimension of each record (minilm: 1.5 GB for a million records).
    """
    source = step.needed_source()
    model = embedder(options.embedder)
    selection = await _embed(source, model, step)
    available = len(selection.vectors)
    if options.clusters is not None and options.clusters > available:
        raise UsageError(
            f"{available:,} records cannot form {options.clusters:,} clusters: lower clusters, or leave it out"
        )
    usual = max(1, min(_MAX_CLUSTERS, round(math.sqrt(available / 2))))
    labels, centres = await _cluster(selection.vectors, options.clusters or usual, step)
    before = np.bincount(labels, minlength=len(centres))
    if options.total is not None:
        quota = shares(before, options.total)
    else:
        quota = np.minimum(before, options.most or math.ceil(2 * available / max(1, len(centres))))
    selection.cluster[selection.rows] = labels
    await _select(selection, centres, quota, step)
    outcome = await _write(step, selection)
    sizes = {"before": before, "after": quota}
    figures = {
        "clusters": len(centres),
        **{f"sizes_{when}": each.tolist() for when, each in sizes.items()},
        **{f"effective_{when}": effective_size(each) if available else 0.0 for when, each in sizes.items()},
        "examples": await asyncio.to_thread(_excerpts, source, np.array(selection.central, np.int64)),
    }
    warnings = [*model.warnings, *_warnings(options, available, len(centres))]
    return replace(outcome, figures=figures, warnings=tuple(warnings))


def _warnings(options: BalanceOptions, available: int, clusters: int) -> Iterator[str]:
    if options.clusters and clusters < options.clusters:
        yield f"the records have only {clusters:,} different embeddings, so there are only {clusters:,} clusters"
    if options.total is not None and options.total >= available:
        yield f"total is {options.total:,} and there are {available:,} records with a text: all of them are kept"
    elif options.total is not None and options.total < clusters:
        yield (
            f"total is {options.total:,} and there are {clusters:,} clusters: the smaller ones keep nothing; "
            "ask for fewer clusters or a larger total"
        )


class _Selection:
    """The `ids` of all records, the unit `vectors` of those with a text, and the `rows` of these in the file.

    For each row of the file: its `cluster`, the kept row that `stands_for` it (itself if it is kept), and the
    cosine of the two; -1 if there is none. `central` holds the row nearest to each centre.
    """

    def __init__(self, vectors: NDArray[np.float32], rows: NDArray[np.int64], ids: Any) -> None:
        self.vectors, self.rows, self.ids = vectors, rows, ids
        self.cluster = np.full(len(ids), -1)
        self.stands_for = np.full(len(ids), -1)
        self.cosines = np.full(len(ids), -1.0)
        self.central: list[int] = []


async def _embed(source: Path, model: Embedder, step: Step) -> _Selection:
    total, start = count(source), 0
    vectors = np.empty((0, 0), np.float32)
    ids, rows = list[Any](), list[int]()
    for table in batches(source, ("id", "text"), rows=_ROWS):
        step.progress.update("embedding", start, total)
        texts = table.column("text").to_pylist()
        with_text = [at for at, text in enumerate(texts) if text and text.strip()]
        if with_text:
            batch = await model.embed([texts[at] for at in with_text])
            if not rows:
                vectors = np.empty((total, batch.shape[1]), np.float32)
            vectors[len(rows) : len(rows) + len(with_text)] = unit_vectors(batch)
        ids += table.column("id").cast(pa.string()).chunks
        rows += [start + at for at in with_text]
        start += len(texts)
    return _Selection(vectors[: len(rows)], np.array(rows, np.int64), pa.chunked_array(ids, pa.string()))


async def _cluster(vectors: NDArray[np.float32], wanted: int, step: Step) -> tuple[Any, Any]:
    if not len(vectors):
        return np.empty(0, np.int64), vectors
    clustering = Clustering(vectors, wanted, step.seed)
    pieces, done = clustering.work(), 0
    while not await asyncio.to_thread(next, pieces, True):
        done += 1
        step.progress.update("clustering", done)
    return clustering.labels, clustering.centres


async def _select(selection: _Selection, centres: Any, quota: Any, step: Step) -> None:
    """Select as many records of each cluster as its quota; the nearest of them stands for each other record."""
    labels = selection.cluster[selection.rows]
    for number, centre in enumerate(centres):
        step.progress.update("choosing", number, len(centres))
        members = np.flatnonzero(labels == number)
        wanted = max(1, int(quota[number]))
        chosen = await asyncio.to_thread(spread, selection.vectors[members], centre, wanted)
        rows = selection.rows[members]
        selection.central.append(int(rows[chosen.taken[0]]))
        if quota[number]:
            selection.stands_for[rows] = rows[chosen.stands_for]
            selection.cosines[rows] = chosen.cosines


async def _write(step: Step, selection: _Selection) -> StepOutcome:
    async def decide(table: Any, start: int) -> BatchDecision:
        rows = np.arange(start, start + table.num_rows)
        clusters = selection.cluster[rows]
        table = with_columns(table, {"cluster": pa.array(clusters, pa.int64(), mask=clusters < 0)})
        removed = selection.stands_for[rows] != rows
        pairs = zip(removed, clusters, strict=True)
        reasons = [(NO_TEXT if cluster < 0 else FULL) if gone else None for gone, cluster in pairs]
        stands_for = selection.stands_for[rows[removed]]
        nobody = stands_for < 0
        details = {
            "because_of": selection.ids.take(pa.array(stands_for, pa.int64(), mask=nobody)),
            "similarity": pa.array(selection.cosines[rows[removed]], pa.float64(), mask=nobody),
        }
        return BatchDecision(table, reasons, details)

    return await filter_records(step, "writing", decide)


def _excerpts(source: Path, rows: NDArray[np.int64]) -> list[str]:
    texts = TextFile(source).column_at("text", np.sort(rows))
    return [one_line(texts[at], _EXCERPT) for at in np.argsort(np.argsort(rows))]
