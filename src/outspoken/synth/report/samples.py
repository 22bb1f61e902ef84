"""What the report takes out of the files of records: samples by a seeded order, examples, counts of topics."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.measure.tokenization import words
from outspoken.synth.records import batches, fields_of
from outspoken.synth.report.diversity import TextPool
from outspoken.synth.report.step_summaries import FinishedStep
from outspoken.synth.steps.base import StepProgress

__all__ = [
    "ALSO",
    "KEPT",
    "LOST",
    "FolderScan",
    "RecordSample",
    "Row",
    "cut",
    "example",
    "number",
    "tally",
    "texts_of",
    "walk",
]

pq = need("pyarrow.parquet", "synthetic data", "synth")


ALSO = ("topic", "persona", "final", "answer", "verdict", "agreement", "probability")
"""Fields that an example shows beside its text, where a record has them."""

LOST, KEPT = "no longer there", "kept"

LONGEST = 20_000
"""Characters of one example: what is longer is cut."""

Row = Mapping[str, Any]


class RecordSample:
    """The `size` rows that come first in an order that the seed and the ids alone decide.

    So it is a random sample, the same at every run, and a record that several files hold is in all samples or none
    as far as they reach: what must be embedded stays little.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._salt = str(seed).encode()[:64]
        self._heap: list[tuple[int, int, Row]] = []
        self._count = 0

    def offer(self, row: Row) -> None:
        digest = hashlib.blake2b(str(row["id"]).encode(), digest_size=8, key=self._salt).digest()
        place = -int.from_bytes(digest, "big")
        self._count += 1
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, (place, self._count, row))
        elif self._heap and place > self._heap[0][0]:
            heapq.heapreplace(self._heap, (place, self._count, row))

    @property
    def rows(self) -> list[Row]:
        return [row for *_, row in sorted(self._heap, key=lambda entry: (-entry[0], entry[1]))]


async def walk(path: Path, wanted: Sequence[str], visit: Callable[[Row], None]) -> None:
    """Show each record of a file to `visit`, with those of the `wanted` fields that it has.

    A field that is no column is looked for in the record's `value`. Memory stays bounded; other tasks go on
    meanwhile, and cancelling ends it. Raises `UsageError` where the file cannot be read or has no `id`.
    """
    try:
        there = set(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as Parquet ({error}): make it again") from error
    columns = ["id", *(name for name in wanted if name in there)]
    inside = "value" in there and len(columns) <= len(wanted)
    tables = batches(path, [*columns, "value"] if inside else columns)

    def see(table: Any) -> None:
        for row in table.to_pylist():
            visit(fields_of(row) if inside else row)

    while (table := await asyncio.to_thread(next, tables, None)) is not None:
        await asyncio.to_thread(see, table)


async def texts_of(ids: Collection[str], step: FinishedStep) -> dict[str, str]:
    """The texts of these records, as far as the step kept or removed them."""
    found: dict[str, str] = {}

    def see(row: Row) -> None:
        if row["id"] in ids:
            found.setdefault(str(row["id"]), cut(row.get("text") or ""))

    for path in (step.out, step.removed):
        if len(found) < len(ids) and path.exists():
            await walk(path, ("text",), see)
    return found


def example(row: Row, **more: Any) -> dict[str, Any]:
    """A record as the report shows it."""
    also = {name: _plain(row[name]) for name in ALSO if row.get(name) not in (None, "", row.get("text"))}
    return {"id": str(row["id"]), "text": cut(row.get("text") or ""), "also": also, **more}


def cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters in all)"


