"""The page of a theory document: one HTML file that works offline, and its charts as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io.atomic import write_bytes
from outspoken.report import charts as drawing
from outspoken.report import html
from outspoken.theory import charts, report_tables
from outspoken.theory.report_text import ABOUT, GLOSSARY, TITLES, tiles

__all__ = ["render", "write"]

_WIDTH = 560


def write(document: Mapping[str, Any], folder: Path, *, pictures: bool = True) -> Path:
    """Write `report.html` into `folder`, and with `pictures` each chart as `charts/*.svg` and `charts/*.png`.

    `document` is what `to_dict` of a typicality, a sharpening, a gamma or the levels gives; the command line adds
    how it was made. Returns the path of the page. Each file is written whole or not at all. Needs no network.
    Raises `UsageError` where `document` is something else, `OutputError` where the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(document).encode())
    if pictures:
        made = charts.figures(html.printable(document))
        drawn = ((figure.name, figure.title, drawing.spec(figure.chart, _WIDTH)) for figure in made)
        drawing.write_pictures(drawn, folder / "charts")
    return page


def render(document: Mapping[str, Any]) -> str:
    """The page, with every script, style and chart inside. What the data say is text in it and nothing else."""
    kind = document.get("kind")
    if kind not in TITLES:
        raise UsageError(f"this is no document of {', '.join(TITLES)}: its kind is {kind!r}")
    document = html.printable(document)
    specs: dict[str, Any] = {}
    return html.render(
        resources.files("outspoken.theory") / "page",
        "report.html",
        specs,
        **_words(document),
        document=document,
        version=document.get("version", ""),
        key_figures=tiles(document),
        figures=[(drawing.add_chart(specs, figure.chart), figure) for figure in charts.figures(document)],
        tables=report_tables.tables(document),
        glossary=GLOSSARY,
        settings=json.dumps(document.get("settings", {}), ensure_ascii=False, indent=2),
    )


def _words(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says beside its charts and tables."""
    kind = document["kind"]
    words = {"title": TITLES[kind], "about": ABOUT[kind], "about_what": ""}
    if kind != "typicality":
        lead, *sentences = document["sentences"]
        return {**words, "lead": lead, "sentences": sentences}
    bases = [document, *document["others"]]
    controls = {entry["title"]: entry["about"] for fields in bases for entry in fields["controls"].values()}
    return {
        **words,
        "about_what": document["data"]["file"],
        "lead": document["verdict"]["lead"],
        "sentences": (),
        "controls": controls.items(),
        "skipped": report_tables.skipped(document),
        "count": "{:,}".format,
    }
