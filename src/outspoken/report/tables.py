"""The tables of a page, as cells that it can sort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Column", "Table", "TableCell", "TableRow"]


@dataclass(frozen=True, slots=True)
class Column:
    """`under` and `badge` stand below the title, `about` explains it; `text` columns sort as words."""

    title: str
    about: str = ""
    under: str = ""
    badge: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True)
class TableCell:
    """`sort` is what a page orders by, None for nothing (always last). `arm` is the arm's place among all arms.

    `mark` is an arrow where a difference from the baseline is shown, `verdict` whether that is good or bad.
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
    """`keys` are what a page can filter by."""

    cells: tuple[TableCell, ...]
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The cells' `notes` are places in `notes`, counted from 1; `absent` says what has no column, and why."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
