"""The texts of a Parquet file of records, gone through and read again without ever holding all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outspoken._extras import need
from outspoken.errors import UsageError
from outspoken.synth import records
from outspoken.synth.dedup.search import Ints

pa = need("pyarrow", "synthetic data", "synth")
pq = need("pyarrow.parquet", "synthetic data", "synth")

__all__ = ["TextFile"]


class TextFile:
    """The column `text` of a Parquet file. Raises `UsageError` where one is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = records.count(path)

    def __len__(self) -> int:
        return self._rows

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        """All texts in order, at most `rows` at a time."""
        start = 0
        for table in records.batches(self.path, ["text"], rows):
            yield self._texts(table, start)
            start += table.num_rows

    def groups(self, numbers: Sequence[int], rows: int) -> Iterator[Sequence[str]]:
        """The same of some row groups only."""
        start = sum(self.row_groups()[: numbers[0]])
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=rows, row_groups=list(numbers), columns=["text"]):
                yield self._texts(pa.Table.from_batches([batch]), start)
                start += batch.num_rows

    def at(self, places: Ints) -> Sequence[str]:
        """The texts at these places, which ascend."""
        return self.column_at("text", places)

    def column_at(self, name: str, places: Ints) -> list[Any]:
        """The values of a column at these places, which ascend; row groups without any are not read."""
        found: list[Any] = []
        with pq.ParquetFile(self.path) as file:
            start = 0
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(places, [start, end])
                if low < high:
                    column = file.read_row_group(group, columns=[name]).column(0)
                    found.extend(column.take(pa.array(places[low:high] - start)).to_pylist())
                start = end
        return found

    def row_groups(self) -> list[int]:
        """How many records each row group holds."""
        with pq.ParquetFile(self.path) as file:
            return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]

    def _texts(self, table: Any, start: int) -> list[str]:
        column = table.column("text")
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise UsageError(f"the column text of {self.path.name} holds {column.type}, not strings: convert it")
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise UsageError(f"record {row + 1} of {self.path.name} has no text: fill it, or leave the record out")
        texts: list[str] = column.to_pylist()
        return texts
