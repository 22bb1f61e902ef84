"""Tables of a page, which its reader can sort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Column", "Table", "TableCell", "TableRow"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `under` and `badge` stand below the title, `about` explains it; a `text` column sorts as words."""

    title: str
    about: str = ""
    under: str = ""
    badge: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell. The page sorts by `sort`, with None always last. `arm` is the index of an arm, for its colour.

    `mark` is an arrow if the difference from the baseline is shown, and `verdict` says whether that is "good" or
    "bad". `notes` are 1-based indices into `Table.notes`.
    """

    text: str
    sort: float | str | None = None
    under: str = ""
    mark: str = ""
    verdict: str = ""
    notes: tuple[int, ...] = ()
    arm: int | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row. The page can filter by `keys`."""

    cells: tuple[TableCell, ...]
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `absent` lists the measures without a column, with the reasons."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
