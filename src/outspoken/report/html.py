"""A page as one HTML file that needs nothing else: its styles, scripts and charts are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from outspoken._extras import need
from outspoken.report.charts import vega_script
from outspoken.report.theme import DARK, LIGHT, theme

__all__ = ["printable", "render"]

# What neither HTML nor SVG can hold; a model may write it all the same.
_UNPRINTABLE = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}"
)


def printable(value: Any) -> Any:
    """The same JSON value; what cannot stand in a page is a replacement character in its texts."""
    if isinstance(value, str):
        return value.translate(_UNPRINTABLE)
    if isinstance(value, Mapping):
        return {printable(key): printable(entry) for key, entry in value.items()}
    return [printable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def render(folder: Traversable, name: str, specs: Mapping[str, Any], **values: Any) -> str:
    """The page of the template `name` in `folder`, with the charts of `specs` (see `drawing.placed`).

    The template extends `base.html` and may import `parts.html`; a style sheet and a script that lie beside it and
    share its stem follow the base's. Every text of `values` is text in the page and nothing else, and the page's
    policy runs no script but its own.
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
