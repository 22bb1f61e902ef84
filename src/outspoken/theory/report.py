"""The page of a theory document: one HTML file that works offline, and its charts as pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.io.atomic import write_bytes
from outspoken.report import charts as drawing
from outspoken.report import html
from outspoken.report.tables import Table
from outspoken.theory import charts, report_tables
from outspoken.theory.documents import TheoryDocument
from outspoken.theory.report_text import ABOUT, GLOSSARY, TITLES, tiles

__all__ = ["render", "write"]

_PICTURE_WIDTH = 560


def write(document: TheoryDocument, folder: Path, *, pictures: bool = True) -> Path:
    """Write `report.html` into `folder`, and with `pictures` each chart as `charts/*.svg` and `charts/*.png`.

    `document` is what `to_dict` of a result returns; the command line adds how it was made. Returns the path of
    the page. Each file is written whole or not at all, and no network is needed.

    Raises `UsageError` if `document` is something else, `OutputError` if the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(document).encode())
    if pictures:
        figures = charts.figures(html.printable(document))
        specs = ((figure.name, figure.title, drawing.spec(figure.chart, _PICTURE_WIDTH)) for figure in figures)
        drawing.write_pictures(specs, folder / "charts")
    return page


def render(document: TheoryDocument) -> str:
    """The page, with every script, style and chart inside. Texts from the data are escaped."""
    kind = document.get("kind")
    if kind not in TITLES:
        raise UsageError(f"this is not a document of kind {', '.join(TITLES)}: its kind is {kind!r}")
    document = html.printable(document)
    text = _PageText.of(document)
    specs: dict[str, drawing.Spec] = {}
    return html.render(
        resources.files("outspoken.theory") / "page",
        "report.html",
        specs,
        title=TITLES[document["kind"]],
        about=ABOUT[document["kind"]],
        about_what=text.subject,
        lead=text.lead,
        sentences=text.sentences,
        controls=text.controls,
        skipped=text.skipped,
        count="{:,}".format,
        document=document,
        version=document.get("version", ""),
        key_figures=tiles(document),
        figures=[(drawing.add_chart(specs, figure.chart), figure) for figure in charts.figures(document)],
        tables=report_tables.tables(document),
        glossary=GLOSSARY,
        settings=json.dumps(document.get("settings", {}), ensure_ascii=False, indent=2),
    )


@dataclass(frozen=True, slots=True)
class _PageText:
    """The text of a page that depends on the document. `controls` are titles with their explanations."""

    lead: str
    sentences: Sequence[str] = ()
    subject: str = ""
    controls: Sequence[tuple[str, str]] = ()
    skipped: Table | None = None

    @classmethod
    def of(cls, document: TheoryDocument) -> _PageText:
        if document["kind"] != "typicality":
            lead, *sentences = document["sentences"]
            return cls(lead, sentences)
        models = [document, *document["others"]]
        controls = {entry["title"]: entry["about"] for model in models for entry in model["controls"].values()}
        return cls(
            document["verdict"]["lead"],
            subject=document["data"]["file"],
            controls=list(controls.items()),
            skipped=report_tables.skipped(document),
        )
