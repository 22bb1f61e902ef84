"""The tables of a pipeline's report."""

from __future__ import annotations

from outspoken.report.format import NONE, alike, count, dollars, duration, share
from outspoken.report.tables import Column, Table, TableCell, TableRow
from outspoken.synth.report.document import (
    CoveredField,
    DiversityRow,
    DiversityTable,
    MeasureInfo,
    PipelineReport,
)
from outspoken.synth.steps.base import StepCost

__all__ = ["covered", "diversity", "reasons", "steps"]


def steps(report: PipelineReport) -> Table:
    """What each step kept, how long it took and what it cost."""
    columns = (
        Column("step", text=True),
        Column("records in"),
        Column("kept"),
        Column("yield", "kept over records in"),
        Column("cumulative", "kept over the first step's records in"),
        Column("time", "of the last execution of the step"),
        Column("requests"),
        Column("of these from the ledger", "replies that were there before"),
        Column("failures"),
        Column("tokens"),
        Column("dollars"),
        Column("model", text=True),
    )
    rows = []
    for entry in report.steps:
        cells = (
            TableCell(entry.step, entry.step, "not finished" if entry.partly else ""),
            _count(entry.records),
            _count(entry.kept),
            TableCell(share(entry.kept, entry.records), entry.kept_share),
            TableCell(share(entry.kept, report.generated), entry.cumulative),
            TableCell(duration(entry.seconds), entry.seconds),
            *_cost(entry.cost),
            _text(entry.model if entry.cost and entry.model else NONE),
        )
        rows.append(TableRow(cells))
    return Table("The steps", columns, tuple(rows))


def reasons(report: PipelineReport) -> Table:
    """Why records were removed."""
    rows = [
        TableRow((_text(entry.step), _text(reason), _count(lost), TableCell(share(lost, entry.records), lost)))
        for entry in report.steps
        for reason, lost in entry.removed.items()
    ]
    columns = (
        Column("step", text=True),
        Column("removed because", text=True),
        Column("records"),
        Column("of those in"),
    )
    return Table("Why records were removed", columns, tuple(rows))


def diversity(table: DiversityTable) -> Table:
    """Every measure of every step, with its range over the random choices."""
    columns = (
        Column("after", text=True),
        Column("kept"),
        Column("measured on", under="n of how many"),
        *(
            Column(measure.title, measure.about, under=f"{measure.better}: more diverse")
            for measure in table.measures
        ),
    )
    rows = [
        TableRow(
            (
                _text(row.label),
                _count(row.kept),
                TableCell(f"{count(row.n)} of {count(row.of)}" if row.n else NONE, row.n),
                *(_measure(row, measure) for measure in table.measures),
            )
        )
        for row in table.steps
    ]
    absent = tuple(f"{row.label}, {name}: {why}" for row in table.steps for name, why in row.undefined.items())
    return Table("Diversity of each step", columns, tuple(rows), absent=absent)


def covered(name: str, field: CoveredField) -> Table:
    """How many records of each topic or persona were generated and kept."""
    rows = [
        TableRow(
            (
                _text(entry.value),
                _count(entry.generated),
                _count(entry.kept),
                TableCell(
                    share(entry.kept, entry.generated), entry.kept / entry.generated if entry.generated else None
                ),
            )
        )
        for entry in field.values
    ]
    title = f"{count(field.kept)} of {count(field.of)} {name}s have a record that was kept"
    if field.of > len(rows):
        title += f"; these are the {count(len(rows))} with most records"
    return Table(title, (Column(name, text=True), Column("began"), Column("kept"), Column("share")), tuple(rows))


def _cost(cost: StepCost | None) -> list[TableCell]:
    if cost is None:
        return [TableCell(NONE)] * 5
    counts = (cost.requests, cost.from_ledger, cost.failures, cost.tokens)
    return [*map(_count, counts), TableCell(dollars(cost.usd), cost.usd)]


def _measure(row: DiversityRow, measure: MeasureInfo) -> TableCell:
    spread = row.measures.get(measure.name)
    if spread is None:
        return TableCell(NONE)
    numbers = [measure.scale * each for each in (spread.value, spread.low, spread.high) if each is not None]
    value, *limits = alike(*numbers)
    return TableCell(value, numbers[0], " to ".join(limits))


def _text(text: str) -> TableCell:
    return TableCell(text, text)


def _count(value: int) -> TableCell:
    return TableCell(count(value), value)
