"""The page of a report: one HTML file with all scripts, styles and charts."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from outspoken.io.atomic import write_bytes
from outspoken.io.dataclass_json import to_json
from outspoken.report import html
from outspoken.report.charts import Spec, add_chart
from outspoken.report.format import NONE, alike, count, dollars, duration, number, share
from outspoken.report.html import Column, Table, TableCell, TableRow
from outspoken.synth.report import charts, text
from outspoken.synth.report.document import CoveredField, DiversityRow, DiversityTable, MeasureInfo, PipelineReport

__all__ = ["render_page", "write_page"]

_cell = TableCell.of


def _steps(report: PipelineReport) -> Table:
    columns = (
        Column("step", text=True),
        Column("records in"),
        Column("kept"),
        Column("yield", "kept over records in"),
        Column("cumulative", "kept over the first step's records in"),
        Column("time", "of the last execution of the step"),
        Column("requests"),
        Column("of these from the ledger", "replies that were already in the ledger"),
        Column("failures"),
        Column("tokens"),
        Column("dollars"),
        Column("model", text=True),
    )
    rows = []
    for entry in report.steps:
        costs = [_cell(None)] * 5
        if cost := entry.cost:
            counts = (cost.requests, cost.from_ledger, cost.failures, cost.tokens)
            costs = [*(_cell(each, count) for each in counts), _cell(cost.usd, dollars)]
        cells = (
            TableCell(entry.step, entry.step, "not finished" if entry.partly else ""),
            _cell(entry.records, count),
            _cell(entry.kept, count),
            TableCell(share(entry.kept, entry.records), entry.kept_share),
            TableCell(share(entry.kept, report.generated), entry.cumulative),
            _cell(entry.seconds, duration),
            *costs,
            _cell(entry.model if entry.cost and entry.model else NONE),
        )
        rows.append(TableRow(cells))
    return Table("The steps", columns, tuple(rows))


def _reasons(report: PipelineReport) -> Table:
    rows = [
        TableRow(
            (_cell(entry.step), _cell(reason), _cell(lost, count), TableCell(share(lost, entry.records), lost))
        )
        for entry in report.steps
        for reason, lost in entry.removed.items()
    ]
    texts = (Column("step", text=True), Column("removed because", text=True))
    return Table("Why records were removed", (*texts, Column("records"), Column("of those in")), tuple(rows))


def _diversity(table: DiversityTable) -> Table:
    columns = [Column("after", text=True), Column("kept"), Column("measured on", under="n of how many")]
    columns += [Column(each.title, each.about, under=f"{each.better}: more diverse") for each in table.measures]
    rows = []
    for row in table.steps:
        n = TableCell(f"{count(row.n)} of {count(row.of)}" if row.n else NONE, row.n)
        measures = (_measure(row, measure) for measure in table.measures)
        rows.append(TableRow((_cell(row.label), _cell(row.kept, count), n, *measures)))
    absent = tuple(f"{row.label}, {name}: {why}" for row in table.steps for name, why in row.undefined.items())
    return Table("Diversity of each step", tuple(columns), tuple(rows), absent=absent)


def _covered(name: str, field: CoveredField) -> Table:
    rows = []
    for entry in field.values:
        part = entry.kept / entry.generated if entry.generated else None
        counts = (_cell(each, count) for each in (entry.generated, entry.kept))
        rows.append(TableRow((_cell(entry.value), *counts, TableCell(share(entry.kept, entry.generated), part))))
    title = f"{count(field.kept)} of {count(field.of)} {name}s have a record that was kept"
    if field.of > len(rows):
        title += f"; these are the {count(len(rows))} with most records"
    return Table(title, (Column(name, text=True), Column("began"), Column("kept"), Column("share")), tuple(rows))


def _measure(row: DiversityRow, measure: MeasureInfo) -> TableCell:
    spread = row.measures.get(measure.name)
    if spread is None:
        return TableCell(NONE)
    numbers = [measure.scale * each for each in (spread.value, spread.low, spread.high) if each is not None]
    value, *limits = alike(*numbers)
    return TableCell(value, numbers[0], " to ".join(limits))


_ORIGIN = ("do", "model", "seed", "source", "version", "begun", "finished", "key", "settings", "figures", "files")


def write_page(report: PipelineReport, folder: Path) -> Path:
    """Write `report.html` into `folder`; returns its path. The page needs no network. Raises `OutputError`."""
    page = folder / "report.html"
    write_bytes(page, render_page(report).encode())
    return page


def render_page(report: PipelineReport) -> str:
    """The page. Texts by models are escaped."""
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
        steps=_steps(report),
        reasons=_reasons(report),
        diversity=_diversity(report.diversity),
        covered=[_covered(name, field) for name, field in report.covered.items()],
        legend=charts.legend(report.map) if report.map else [],
        extremes=text.extreme_clusters(report.clusters),
        most=max((cluster.generated for cluster in report.clusters), default=1),
        count=count,
        share=share,
        excerpt=text.excerpt,
        number=number,
        provenance=[
            (done["step"], json.dumps({name: done[name] for name in _ORIGIN}, ensure_ascii=False, indent=2))
            for done in to_json(report.steps)
        ],
    )
