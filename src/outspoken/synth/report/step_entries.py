"""The steps of a report, from their manifests: what went in, what was kept and removed, and the cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.synth.manifest import StepManifest
from outspoken.synth.report.document import CostPerRecord, PipelineCost, StepEntry
from outspoken.synth.steps.base import StepCost

__all__ = ["cost_of", "entries_of", "mismatches", "read_manifests", "unfinished"]

_NAME = re.compile(r"(\d+)-(.+)")


def read_manifests(folder: Path, planned: Sequence[str] = ()) -> tuple[list[StepManifest], list[str]]:
    """The manifests in a folder in the order of their steps, and the names of steps without one.

    `planned` are the names of all steps. Steps after a missing one are from an earlier run, and count as missing
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


def entries_of(manifests: Sequence[StepManifest]) -> list[StepEntry]:
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


def cost_of(entries: Sequence[StepEntry]) -> PipelineCost:
    """The cost of all steps, and its share for each record of the last one."""
    costs = [entry.cost for entry in entries if entry.cost]
    total, kept = sum(costs, start=StepCost()), entries[-1].kept
    seconds = sum(entry.seconds or 0 for entry in entries)
    per_record = CostPerRecord()
    if kept:
        usd = None if total.usd is None else total.usd / kept
        per_record = CostPerRecord(total.requests / kept, total.tokens / kept, seconds / kept, usd)
    return PipelineCost(**asdict(total), seconds=seconds, asked=bool(costs), per_record=per_record)


def unfinished(entries: Sequence[StepEntry], missing: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each step that is partly done, and one for those that are missing."""
    sentences = [f"{entry.step} is only partly done: {entry.partly}." for entry in entries if entry.partly]
    if missing:
        were = "was not finished" if len(missing) == 1 else "were not finished"
        sentences.append(f"{', '.join(missing)} {were}, so these figures are not those of the whole pipeline.")
    return tuple(sentence.replace("..", ".") for sentence in sentences)


def mismatches(entries: Sequence[StepEntry]) -> Iterator[str]:
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
