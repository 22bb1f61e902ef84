"""The steps of a pipeline as their manifests tell them: what went in, what stayed, why others left, the cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError

__all__ = ["FinishedStep", "cost", "entries", "manifests", "mismatches", "unfinished"]

_NAME = re.compile(r"(\d+)-(.+)")
_COUNTS = ("requests", "from_ledger", "tokens", "failures")


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step that has a manifest, and the files of its records."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    @property
    def removed(self) -> Path:
        return self.folder / f"{self.name}.removed.parquet"


def manifests(folder: Path, planned: Sequence[str] = ()) -> tuple[list[FinishedStep], list[str]]:
    """The steps that are there, in their order, and the names of those that are not.

    `planned` are the names of all steps. What stands behind a missing step is of an earlier run, and counts as
    missing too. Without them every manifest counts, and a file of records without one is a missing step.

    Raises `UsageError` where there is no manifest, or one cannot be read.
    """
    found = {path.stem: path for path in folder.glob("*.json") if _NAME.fullmatch(path.stem)}
    if planned:
        names = list(planned)
        there = next((at for at, name in enumerate(names) if name not in found), len(names))
    else:
        records = {path.stem for path in folder.glob("*.parquet") if _NAME.fullmatch(path.stem)}
        begun = sorted((name for name in records - set(found) if not name.endswith(".removed")), key=_order)
        names = [*sorted(found, key=_order), *begun]
        there = len(found)
    if not there:
        raise UsageError(
            f"{folder} holds no finished step of a pipeline: run `outspoken synth` with --out {folder}"
        )
    return [FinishedStep(name, folder, _read(found[name])) for name in names[:there]], names[there:]


def entries(made: Sequence[FinishedStep]) -> list[dict[str, Any]]:
    """What the report says of each step; `label` names it in few words, `yield` is kept over records, and
    `cumulative` kept over what the first step began with."""
    names = [_do(step) for step in made]
    told: list[dict[str, Any]] = []
    begun = 0
    for step, name in zip(made, names, strict=True):
        manifest = step.manifest
        removed = {str(reason): int(count) for reason, count in (manifest.get("removed") or {}).items()}
        kept = int(manifest.get("kept") or 0)
        came = kept + sum(removed.values())
        first = not told
        records = came if first and not manifest.get("source") else int(manifest.get("records") or 0)
        begun = records if first else begun
        told.append(
            {
                "step": step.name,
                "label": name if names.count(name) == 1 else step.name,
                **{key: manifest.get(key) for key in ("do", "settings", "seed", "model", "source", "key")},
                "records": records,
                "kept": kept,
                "removed": dict(sorted(removed.items(), key=lambda entry: -entry[1])),
                "yield": kept / records if records else None,
                "cumulative": kept / begun if begun else None,
                "seconds": manifest.get("seconds"),
                "cost": _asked(manifest.get("figures") or {}),
                "figures": manifest.get("figures") or {},
                "warnings": [str(warning) for warning in manifest.get("warnings") or ()],
                "partly": manifest.get("partly") or "",
                **{key: manifest.get(key) for key in ("begun", "finished", "version", "files")},
            }
        )
    return told


def cost(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all steps cost, and as `per_record` the share that a record of the last step bears (None of none).

    `usd` is None where the price of one step is not known, `asked` whether any step asked a model.
    """
    asked = [entry["cost"] for entry in told if entry["cost"]]
    prices = [part["usd"] for part in asked]
    whole: dict[str, Any] = {
        **{name: sum(part[name] for part in asked) for name in _COUNTS},
        "usd": None if None in prices else sum(prices),
        "seconds": sum(entry["seconds"] or 0 for entry in told),
    }
    kept = told[-1]["kept"]
    each = {
        name: whole[name] / kept if kept and whole[name] is not None else None
        for name in ("requests", "tokens", "seconds", "usd")
    }
    return {**whole, "asked": bool(asked), "per_record": each}


def unfinished(told: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> list[str]:
    """What is not finished, a sentence each."""
    said = [f"{entry['step']} is only partly done: {entry['partly']}." for entry in told if entry["partly"]]
    if missing:
        were = "was not finished" if len(missing) == 1 else "were not finished"
        said.append(f"{', '.join(missing)} {were}, so these figures are not those of the whole pipeline.")
    return [text.replace("..", ".") for text in said]


def mismatches(told: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Steps that read another number of records than the one before them kept."""
    for before, entry in pairwise(told):
        if entry["records"] != before["kept"]:
            yield (
                f"{entry['step']} read {entry['records']:,} records, and {before['step']} kept "
                f"{before['kept']:,}: they are of different runs, so run the pipeline again"
            )


def _order(name: str) -> tuple[int, str]:
    number, _, rest = name.partition("-")
    return int(number), rest


def _do(step: FinishedStep) -> str:
    return str(step.manifest.get("do") or step.name.partition("-")[2]).rpartition(":")[2]


def _asked(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a step cost that asked a model; None for one that did not."""
    if "requests" not in figures:
        return None
    return {**{name: figures.get(name) or 0 for name in _COUNTS}, "usd": figures.get("usd")}


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): delete it, and run the pipeline again") from error
    if not isinstance(manifest, dict) or "kept" not in manifest:
        raise UsageError(f"{path} is no manifest of a step: move it out of the folder")
    return manifest
