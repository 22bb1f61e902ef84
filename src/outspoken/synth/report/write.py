"""The report of a pipeline: measured from its folder into one document, and drawn from that document alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.report import charts, html
from outspoken.report.files import put
from outspoken.report.format import number
from outspoken.synth.report import charts as report_charts
from outspoken.synth.report import tables, text
from outspoken.synth.report.document import FORMAT, measure

__all__ = ["measure", "render", "write"]


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` into `folder` from what `measure` gave or its `report.json` holds; the path of the page.

    One file, written whole or not at all, that needs no network. Raises `UsageError` where `document` is something
    else, `OutputError` where the folder cannot be written.
    """
    page = folder / "report.html"
    put(page, render(document).encode())
    return page


def render(document: Mapping[str, Any]) -> str:
    """The page, with every script, style and chart inside. What models wrote is text in it and nothing else."""
    if document.get("kind") != "synth" or document.get("format") != FORMAT:
        raise UsageError(
            "this is no report of a pipeline by this version: run `outspoken synth` again to make one"
        )
    document = html.printable(document)
    specs: dict[str, Any] = {}
    figures = [(charts.placed(specs, figure.chart), figure) for figure in report_charts.figures(document)]
    diversity = document["diversity"]
    return html.render(
        resources.files("outspoken.synth.report") / "page",
        "report.html",
        specs,
        version=document["version"],
        document=document,
        lead=text.lead(document),
        sentences=text.sentences(document),
        facts=text.facts(document),
        figures=figures,
        ground=text.ground(diversity),
        few=text.few(diversity),
        steps=tables.steps(document),
        reasons=tables.reasons(document),
        diversity=tables.diversity(document),
        covered=[tables.covered(name, found) for name, found in document["covered"].items()],
        legend=report_charts.lines(document) if document["map"] else [],
        axes=report_charts.axes(document) if document["map"] else "",
        clustered=text.clustered(document["clusters"]),
        most=max((cluster["generated"] for cluster in document["clusters"]), default=1),
        count=text.count,
        share=text.share,
        excerpt=text.excerpt,
        number=number,
        provenance=[(entry["step"], _provenance(entry)) for entry in document["steps"]],
    )


def _provenance(entry: Mapping[str, Any]) -> str:
    """How a step was made, as JSON."""
    told = ("do", "model", "seed", "source", "version", "begun", "finished", "key", "settings", "figures", "files")
    return json.dumps({name: entry[name] for name in told}, ensure_ascii=False, indent=2)
