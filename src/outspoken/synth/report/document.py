"""Measuring a pipeline's folder: everything that its report says, as one plain document."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken._version import __version__
from outspoken.errors import MissingExtraError, ProviderError, ReplyError, UsageError
from outspoken.io.atomic import write_bytes
from outspoken.measure.embedding import Embedder
from outspoken.measure.embedding import embedder as embedder_named
from outspoken.report import charts, html
from outspoken.report.format import number
from outspoken.synth.report import charts as report_charts
from outspoken.synth.report import coverage_map, diversity, samples, step_summaries, tables, text
from outspoken.synth.report.samples import FolderScan
from outspoken.synth.steps.base import StepProgress

__all__ = ["FORMAT", "measure", "render", "write"]

FORMAT = 1
_Vectors = dict[str, NDArray[np.float32]]


async def measure(
    folder: str | os.PathLike[str],
    *,
    embedder: str = "minilm",
    sample: int = 2000,
    seed: int = 0,
    watch: StepProgress | None = None,
    name: str = "",
    planned: Sequence[str] = (),
    key: str = "",
) -> dict[str, Any]:
    """Measure what the steps in `folder` made, write it as `report.json` there, and return that document.

    Diversity and the map look at no more than `sample` records of each step, chosen by `seed` and the records'
    ids. `embedder` is a name for `outspoken.measure.embedding.embedder`, or "none": then there are figures of
    words alone, and no map. `name` is the pipeline's, `planned` the names of all its steps ("01-generate"), so
    that the report can say which are missing; `key` is kept in the document.

    Raises `UsageError` where there is no finished step or a manifest cannot be read, and for an embedder that
    means nothing. Files of records that are missing and an embedder that fails are warnings in the document.
    """
    folder, watch = Path(folder), watch or StepProgress()
    if sample < 2:
        raise UsageError(f"sample must be at least 2, not {sample}")
    embeds = None if embedder == "none" else embedder_named(embedder)
    made, missing = step_summaries.manifests(folder, planned)
    told = step_summaries.entries(made)
    look = FolderScan(made, told, sample, seed)
    await look.read(watch)
    vectors, without = await _embedded(look, embeds, watch)
    drawn, clusters = await _map(look, told, vectors, seed, watch)
    document = {
        "kind": "synth",
        "format": FORMAT,
        "name": name or folder.resolve().name,
        "key": key,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "generated": told[0]["records"],
        "kept": told[-1]["kept"],
        "unfinished": step_summaries.unfinished(told, missing),
        "missing": missing,
        "steps": told,
        "cost": step_summaries.cost(told),
        "diversity": {**await _diversity(look, vectors, sample, seed, watch), "no_embeddings": without},
        "map": drawn,
        "clusters": clusters,
        "covered": look.covered(),
        "examples": await look.examples(),
        "warnings": [
            *(f"{entry['step']}: {warning}" for entry in told for warning in entry["warnings"]),
            *step_summaries.mismatches(told),
            *look.warnings,
        ],
        "settings": {"embedder": embedder, "sample": sample, "seed": seed},
    }
    write_bytes(
        folder / "report.json",
        json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace"),
    )
    return document


async def _embedded(look: FolderScan, embeds: Embedder | None, watch: StepProgress) -> tuple[_Vectors | None, str]:
    """The vectors of what was sampled, by text; None, and why, where there are none."""
    if embeds is None:
        return None, "embedder: none"
    pooled = (text for pool in look.pools for text in pool.texts)
    texts = list(dict.fromkeys([*(row["text"] for row in look.rows), *pooled]))
    try:
        found = await embeds.embed(texts, lambda done, total: watch.tell("embedding", done, total))
    except (MissingExtraError, ProviderError, ReplyError) as error:
        look.warnings.append(f"nothing could be embedded, so only words were measured ({embeds.name}: {error})")
        return None, f"{embeds.name}: {error}"
    finally:
        await embeds.aclose()
    look.warnings += embeds.warnings
    vectors = {text: vector for text, vector in zip(texts, found, strict=True) if vector.any()}
    if empty := [text for text in texts if text not in vectors]:
        look.warnings.append(f"{len(empty):,} of the texts mean nothing to {embeds.name}: they were left out")
        look.leave_out(empty)
    return vectors, ""


async def _diversity(
    look: FolderScan, vectors: _Vectors | None, sample: int, seed: int, watch: StepProgress
) -> dict[str, Any]:
    n = diversity.size_of(look.pools, sample)
    known = vectors
    rows = await diversity.diversity(
        look.pools, n, None if known is None else lambda texts: _stacked(known, texts), seed, watch
    )
    measures = [
        {key: getattr(measure, key) for key in ("name", "title", "better", "about", "scale")}
        for measure in diversity.MEASURES
        if any(measure.name in row["measures"] for row in rows)
    ]
    return {"n": n, "sample": sample, "choices": diversity.CHOICES, "measures": measures, "steps": rows}


async def _map(
    look: FolderScan, told: Sequence[dict[str, Any]], vectors: _Vectors | None, seed: int, watch: StepProgress
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The map of the records that the first step began with, and its clusters; None where there is none."""
    if vectors is None or len(look.rows) < coverage_map.LEAST:
        return None, []
    watch.tell("drawing the map", 0)
    order = [samples.LOST, samples.KEPT, *(entry["label"] for entry in told)]
    stacked = _stacked(vectors, [row["text"] for row in look.rows])
    return await asyncio.to_thread(coverage_map.made, look.rows, stacked, look.fates, order, seed)


def _stacked(vectors: _Vectors, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vectors[text] for text in texts])


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` into `folder` from what `measure` gave or its `report.json` holds; the path of the page.

    One file, written whole or not at all, that needs no network. Raises `UsageError` where `document` is something
    else, `OutputError` where the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(document).encode())
    return page


def render(document: Mapping[str, Any]) -> str:
    """The page, with every script, style and chart inside. What models wrote is text in it and nothing else."""
    if document.get("kind") != "synth" or document.get("format") != FORMAT:
        raise UsageError(
            "this is no report of a pipeline by this version: run `outspoken synth` again to make one"
        )
    document = html.printable(document)
    specs: dict[str, Any] = {}
    figures = [(charts.add_chart(specs, figure.chart), figure) for figure in report_charts.figures(document)]
    diversity = document["diversity"]
    return html.render(
        resources.files("outspoken.synth.report") / "page",
        "report.html",
        specs,
        version=document["version"],
        document=document,
        lead=text.lead(document),
        sentences=text.sentences(document),
        facts=text.facts(document),
        figures=figures,
        ground=text.ground(diversity),
        few=text.few(diversity),
        steps=tables.steps(document),
        reasons=tables.reasons(document),
        diversity=tables.diversity(document),
        covered=[tables.covered(name, found) for name, found in document["covered"].items()],
        legend=report_charts.lines(document) if document["map"] else [],
        axes=report_charts.axes(document) if document["map"] else "",
        clustered=text.clustered(document["clusters"]),
        most=max((cluster["generated"] for cluster in document["clusters"]), default=1),
        count=text.count,
        share=text.share,
        excerpt=text.excerpt,
        number=number,
        provenance=[(entry["step"], _provenance(entry)) for entry in document["steps"]],
    )


def _provenance(entry: Mapping[str, Any]) -> str:
    """How a step was made, as JSON."""
    told = ("do", "model", "seed", "source", "version", "begun", "finished", "key", "settings", "figures", "files")
    return json.dumps({name: entry[name] for name in told}, ensure_ascii=False, indent=2)
