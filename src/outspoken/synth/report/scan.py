"""One look through the files of a pipeline: samples of each step, examples, topics, and what became of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.tokenization import words
from outspoken.synth.report import coverage_map
from outspoken.synth.report.diversity import Pool
from outspoken.synth.report.samples import ALSO, Row, Sample, example, number, tally, texts_of, walk
from outspoken.synth.report.step_summaries import Made
from outspoken.synth.steps.base import Watch

__all__ = ["Look"]

_COVERED = ("topic", "persona")
_LISTED = 200
_KEPT_EXAMPLES, _REMOVED_EXAMPLES = 6, 3
_MOST_REASONS = 12
_Visit = Callable[[Row], None]


class Look:
    """What is read of the records; `told` are the entries of the steps.

    After `read`: `pools` are the texts of each step, before them those of the input where there was one; `rows` a
    sample of the records that the first step began with, and `fates` what became of these, by id. `warnings` tells
    of files that are missing.
    """

    def __init__(self, made: Sequence[Made], told: Sequence[Mapping[str, Any]], sample: int, seed: int) -> None:
        self.warnings: list[str] = []
        self.pools: list[Pool] = []
        self.rows: list[Row] = []
        self.fates: dict[str, str] = {}
        self._made, self._told = made, told
        self._sample, self._seed = sample, seed
        self._came: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._stayed: dict[str, Counter[str]] = {name: Counter() for name in _COVERED}
        self._kept = Sample(_KEPT_EXAMPLES, seed)
        self._gone: list[dict[str, Sample]] = [{} for _ in made]

    async def read(self, watch: Watch) -> None:
        """Go through all files."""
        base = Sample(self._sample, self._seed)
        for at, (step, entry) in enumerate(zip(self._made, self._told, strict=True)):
            watch.tell("reading records", at, len(self._made))
            sample = Sample(self._sample, self._seed)
            seen = [_with_text(sample.offer)]
            if at == 0:
                begun = [_with_text(base.offer), tally(self._came)]
                await self._walk(step.removed, ("text", *_COVERED), begun)
                seen += begun
            await self._walk(step.out, ("text", *_COVERED), seen, needed=entry["kept"] > 0)
            texts = tuple(row["text"] for row in sample.rows if words(row["text"]))
            self.pools.append(Pool(step.name, entry["label"], entry["kept"], texts))
        self.rows = base.rows
        if self._told[0]["source"]:
            read = tuple(row["text"] for row in self.rows if words(row["text"]))
            self.pools.insert(0, Pool("", "the input", self._told[0]["records"], read))
        self.fates = {str(row["id"]): coverage_map.LOST for row in self.rows}
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
            Pool(pool.step, pool.label, pool.kept, tuple(text for text in pool.texts if text not in out))
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
            self.fates[str(row["id"])] = coverage_map.KEPT

    def _left(self, at: int) -> _Visit:
        def see(row: Row) -> None:
            if str(row["id"]) in self.fates:
                self.fates[str(row["id"])] = self._told[at]["label"]
            gone, reason = self._gone[at], str(row.get("reason") or "no reason given")
            if reason in gone or len(gone) < _MOST_REASONS:
                gone.setdefault(reason, Sample(_REMOVED_EXAMPLES, self._seed)).offer(row)

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
