"""What the report takes out of the files of records: samples by a seeded order, examples, counts of topics."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.errors import UsageError
from outspoken.synth.records import batches, fields_of
from outspoken.synth.report.step_summaries import Made

pq = need("pyarrow.parquet", "synthetic data", "synth")

__all__ = ["ALSO", "Row", "Sample", "cut", "example", "number", "tally", "texts_of", "walk"]

ALSO = ("topic", "persona", "final", "answer", "verdict", "agreement", "probability")
"""Fields that an example shows beside its text, where a record has them."""

LONGEST = 20_000
"""Characters of one example: what is longer is cut."""

Row = Mapping[str, Any]


class Sample:
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


async def texts_of(ids: Collection[str], step: Made) -> dict[str, str]:
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
