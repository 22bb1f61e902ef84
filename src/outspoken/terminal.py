"""Text that a terminal can show, and tables that can be read on a terminal of any width."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

__all__ = ["ENCODING_ERRORS", "Cell", "SafeLine", "ShareBar", "TextTable", "visible", "writable"]

# Controls, separators that are no line breaks, what turns the direction of text, halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]|\\r(?!\\n)"
)
_PLAIN = {
    **dict.fromkeys("‐‑–—−─╺", "-"),
    **dict.fromkeys("━╸█", "#"),
    **dict.fromkeys("╭╮╰╯", "+"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("\u00a0\u202f", " "),
    "…": "...",
    "·": "|",
    "×": "x",
    "±": "+/-",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "²": "^2",
    "↑": "(up)",
    "↓": "(down)",
}

ENCODING_ERRORS = "outspoken.plain"
"""The error handler of encoders that writes typographic signs plainly, and other characters as escapes."""


def _encode_plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = _PLAIN.get(error.object[error.start])
    if plain is None:
        return codecs.backslashreplace_errors(
            UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
        )
    return plain, error.start + 1


codecs.register_error(ENCODING_ERRORS, _encode_plainly)


def visible(text: str) -> str:
    """The text with lone surrogates and all characters that could change the terminal or the direction of text
    escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def writable(text: str, encoding: str) -> str:
    """The text in characters that the encoding has: typographic signs plainly, other characters as escapes."""
    return text.encode(encoding, ENCODING_ERRORS).decode(encoding)


@dataclass(frozen=True, slots=True)
class ShareBar:
    """A bar, filled to a share from 0 to 1. A table that is too wide leaves bars out first."""

    share: float
    style: str = "cyan"
    width: int = 20


@dataclass(frozen=True, slots=True)
class SafeLine:
    """A line for rich; what could change the terminal is escaped, and it is wrapped at blanks."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        text = _text(self.text, options.encoding)
        text.stylize(self.style)
        yield text


_GAP, _SHORT, _LEAST_TEXT, _MORE_TEXT = 2, 12, 16, 8

Cell = str | tuple[str, str] | ShareBar
"""A text, a text and a note after it, or a bar."""


class TextTable:
    """A table for rich, without lines; a model's text in it is escaped.

    Where its columns do not fit, it leaves out the bars; where they still do not, each row is written as lines of
    title and text. Columns on the `right` are numbers; these and short texts are never broken.
    """

    def __init__(self, *titles: str, style: str = "bold", right: bool = False, expand: bool = False) -> None:
        """With `right` all columns but the first are numbers; with `expand` it is as wide as the terminal."""
        self._style, self._expand = style, expand
        self._columns: list[tuple[str, bool]] = []
        self._rows: list[tuple[tuple[Cell, ...], str]] = []
        for at, title in enumerate(titles):
            self.add_column(title, right=right and at > 0)

    def add_column(self, title: str = "", *, right: bool = False) -> None:
        """Add a column on the right of the others."""
        self._columns.append((title, right))

    def add_row(self, *cells: Cell, style: str = "") -> None:
        """Add a row; missing cells are empty."""
        self._rows.append((cells + ("",) * (len(self._columns) - len(cells)), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        drawn = [[_drawn(cell, options.encoding) for cell in cells] for cells, _ in self._rows]
        titles = [_text(title, options.encoding) for title, _ in self._columns]
        columns = [
            _Column(title, right, [row[at] for row in drawn])
            for at, ((_, right), title) in enumerate(zip(self._columns, titles, strict=True))
        ]
        for chosen in (columns, [column for column in columns if not column.is_bar]):
            least = sum(column.least for column in chosen) + _GAP * (len(chosen) - 1)
            if least + (_MORE_TEXT if any(column.is_bar for column in chosen) else 0) <= options.max_width:
                yield self._grid(chosen)
                return
        for at, (_, style) in enumerate(self._rows):
            yield from _stacked(chosen, at, style)

    def _grid(self, columns: list[_Column]) -> Table:
        from rich.table import Table

        grid = Table(
            box=None,
            padding=(0, _GAP, 0, 0),
            pad_edge=False,
            expand=self._expand,
            show_header=any(title for title, _ in self._columns),
            header_style=self._style,
        )
        for column in columns:
            stretched = self._expand and not column.right and not column.is_bar
            grid.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=column.fixed,
                min_width=column.least,
                max_width=column.least if column.fixed and not stretched else None,
                ratio=1 if stretched else None,
                overflow="fold",
            )
        for at, (_, style) in enumerate(self._rows):
            grid.add_row(*(column.cells[at] for column in columns), style=style)
        return grid


class _Column:
    """The drawn cells of a column, and the least width in which they can be read."""

    def __init__(self, title: Text, right: bool, cells: list[Text | ProgressBar]) -> None:
        self.title, self.right, self.cells = title, right, cells
        widths = [_width(title), *map(_width, cells)]
        self.is_bar = any(not hasattr(cell, "plain") for cell in cells)
        natural = max(widths)
        self.fixed = right or self.is_bar or natural <= _SHORT
        self.least = natural if self.fixed else _LEAST_TEXT


def _stacked(columns: list[_Column], at: int, style: str) -> Iterator[RenderableType]:
    """A row as lines: the first cell, and below it the titles and texts of the others."""
    from rich.padding import Padding
    from rich.text import Text

    for place, column in enumerate(columns):
        cell = column.cells[at]
        if isinstance(cell, Text) and cell.plain:
            title = column.title.plain + " " if column.title.plain and (place or column.right) else ""
            line = Text.assemble((title, "dim"), cell, overflow="fold")
            yield Padding(line, (0, 0, 0, 2 if place else 0), style=style, expand=False)


def _drawn(cell: Cell, encoding: str) -> Text | ProgressBar:
    from rich.progress_bar import ProgressBar

    if isinstance(cell, ShareBar):
        return ProgressBar(1, cell.share, cell.width, complete_style=cell.style, finished_style=cell.style)
    return _text(cell, encoding)


def _text(cell: str | tuple[str, str], encoding: str) -> Text:
    from rich.text import Text

    words, comment = (cell, "") if isinstance(cell, str) else cell
    text = Text(writable(visible(words), encoding), overflow="fold")
    return text.append(f"  {writable(visible(comment), encoding)}", style="dim italic") if comment else text


def _width(cell: Text | ProgressBar) -> int:
    """The cells of the terminal that it takes in one row."""
    from rich.cells import cell_len
    from rich.progress_bar import ProgressBar

    if isinstance(cell, ProgressBar):
        return cell.width or 0
    return max(map(cell_len, cell.plain.splitlines()), default=0)
