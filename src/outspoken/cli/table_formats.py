"""Figures as a table to paste: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from outspoken.cli.options import TableFormat
from outspoken.measure.measures import MEASURES
from outspoken.measure.values import group_label
from outspoken.report.format import NONE, with_interval

if TYPE_CHECKING:
    from outspoken.measure.analysis import Analysis
    from outspoken.measure.measured import MeasuredGroup

__all__ = ["table_of"]

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    NONE: "--",
}


def table_of(analysis: Analysis, form: TableFormat, *, every: bool = False) -> str:
    """The figures of all groups.

    Markdown and LaTeX have a row for each measure and a column for each group; CSV has a row for each figure,
    unscaled, with its interval, and the reason if only this group has none. With `every` published figures are
    included.
    """
    names = [
        name
        for name, measure in MEASURES.items()
        if any(name in measured.figures for measured in analysis.groups)
        and (every or form == "csv" or measure.kind != "published")
    ]
    labels = [group_label(one.group, [other.group for other in analysis.groups]) for one in analysis.groups]
    if form == "csv":
        return _csv(analysis, labels, names)
    head = ["measure", *labels]
    rows = [["prompts", *(f"{len(one.group.prompts):,}" for one in analysis.groups)]]
    rows += [["responses", *(f"{one.responses:,}" for one in analysis.groups)]]
    rows += [[MEASURES[name].title, *(_cell(one, name) for one in analysis.groups)] for name in names]
    return _markdown(head, rows) if form == "markdown" else _latex(head, rows)


def _cell(measured: MeasuredGroup, name: str) -> str:
    figure = measured.figures.get(name)
    if figure is None:
        return NONE
    scaled = figure.scaled(MEASURES[name].scale)
    return with_interval(scaled.value, scaled.low, scaled.high)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _latex(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    parts = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", line(head), r"\midrule"]
    return "\n".join([*parts, *map(line, rows), r"\bottomrule", r"\end{tabular}"])


def _csv(analysis: Analysis, labels: list[str], names: list[str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("measure", "group", "value", "low", "high", "units", "unit", "note"))
    for name in names:
        for label, measured in zip(labels, analysis.groups, strict=True):
            if (figure := measured.figures.get(name)) is not None:
                ends = ("" if end is None else end for end in (figure.low, figure.high))
                table.writerow((name, label, figure.value, *ends, figure.units, figure.unit, figure.note))
            elif name in measured.undefined:
                table.writerow((name, label, "", "", "", "", "", measured.undefined[name]))
    return text.getvalue().rstrip("\n")
