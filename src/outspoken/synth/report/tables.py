"""The tables of a pipeline's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outspoken.report.format import number
from outspoken.report.tables import Column, Table, TableCell, TableRow
from outspoken.synth.report.text import count, dollars, duration, share

__all__ = ["covered", "diversity", "reasons", "steps"]

Document = Mapping[str, Any]


def steps(document: Document) -> Table:
    """What each step kept, how long it took and what it cost."""
    columns = (
        Column("step", text=True),
        Column("records in"),
        Column("kept"),
        Column("yield", "kept over records in"),
        Column("cumulative", "kept over what the first step began with"),
        Column("time", "of the last execution of the step"),
        Column("requests"),
        Column("of these from the ledger", "replies that were there before"),
        Column("failures"),
        Column("tokens"),
        Column("dollars"),
        Column("model", text=True),
    )
    rows = []
    for entry in document["steps"]:
        cost = entry["cost"] or {}
        rows.append(
            TableRow(
                (
                    TableCell(entry["step"], entry["step"], "not finished" if entry["partly"] else ""),
                    _count(entry["records"]),
                    _count(entry["kept"]),
                    TableCell(share(entry["kept"], entry["records"]), entry["yield"]),
                    TableCell(share(entry["kept"], document["generated"]), entry["cumulative"]),
                    TableCell("–" if entry["seconds"] is None else duration(entry["seconds"]), entry["seconds"]),
                    *(_count(cost.get(name)) for name in ("requests", "from_ledger", "failures", "tokens")),
                    TableCell("–" if cost.get("usd") is None else dollars(cost["usd"]), cost.get("usd")),
                    _text(entry["model"] if cost and entry["model"] else "–"),
                )
            )
        )
    return Table("The steps", columns, tuple(rows))


def reasons(document: Document) -> Table:
    """Why records were removed."""
    rows = [
        TableRow(
            (_text(entry["step"]), _text(reason), _count(lost), TableCell(share(lost, entry["records"]), lost))
        )
        for entry in document["steps"]
        for reason, lost in entry["removed"].items()
    ]
    columns = (
        Column("step", text=True),
        Column("removed because", text=True),
        Column("records"),
        Column("of those in"),
    )
    return Table("Why records were removed", columns, tuple(rows))


def diversity(document: Document) -> Table:
    """Every measure of every step, with the spread over random choices under it."""
    found = document["diversity"]
    columns = (
        Column("after", text=True),
        Column("kept"),
        Column("measured on", under="n of how many"),
        *(
            Column(measure["title"], measure["about"], under=f"{measure['better']}: more diverse")
            for measure in found["measures"]
        ),
    )
    rows = [
        TableRow(
            (
                _text(row["label"]),
                _count(row["kept"]),
                TableCell(f"{count(row['n'])} of {count(row['of'])}" if row["n"] else "–", row["n"]),
                *(_figure(row, measure) for measure in found["measures"]),
            )
        )
        for row in found["steps"]
    ]
    absent = tuple(
        f"{row['label']}, {name}: {why}" for row in found["steps"] for name, why in row["undefined"].items()
    )
    return Table("Diversity of each step", columns, tuple(rows), absent=absent)


def covered(name: str, found: Document) -> Table:
    """How many records of each topic or persona there were and stayed."""
    rows = [
        TableRow(
            (
                _text(entry["value"]),
                _count(entry["generated"]),
                _count(entry["kept"]),
                TableCell(
                    share(entry["kept"], entry["generated"]),
                    entry["kept"] / entry["generated"] if entry["generated"] else None,
                ),
            )
        )
        for entry in found["values"]
    ]
    title = f"{count(found['kept'])} of {count(found['of'])} {name}s have a record that was kept"
    if found["of"] > len(rows):
        title += f"; here are the {count(len(rows))} with most records"
    return Table(title, (Column(name, text=True), Column("began"), Column("kept"), Column("share")), tuple(rows))


def _figure(row: Document, measure: Document) -> TableCell:
    figure = row["measures"].get(measure["name"])
    if figure is None:
        return TableCell("–")
    value, *ends = (measure["scale"] * figure[k] for k in ("value", "low", "high") if figure[k] is not None)
    within = " to ".join(number(end, like=value) for end in ends)
    return TableCell(number(value), value, within)


def _text(text: str) -> TableCell:
    return TableCell(text, text)


def _count(value: int | None) -> TableCell:
    return TableCell("–") if value is None else TableCell(count(value), value)
