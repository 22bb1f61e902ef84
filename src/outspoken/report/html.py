"""A page as one self-contained HTML file: styles, scripts and charts are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from outspoken._imports import need
from outspoken.report.charts import DARK, LIGHT, Spec, theme, vega_script
from outspoken.report.format import NONE, number

__all__ = ["Column", "Table", "TableCell", "TableRow", "printable", "render"]


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

    `mark` is an arrow if the difference from the baseline is significant, and `verdict` says whether it is "good"
    or "bad". `notes` are 1-based indices into `Table.notes`.
    """

    text: str
    sort: float | str | None = None
    under: str = ""
    mark: str = ""
    verdict: str = ""
    notes: tuple[int, ...] = ()
    arm: int | None = None

    @classmethod
    def of(cls, value: float | str | None, write: Callable[[float], str] = number) -> TableCell:
        """The cell of a text, or of a number as `write` writes it; a dash if it does not exist."""
        text = NONE if value is None else value if isinstance(value, str) else write(value)
        return cls(text, value)


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


# HTML and SVG cannot contain the first of these characters; the others turn the direction of the text after them.
# A model may write them all.
_UNPRINTABLE = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}"
) | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(value: Any) -> Any:
    """A JSON value, with a replacement or an escape for each character that a page cannot show."""
    if isinstance(value, str):
        return value.translate(_UNPRINTABLE)
    if isinstance(value, Mapping):
        return {printable(key): printable(entry) for key, entry in value.items()}
    return [printable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def render(folder: Traversable, name: str, specs: Mapping[str, Spec], **values: Any) -> str:
    """Render the template `name` in `folder` with `values` and the charts in `specs` (see `charts.add_chart`).

    The template extends `base.html` and may import `parts.html`. A style sheet and a script beside it, with the
    same stem, are appended to those of the base. All `values` are escaped, and the page's content security policy
    forbids other scripts.
    """
    jinja = need("jinja2", "an HTML page", "measure")
    base = resources.files("outspoken.report")
    stem = name.removesuffix(".html")

    def read(wanted: str) -> str | None:
        file = next((file for file in (folder / wanted, base / wanted) if file.is_file()), None)
        return None if file is None else file.read_text(encoding="utf-8")

    style, script = ((read(f"base.{kind}") or "") + (read(f"{stem}.{kind}") or "") for kind in ("css", "js"))
    environment = jinja.Environment(
        loader=jinja.FunctionLoader(read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja.StrictUndefined,
    )
    shared = {
        "charts": {"specs": specs, "light": theme(legend=False), "dark": theme(True, legend=False)},
        "colours": list(zip(LIGHT, DARK, strict=True)),
        "style": style,
        "vega_script": vega_script(),
        "script": script,
        "hashes": [_hash(vega_script()), _hash(script)],
    }
    return str(environment.get_template(name).render(**values, **shared))


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
