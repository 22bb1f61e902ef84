"""Measuring a pipeline's folder for its report."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outspoken._version import __version__
from outspoken.errors import MissingExtraError, ProviderError, ReplyError, UsageError
from outspoken.io.atomic import write_bytes
from outspoken.measure.embedding import Embedder
from outspoken.measure.embedding import embedder as embedder_named
from outspoken.synth.report import coverage_map, step_entries
from outspoken.synth.report.diversity import measure_diversity, size_of
from outspoken.synth.report.document import (
    CoverageMap,
    PipelineReport,
    RecordCluster,
    ReportSettings,
    StepEntry,
)
from outspoken.synth.report.samples import KEPT, LOST, FolderScan
from outspoken.synth.steps.base import StepProgress

__all__ = ["build_report"]

_Vectors = dict[str, NDArray[np.float32]]


async def build_report(
    folder: str | os.PathLike[str],
    *,
    embedder: str = "minilm",
    sample: int = 2000,
    seed: int = 0,
    progress: StepProgress | None = None,
    name: str = "",
    planned: Sequence[str] = (),
    key: str = "",
) -> PipelineReport:
    """Measure the records of the steps in `folder`, and write `report.json` there.

    Diversity and the map use at most `sample` records of each step, chosen by `seed` and the records' ids.
    `embedder` is a name for `outspoken.measure.embedding.embedder`, or "none": then there are only measures of
    words, and no map. `name` is the pipeline's; `planned` are the names of all its steps ("01-generate"), so that
    the report can name missing ones; `key` is kept in the document.

    Raises `UsageError` if there is no finished step or a manifest cannot be read, and for an unknown embedder.
    Missing files of records and an embedder that fails are warnings in the report.
    """
    folder, progress = Path(folder), progress or StepProgress()
    if sample < 2:
        raise UsageError(f"sample must be at least 2, not {sample}")
    model = None if embedder == "none" else embedder_named(embedder)
    manifests, missing = step_entries.read_manifests(folder, planned)
    entries = step_entries.entries_of(manifests)
    scan = FolderScan(folder, entries, sample, seed)
    await scan.read(progress)
    vectors, no_embeddings = await _embed(scan, model, progress)
    record_map, clusters = await _map(scan, entries, vectors, seed, progress)
    diversity = await measure_diversity(
        scan.pools,
        size_of(scan.pools, sample),
        None if vectors is None else lambda texts: _stacked(vectors, texts),
        seed,
        progress,
        sample=sample,
        no_embeddings=no_embeddings,
    )
    examples = await scan.examples()
    report = PipelineReport(
        name=name or folder.resolve().name,
        key=key,
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        generated=entries[0].records,
        kept=entries[-1].kept,
        unfinished=step_entries.unfinished(entries, missing),
        missing=tuple(missing),
        steps=tuple(entries),
        cost=step_entries.cost_of(entries),
        diversity=diversity,
        map=record_map,
        clusters=clusters,
        covered=scan.covered(),
        examples=examples,
        warnings=(
            *(f"{entry.step}: {warning}" for entry in entries for warning in entry.warnings),
            *step_entries.mismatches(entries),
            *scan.warnings,
        ),
        settings=ReportSettings(embedder, sample, seed),
    )
    text = json.dumps(report.to_dict(), ensure_ascii=False, indent=1)
    write_bytes(folder / "report.json", text.encode("utf-8", "backslashreplace"))
    return report


async def _embed(scan: FolderScan, model: Embedder | None, progress: StepProgress) -> tuple[_Vectors | None, str]:
    """The embeddings of the sampled texts, by text; or None and the reason."""
    if model is None:
        return None, "embedder: none"
    texts = list(
        dict.fromkeys(
            [*(str(row["text"]) for row in scan.rows), *(text for pool in scan.pools for text in pool.texts)]
        )
    )
    try:
        embedded = await model.embed(texts, lambda done, total: progress.update("embedding", done, total))
    except (MissingExtraError, ProviderError, ReplyError) as error:
        scan.warnings.append(f"nothing could be embedded, so only words were measured ({model.name}: {error})")
        return None, f"{model.name}: {error}"
    finally:
        await model.aclose()
    scan.warnings += model.warnings
    vectors = {text: vector for text, vector in zip(texts, embedded, strict=True) if vector.any()}
    if empty := [text for text in texts if text not in vectors]:
        scan.warnings.append(f"{len(empty):,} of the texts mean nothing to {model.name}: they were left out")
        scan.leave_out(empty)
    return vectors, ""


async def _map(
    scan: FolderScan,
    entries: Sequence[StepEntry],
    vectors: _Vectors | None,
    seed: int,
    progress: StepProgress,
) -> tuple[CoverageMap | None, tuple[RecordCluster, ...]]:
    """The map of the first step's records and its clusters; None if there are too few records or no embeddings."""
    if vectors is None or len(scan.rows) < coverage_map.MIN_RECORDS:
        return None, ()
    progress.update("drawing the map", 0)
    order = [LOST, KEPT, *(entry.label for entry in entries)]
    stacked = _stacked(vectors, [str(row["text"]) for row in scan.rows])
    return await asyncio.to_thread(coverage_map.map_records, scan.rows, stacked, scan.fates, order, seed)


def _stacked(vectors: _Vectors, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vectors[text] for text in texts])