def number(value: Any) -> float | None:
    """A figure that JSON can hold; None for what is none."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def tally(counts: Mapping[str, Counter[str]]) -> Callable[[Row], None]:
    """A visitor that counts the values of the columns that `counts` is of."""

    def see(row: Row) -> None:
        for name, counter in counts.items():
            if row.get(name) not in (None, ""):
                counter[str(row[name])] += 1

    return see


def _plain(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return value if isinstance(value, bool) else cut(str(value))


_COVERED = ("topic", "persona")
_LISTED = 200
_KEPT_EXAMPLES, _REMOVED_EXAMPLES = 6, 3
_MOST_REASONS = 12
_Visit = Callable[[Row], None]


class FolderScan:
    """What is read of the records; `told` are the entries of the steps.

    After `read`: `pools` are the texts of each step, before them those of the input where there was one; `rows` a
    sample of the records that the first step began with, and `fates` what became of these, by id. `warnings` tells
    of files that are missing.
    """

    def __init__(
        self, made: Sequence[FinishedStep], told: Sequence[Mapping[str, Any]], sample: int, seed: int
    ) -> None:
        self.warnings: list[str] = []
        self.pools: list[TextPool] = []
        self.rows: list[Row] = []
        self.fates: dict[str, str] = {}
        self._made, self._told = made, told
        self._sample, self._seed = sample, seed
        self._came: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._stayed: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._kept = RecordSample(_KEPT_EXAMPLES, seed)
        self._gone: list[dict[str, RecordSample]] = [{} for _ in made]

    async def read(self, watch: StepProgress) -> None:
        """Go through all files."""
        base = RecordSample(self._sample, self._seed)
        for at, (step, entry) in enumerate(zip(self._made, self._told, strict=True)):
            watch.tell("reading records", at, len(self._made))
            sample = RecordSample(self._sample, self._seed)
            seen = [_with_text(sample.offer)]
            if at == 0:
                begun = [_with_text(base.offer), tally(self._came)]
                await self._walk(step.removed, ("text", *_COVERED), begun)
                seen += begun
            await self._walk(step.out, ("text", *_COVERED), seen, needed=entry["kept"] > 0)
            texts = tuple(row["text"] for row in sample.rows if words(row["text"]))
            self.pools.append(TextPool(step.name, entry["label"], entry["kept"], texts))
        self.rows = base.rows
        if self._told[0]["source"]:
            read = tuple(row["text"] for row in self.rows if words(row["text"]))
            self.pools.insert(0, TextPool("", "the input", self._told[0]["records"], read))
        self.fates = {str(row["id"]): LOST for row in self.rows}
        for at, (step, entry) in enumerate(zip(self._made, self._told, strict=True)):
            wanted = ("text", "reason", "because_of", "similarity", *ALSO)
            await self._walk(step.removed, wanted, [self._left(at)], needed=bool(entry["removed"]))
        last = [tally(self._stayed), self._stays, self._kept.offer]
        await self._walk(self._made[-1].out, ("text", *ALSO), last)

    def leave_out(self, texts: Iterable[str]) -> None:
        """Look no more at these texts."""
        out = set(texts)
        self.rows = [row for row in self.rows if row["text"] not in out]
        self.pools = [
            TextPool(pool.step, pool.label, pool.kept, tuple(text for text in pool.texts if text not in out))
            for pool in self.pools
        ]

    def covered(self) -> dict[str, Any]:
        """How many records each topic and persona came with, and how many stayed."""
        told = {}
        for name in _COVERED:
            given = (self._told[0]["settings"] or {}).get(f"{name}s")
            came = Counter(dict.fromkeys(map(str, given), 0) if isinstance(given, list) else {})
            came.update(self._came[name])
            if came:
                values = [
                    {"value": value, "generated": count, "kept": self._stayed[name][value]}
                    for value, count in came.most_common(_LISTED)
                ]
                stayed = sum(self._stayed[name][value] > 0 for value in came)
                told[name] = {"values": values, "of": len(came), "kept": stayed}
        return told

    async def examples(self) -> dict[str, Any]:
        """Records that stayed, and for each step and reason some that left, with what stands for them."""
        removed: list[dict[str, Any]] = []
        for entry, step, gone in zip(self._told, self._made, self._gone, strict=True):
            rows = [row for sample in gone.values() for row in sample.rows]
            texts = await texts_of({row["because_of"] for row in rows if row.get("because_of")}, step)
            removed += [
                {
                    "step": step.name,
                    "label": entry["label"],
                    "reason": reason,
                    "count": entry["removed"].get(reason),
                    "records": [_left_example(row, texts) for row in gone[reason].rows],
                }
                for reason in sorted(gone, key=lambda reason: -entry["removed"].get(reason, 0))
            ]
        return {"kept": [example(row) for row in self._kept.rows], "removed": removed}

    def _stays(self, row: Row) -> None:
        if str(row["id"]) in self.fates:
            self.fates[str(row["id"])] = KEPT

    def _left(self, at: int) -> _Visit:
        def see(row: Row) -> None:
            if str(row["id"]) in self.fates:
                self.fates[str(row["id"])] = self._told[at]["label"]
            gone, reason = self._gone[at], str(row.get("reason") or "no reason given")
            if reason in gone or len(gone) < _MOST_REASONS:
                gone.setdefault(reason, RecordSample(_REMOVED_EXAMPLES, self._seed)).offer(row)

        return see

    async def _walk(
        self, path: Path, wanted: Sequence[str], visits: Sequence[_Visit], *, needed: bool = False
    ) -> None:
        """Show a file's records to all of `visits`. Where it is missing though `needed`, a warning says so."""

        def visit(row: Row) -> None:
            for see in visits:
                see(row)

        if not path.exists():
            if needed:
                self.warnings.append(f"{path.name} is missing, so nothing of its records is in this report")
            return
        try:
            await walk(path, wanted, visit)
        except UsageError as error:
            if str(error) not in self.warnings:
                self.warnings.append(str(error))


def _with_text(visit: _Visit) -> _Visit:
    def see(row: Row) -> None:
        if isinstance(text := row.get("text"), str) and text.strip():
            visit(row)

    return see


def _left_example(row: Row, texts: Mapping[str, str]) -> dict[str, Any]:
    because = row.get("because_of")
    text = texts.get(str(because))
    return example(row, because_of=because, because_text=text, similarity=number(row.get("similarity")))
