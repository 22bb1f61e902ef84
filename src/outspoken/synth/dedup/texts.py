"""The texts that are searched for near-duplicates: in memory, or in a Parquet file that is read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UsageError
from outspoken.synth.records import batches, count, pa, pq

__all__ = ["Ints", "TextFile", "TextList", "Texts"]

Ints = NDArray[np.int64]


class Texts(Protocol):
    """Texts that can be read in order, and again at given positions."""

    def __len__(self) -> int: ...

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        """All texts in order, at most `rows` at a time."""
        ...

    def at(self, places: Ints) -> Sequence[str]:
        """The texts at these positions, which are in ascending order."""
        ...


class TextList:
    """Texts in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        for start in range(0, len(self._texts), rows):
            yield self._texts[start : start + rows]

    def at(self, places: Ints) -> Sequence[str]:
        return [self._texts[place] for place in places.tolist()]


class TextFile:
    """The column `text` of a Parquet file. Raises `UsageError` if a text is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = count(path)

    def __len__(self) -> int:
        return self._rows

    def slices(self, rows: int) -> Iterator[Sequence[str]]:
        start = 0
        for table in batches(self.path, ["text"], rows):
            yield self._texts(table, start)
            start += table.num_rows

    def slices_of_groups(self, numbers: Sequence[int], rows: int) -> Iterator[Sequence[str]]:
        """The texts of these row groups, at most `rows` at a time."""
        start = sum(self.group_sizes()[: numbers[0]])
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=rows, row_groups=list(numbers), columns=["text"]):
                yield self._texts(pa.Table.from_batches([batch]), start)
                start += batch.num_rows

    def at(self, places: Ints) -> Sequence[str]:
        return self.column_at("text", places)

    def column_at(self, name: str, places: Ints) -> list[Any]:
        """The values of a column at these positions, in ascending order; row groups without any are not read."""
        values: list[Any] = []
        with pq.ParquetFile(self.path) as file:
            start = 0
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(places, [start, end])
                if low < high:
                    column = file.read_row_group(group, columns=[name]).column(0)
                    values.extend(column.take(pa.array(places[low:high] - start)).to_pylist())
                start = end
        return values

    def group_sizes(self) -> list[int]:
        """The number of records in each row group."""
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
