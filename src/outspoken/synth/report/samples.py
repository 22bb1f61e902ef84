"""Reading the files of records for the report: seeded samples, examples, and counts of topics."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.tokenization import words
from outspoken.synth.records import Record, batches, fields_of
from outspoken.synth.report.diversity import TextPool
from outspoken.synth.report.document import (
    CoveredField,
    CoveredValue,
    RecordExample,
    RemovedExample,
    RemovedGroup,
    ReportExamples,
    StepEntry,
)
from outspoken.synth.steps.base import StepFiles, StepProgress

__all__ = ["KEPT", "LOST", "FolderScan", "RecordSample", "cut", "text_of"]

LOST, KEPT = "no longer there", "kept"

_MAX_CHARACTERS = 20_000
_SHOWN_FIELDS = ("topic", "persona", "final", "answer", "verdict", "agreement", "probability")
_COVERED = ("topic", "persona")
_MAX_VALUES = 200
_KEPT_EXAMPLES, _REMOVED_EXAMPLES = 6, 3
_MAX_REASONS = 12

_Visit = Callable[[Record], None]


class RecordSample:
    """The first `size` records in a random order that depends only on the seed and the ids.

    So it is the same in every run, and samples of files with common records have as many in common as possible:
    few texts must be embedded.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._key = str(seed).encode()[:64]
        self._heap: list[tuple[int, int, Record]] = []
        self._count = 0

    def offer(self, row: Record) -> None:
        digest = hashlib.blake2b(str(row["id"]).encode(), digest_size=8, key=self._key).digest()
        self._count += 1
        entry = (-int.from_bytes(digest, "big"), -self._count, row)
        (heapq.heappush if len(self._heap) < self.size else heapq.heappushpop)(self._heap, entry)

    @property
    def rows(self) -> list[Record]:
        return [row for *_, row in sorted(self._heap, reverse=True)]


