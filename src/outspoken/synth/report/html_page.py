"""The page of a report: one HTML file with all scripts, styles and charts."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from outspoken.io.atomic import write_bytes
from outspoken.io.dataclass_json import to_json
from outspoken.report import html
from outspoken.report.charts import Spec, add_chart
from outspoken.report.format import count, number, share
from outspoken.synth.report import charts, tables, text
from outspoken.synth.report.document import PipelineReport, StepEntry

__all__ = ["render_page", "write_page"]

_PROVENANCE = (
    "do",
    "model",
    "seed",
    "source",
    "version",
    "begun",
    "finished",
    "key",
    "settings",
    "figures",
    "files",
)


def write_page(report: PipelineReport, folder: Path) -> Path:
    """Write `report.html` into `folder`; returns its path. The page needs no network. Raises `OutputError`."""
    page = folder / "report.html"
    write_bytes(page, render_page(report).encode())
    return page


def render_page(report: PipelineReport) -> str:
    """The page. Texts that models wrote appear as text and nothing else."""
    report = PipelineReport.from_dict(html.printable(report.to_dict()))
    specs: dict[str, Spec] = {}
    figures = [(add_chart(specs, figure.chart), figure) for figure in charts.figures(report)]
    return html.render(
        resources.files("outspoken.synth.report") / "page",
        "report.html",
        specs,
        version=report.version,
        report=report,
        lead=text.lead(report),
        sentences=text.sentences(report),
        facts=text.facts(report),
        figures=figures,
        method=text.diversity_method(report.diversity),
        unmeasured=text.unmeasured_steps(report.diversity),
        steps=tables.steps(report),
        reasons=tables.reasons(report),
        diversity=tables.diversity(report.diversity),
        covered=[tables.covered(name, field) for name, field in report.covered.items()],
        legend=charts.legend(report.map) if report.map else [],
        axes=charts.axes(report.map) if report.map else "",
        extremes=text.extreme_clusters(report.clusters),
        most=max((cluster.generated for cluster in report.clusters), default=1),
        count=count,
        share=share,
        excerpt=text.excerpt,
        number=number,
        provenance=[(entry.step, _provenance(entry)) for entry in report.steps],
    )


def _provenance(entry: StepEntry) -> str:
    """How a step was done, as JSON."""
    return json.dumps({name: to_json(getattr(entry, name)) for name in _PROVENANCE}, ensure_ascii=False, indent=2)
