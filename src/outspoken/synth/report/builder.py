"""Measuring a pipeline's folder for its report."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outspoken._version import __version__
from outspoken.errors import MissingExtraError, ProviderError, ReplyError, UsageError
from outspoken.io.atomic import write_bytes
from outspoken.io.text import json_bytes
from outspoken.measure.embedding import Embedder
from outspoken.measure.embedding import embedder as embedder_named
from outspoken.synth.manifest import StepManifest
from outspoken.synth.report import coverage_map
from outspoken.synth.report.diversity import measure_diversity, size_of
from outspoken.synth.report.document import CoverageMap, PipelineCost, PipelineReport, RecordCluster, StepEntry
from outspoken.synth.report.samples import KEPT, LOST, FolderScan
from outspoken.synth.steps.base import StepCost, StepProgress

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
    `embedder` is a name for `outspoken.measure.embedding.embedder`, or "none" for measures of words alone and no
    map. `name` is the pipeline's; `planned` are the names of all its steps ("01-generate"), so that the report can
    name missing ones; `key` is stored in the document.

    Raises `UsageError` if there is no finished step or a manifest cannot be read, and for an unknown embedder.
    Missing files of records and an embedder that fails are warnings in the report.
    """
    folder, progress = Path(folder), progress or StepProgress()
    model = None if embedder == "none" else embedder_named(embedder)
    manifests, missing = _read_manifests(folder, planned)
    entries = _entries_of(manifests)
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
        unfinished=_unfinished(entries, missing),
        missing=tuple(missing),
        steps=tuple(entries),
        cost=_cost_of(entries),
        diversity=diversity,
        map=record_map,
        clusters=clusters,
        covered=scan.covered(),
        examples=examples,
        warnings=(
            *(f"{entry.step}: {warning}" for entry in entries for warning in entry.warnings),
            *_mismatches(entries),
            *scan.warnings,
        ),
        settings={"embedder": embedder, "sample": sample, "seed": seed},
    )
    write_bytes(folder / "report.json", json_bytes(report.to_dict(), indent=1))
    return report


async def _embed(scan: FolderScan, model: Embedder | None, progress: StepProgress) -> tuple[_Vectors | None, str]:
    """The embeddings of the sampled texts, by text; or None and the reason."""
    if model is None:
        return None, "embedder: none"
    pooled = (text for pool in scan.pools for text in pool.texts)
    texts = list(dict.fromkeys([*(str(row["text"]) for row in scan.rows), *pooled]))
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
    scan: FolderScan, entries: Sequence[StepEntry], vectors: _Vectors | None, seed: int, progress: StepProgress
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


_NAME = re.compile(r"(\d+)-(.+)")


def _read_manifests(folder: Path, planned: Sequence[str] = ()) -> tuple[list[StepManifest], list[str]]:
    """The manifests in a folder in the order of their steps, and the names of steps without one.

    `planned` are the names of all steps. Steps after a missing one are from an earlier run, so they are missing
    too. Without `planned` every manifest counts, and a file of records without a manifest is a missing step.

    Raises `UsageError` if there is no manifest, or one cannot be read.
    """
    paths = {path.stem: path for path in folder.glob("*.json") if _NAME.fullmatch(path.stem)}
    if planned:
        names = list(planned)
        finished = next((at for at, name in enumerate(names) if name not in paths), len(names))
    else:
        records = {path.stem for path in folder.glob("*.parquet") if _NAME.fullmatch(path.stem)}
        started = sorted((name for name in records - set(paths) if not name.endswith(".removed")), key=_order)
        names = [*sorted(paths, key=_order), *started]
        finished = len(paths)
    if not finished:
        raise UsageError(
            f"{folder} holds no finished step of a pipeline: run `outspoken synth` with --out {folder}"
        )
    return [_read(paths[name]) for name in names[:finished]], names[finished:]


def _entries_of(manifests: Sequence[StepManifest]) -> list[StepEntry]:
    """The entries of these steps. A label is the step's name, with its number only if the name is not unique."""
    names = [(done.do or done.step.partition("-")[2]).rpartition(":")[2] for done in manifests]
    entries: list[StepEntry] = []
    for done, name in zip(manifests, names, strict=True):
        removed = dict(sorted(done.removed.items(), key=lambda entry: -entry[1]))
        generates = not entries and not done.source
        records = done.kept + sum(removed.values()) if generates else done.records
        first = entries[0].records if entries else records
        recorded = {entry.name: getattr(done, entry.name) for entry in fields(done)}
        entries.append(
            StepEntry(
                **{**recorded, "records": records, "removed": removed},
                label=name if names.count(name) == 1 else done.step,
                kept_share=done.kept / records if records else None,
                cumulative=done.kept / first if first else None,
                cost=done.spent,
            )
        )
    return entries


def _cost_of(entries: Sequence[StepEntry]) -> PipelineCost:
    costs = [entry.cost for entry in entries if entry.cost]
    total, kept = sum(costs, start=StepCost()), entries[-1].kept
    seconds = sum(entry.seconds or 0 for entry in entries)
    spent = {"requests": total.requests, "tokens": total.tokens, "seconds": seconds, "usd": total.usd}
    per_record = {name: value / kept if kept and value is not None else None for name, value in spent.items()}
    return PipelineCost(**asdict(total), seconds=seconds, asked=bool(costs), per_record=per_record)


def _unfinished(entries: Sequence[StepEntry], missing: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each step that is partly done, and one for those that are missing."""
    sentences = [f"{entry.step} is only partly done: {entry.partly}." for entry in entries if entry.partly]
    if missing:
        were = "was not finished" if len(missing) == 1 else "were not finished"
        sentences.append(f"{', '.join(missing)} {were}, so these figures are not those of the whole pipeline.")
    return tuple(sentence.replace("..", ".") for sentence in sentences)


def _mismatches(entries: Sequence[StepEntry]) -> Iterator[str]:
    """Warnings about steps that read another number of records than the step before them kept."""
    for before, entry in pairwise(entries):
        if entry.records != before.kept:
            yield (
                f"{entry.step} read {entry.records:,} records, and {before.step} kept {before.kept:,}: they are "
                "from different runs, so run the pipeline again"
            )


def _order(name: str) -> tuple[int, str]:
    number, _, rest = name.partition("-")
    return int(number), rest


def _read(path: Path) -> StepManifest:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        if isinstance(document, dict) and "kept" in document:
            return StepManifest.from_dict({"step": path.stem, **document})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): delete it, and run the pipeline again") from error
    raise UsageError(f"{path} is no manifest of a step: move it out of the folder")