class FolderScan:
    """The content of the files of all steps, as far as the report needs it; `read` fills it in.

    `pools` are the texts of each step, preceded by those of the input if there was one. `rows` is a sample of the
    first step's records before it removed any, and `fates` has for each id the step that removed it, `KEPT` or
    `LOST`. `warnings` are about missing and damaged files.
    """

    def __init__(self, folder: Path, entries: Sequence[StepEntry], sample: int, seed: int) -> None:
        self.warnings: list[str] = []
        self.pools: list[TextPool] = []
        self.rows: list[Record] = []
        self.fates: dict[str, str] = {}
        self._entries = entries
        self._files = [StepFiles(entry.step, folder) for entry in entries]
        self._sample, self._seed = sample, seed
        self._generated: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._kept: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._kept_examples = RecordSample(_KEPT_EXAMPLES, seed)
        self._removed_examples: list[dict[str, RecordSample]] = [{} for _ in entries]

    async def read(self, progress: StepProgress) -> None:
        base = RecordSample(self._sample, self._seed)
        of_first = [_with_text(base.offer), _counting(self._generated)]
        await self._walk(self._files[0].removed, ("text", *_COVERED), *of_first)
        for at, (files, entry) in enumerate(zip(self._files, self._entries, strict=True)):
            progress.update("reading records", at, len(self._entries))
            sample = RecordSample(self._sample, self._seed)
            visits = [_with_text(sample.offer), *([] if at else of_first)]
            await self._walk(files.out, ("text", *_COVERED), *visits, needed=entry.kept > 0)
            self.pools.append(TextPool(entry.step, entry.label, entry.kept, _measurable(sample.rows)))
        self.rows = base.rows
        if self._entries[0].source:
            self.pools.insert(0, TextPool("", "the input", self._entries[0].records, _measurable(self.rows)))
        self.fates = {str(row["id"]): LOST for row in self.rows}
        for at, (files, entry) in enumerate(zip(self._files, self._entries, strict=True)):
            wanted = ("text", "reason", "because_of", "similarity", *_SHOWN_FIELDS)
            await self._walk(files.removed, wanted, self._see_removed(at), needed=bool(entry.removed))
        visits = [_counting(self._kept), self._see_kept, self._kept_examples.offer]
        await self._walk(self._files[-1].out, ("text", *_SHOWN_FIELDS), *visits)

    def leave_out(self, texts: Iterable[str]) -> None:
        """Remove these texts from the samples."""
        out = set(texts)
        self.rows = [row for row in self.rows if row["text"] not in out]
        self.pools = [
            replace(pool, texts=tuple(text for text in pool.texts if text not in out)) for pool in self.pools
        ]

    def covered(self) -> dict[str, CoveredField]:
        """For each topic and persona the numbers of generated and kept records."""
        fields = {}
        for name, kept in self._kept.items():
            given = self._entries[0].settings.get(f"{name}s")
            generated = Counter(dict.fromkeys(map(str, given), 0) if isinstance(given, list) else {})
            generated.update(self._generated[name])
            if generated:
                values = [CoveredValue(value, n, kept[value]) for value, n in generated.most_common(_MAX_VALUES)]
                with_kept = sum(kept[value] > 0 for value in generated)
                fields[name] = CoveredField(tuple(values), len(generated), with_kept)
        return fields

    async def examples(self) -> ReportExamples:
        """Some kept records; for each step and reason some removed ones, with those that stand for them."""
        groups = []
        for entry, files, samples in zip(self._entries, self._files, self._removed_examples, strict=True):
            because = {row.get("because_of") for sample in samples.values() for row in sample.rows}
            texts = await self._texts_of({str(name) for name in because if name}, files)
            for reason in sorted(samples, key=lambda reason: -entry.removed.get(reason, 0)):
                records = tuple(_removed_example(row, texts) for row in samples[reason].rows)
                groups.append(RemovedGroup(entry.step, entry.label, reason, entry.removed.get(reason), records))
        kept = (RecordExample(str(row["id"]), text_of(row), _shown(row)) for row in self._kept_examples.rows)
        return ReportExamples(tuple(kept), tuple(groups))

    def _see_kept(self, row: Record) -> None:
        if str(row["id"]) in self.fates:
            self.fates[str(row["id"])] = KEPT

    def _see_removed(self, at: int) -> _Visit:
        samples, label = self._removed_examples[at], self._entries[at].label

        def see(row: Record) -> None:
            if str(row["id"]) in self.fates:
                self.fates[str(row["id"])] = label
            reason = str(row.get("reason") or "no reason given")
            if reason in samples or len(samples) < _MAX_REASONS:
                samples.setdefault(reason, RecordSample(_REMOVED_EXAMPLES, self._seed)).offer(row)

        return see

    async def _walk(self, path: Path, wanted: Sequence[str], *visits: _Visit, needed: bool = False) -> None:
        """Call all of `visits` for each record of a file, with its id and the `wanted` fields that it has.

        A field that is not a column is read from the record's `value`. Memory is bounded, and the work is done in
        threads. A file that is damaged, or missing although `needed`, is a warning.
        """

        def see(table: Any) -> None:
            for row in table.to_pylist():
                record = fields_of(row) if reads_value else row
                for visit in visits:
                    visit(record)

        if not path.exists():
            if needed:
                self.warnings.append(f"{path.name} is missing, so nothing of its records is in this report")
            return
        try:
            available = next(batches(path, rows=1)).column_names
            columns = ["id", *(name for name in wanted if name in available)]
            reads_value = "value" in available and len(columns) <= len(wanted)
            tables = batches(path, [*columns, "value"] if reads_value else columns)
            while (table := await asyncio.to_thread(next, tables, None)) is not None:
                await asyncio.to_thread(see, table)
        except UsageError as error:
            if str(error) not in self.warnings:
                self.warnings.append(str(error))

    async def _texts_of(self, ids: Collection[str], files: StepFiles) -> dict[str, str]:
        """The texts of these records that the step kept or removed."""
        texts: dict[str, str] = {}

        def see(row: Record) -> None:
            if row["id"] in ids:
                texts.setdefault(str(row["id"]), text_of(row))

        for path in (files.out, files.removed):
            if len(texts) < len(ids):
                await self._walk(path, ("text",), see)
        return texts


def text_of(row: Record, most: int = _MAX_CHARACTERS) -> str:
    """The text of a record, cut to `most` characters."""
    text = row.get("text")
    return cut(text, most) if isinstance(text, str) else ""


def cut(text: str, most: int) -> str:
    """The text, or its beginning and its length if it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters in all)"


def _removed_example(row: Record, texts: Mapping[str, str]) -> RemovedExample:
    because = row.get("because_of")
    name = None if because is None else str(because)
    similarity = _finite(row.get("similarity"))
    return RemovedExample(str(row["id"]), text_of(row), _shown(row), name, texts.get(name or ""), similarity)


def _shown(row: Record) -> dict[str, object]:
    return {name: _plain(row[name]) for name in _SHOWN_FIELDS if row.get(name) not in (None, "", row.get("text"))}


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return value
    return _finite(value) if isinstance(value, (int, float)) else cut(str(value), _MAX_CHARACTERS)


def _finite(value: object) -> float | None:
    """A number that JSON can represent, else None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _counting(counts: Mapping[str, Counter[str]]) -> _Visit:
    """A visit that counts the values of the fields that `counts` has."""

    def see(row: Record) -> None:
        for name, counter in counts.items():
            if row.get(name) not in (None, ""):
                counter[str(row[name])] += 1

    return see


def _with_text(visit: _Visit) -> _Visit:
    def see(row: Record) -> None:
        if isinstance(text := row.get("text"), str) and text.strip():
            visit(row)

    return see


def _measurable(rows: Iterable[Record]) -> tuple[str, ...]:
    """The texts with at least one word."""
    return tuple(str(row["text"]) for row in rows if words(str(row["text"])))
