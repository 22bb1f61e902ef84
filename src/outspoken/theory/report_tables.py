"""The tables of a theory page: every figure of its document, as cells that a page can sort."""

from __future__ import annotations

from collections.abc import Sequence

from outspoken.report.format import NONE, number, p_value, percent
from outspoken.report.tables import Column, Table, TableCell, TableRow
from outspoken.theory.documents import (
    GammaDocument,
    IntervalEntry,
    LevelsDocument,
    SharpenDocument,
    TheoryDocument,
    TypicalityDocument,
)
from outspoken.theory.report_text import interval_text, level_title
from outspoken.theory.typicality_charts import estimates

__all__ = ["MOST", "skipped", "tables"]

MOST = 200
"""The most rows of a table of answers; the results document has all of them."""


def tables(document: TheoryDocument) -> list[Table]:
    """The tables of a document."""
    if document["kind"] == "typicality":
        return _typicality(document)
    if document["kind"] == "sharpen":
        return _sharpen(document)
    if document["kind"] == "gamma":
        return _gamma(document)
    return _levels(document)


def skipped(document: TypicalityDocument) -> Table:
    """What a typicality document left out and why: of the file, and for each base model."""
    models = [document, *document["others"]]
    parts = [("the file", document["data"]["skipped"]), *((model["base"], model["skipped"]) for model in models)]
    rows = [
        TableRow((_text(reason), _text(where), TableCell(f"{count:,}", count)))
        for where, reasons in parts
        for reason, count in reasons.items()
    ]
    columns = (Column("left out because", text=True), Column("of", text=True), Column("number"))
    return Table("Left out", columns, tuple(rows))


def _typicality(document: TypicalityDocument) -> list[Table]:
    columns = (
        Column("estimate", text=True),
        Column("alpha"),
        Column("standard error"),
        Column("p"),
        Column("p, corrected", "Holm's correction for the number of base models"),
        Column("odds ratio", under="per SD"),
        Column("change", "of the probability from -1 to +1 SD, in points"),
        Column("rate", "pairs whose preferred answer is the more likely one"),
    )
    tables = []
    for model in (document, *document["others"]):
        rows = []
        for estimate in estimates(model):
            main, effect = estimate.name == "main", estimate.effect
            rows.append(
                TableRow(
                    (
                        _text(estimate.title),
                        _figure(effect),
                        _number(effect["se"]),
                        _p(effect["p"]),
                        _p(model["alpha"]["p_holm"]) if main else TableCell(""),
                        TableCell(NONE) if estimate.odds_ratio is None else _figure(estimate.odds_ratio),
                        _figure(model["change"], 100) if main else TableCell(""),
                        _figure(model["rate"], 100, " %") if main else TableCell(""),
                    )
                )
            )
        caption = f"{model['base']}: {model['pairs']:,} pairs from {model['prompts']:,} prompts"
        tables.append(Table(caption, columns, tuple(rows)))
    return tables


def _sharpen(document: SharpenDocument) -> list[Table]:
    answers = document["answers"]
    rows = [
        TableRow((_text(entry["text"]), _share(entry["before"]), _share(entry["after"])))
        for entry in answers[:MOST]
    ]
    shares = Table(
        _shortened("Answers", answers),
        (Column("answer", text=True), Column("before"), Column("after")),
        tuple(rows),
    )
    titles = (
        *("gamma", "effective size", "entropy", "draws to a new answer"),
        *("different in 10 draws", "different in 100 draws"),
    )
    lines = (
        TableRow(
            tuple(
                map(
                    _number,
                    (
                        *(entry["gamma"], entry["effective_size"], entry["entropy"], entry["draws_to_new"]),
                        *(entry["distinct_10"], entry["distinct_100"]),
                    ),
                )
            )
        )
        for entry in document["curve"]
    )
    return [shares, Table("Over gamma", tuple(map(Column, titles)), tuple(lines))]


def _gamma(document: GammaDocument) -> list[Table]:
    fit = (
        TableRow((_text(name), _number(value), _text(document["about"].get(name, ""))))
        for name, value in document["fit"].items()
    )
    counts, several = document["how"] == "counts", document["prompts"] > 1
    cell = _share if counts else _number
    points = sorted(document["points"], key=lambda point: -point["base"])
    rows = (
        TableRow(
            (
                _text(point["answer"]),
                *([_text(point["prompt"])] if several else []),
                *map(cell, (point["base"], point["aligned"], point["fitted"])),
            )
        )
        for point in points[:MOST]
    )
    what = "share" if counts else "log-probability"
    texts = ["answer", "prompt"] if several else ["answer"]
    return [
        Table(
            "The fit",
            (Column("figure", text=True), Column("value"), Column("what it is", text=True)),
            tuple(fit),
        ),
        Table(
            _shortened(f"{what.capitalize()} of each answer", points),
            (*(Column(name, text=True) for name in texts), *map(Column, ("base", "aligned", "fitted"))),
            tuple(rows),
        ),
    ]


def _levels(document: LevelsDocument) -> list[Table]:
    titles = ("total variation", "KL from the base, nats", f"different in {document['draws']} draws")
    arms = document["arms"]
    rows = (
        TableRow((_text(level_title(arm["level"])), *map(_figure, (arm["tv"], arm["kl"], arm["distinct"]))))
        for arm in arms
    )
    levels = [arm["level"] for arm in arms]
    answers = sorted(document["answers"], key=lambda answer: -answer["base"])
    shares = (
        TableRow((_text(entry["text"]), _share(entry["base"]), *(_share(entry[level]) for level in levels)))
        for entry in answers[:MOST]
    )
    return [
        Table("The levels", (Column("asked for", text=True), *map(Column, titles)), tuple(rows)),
        Table(
            _shortened("Answers", answers),
            (Column("answer", text=True), Column("base"), *(Column(level_title(level)) for level in levels)),
            tuple(shares),
        ),
    ]


def _shortened(caption: str, entries: Sequence[object]) -> str:
    return caption if len(entries) <= MOST else f"{caption}: the first {MOST} of {len(entries):,}"


def _text(text: str) -> TableCell:
    return TableCell(text, text)


def _number(value: float | None) -> TableCell:
    return TableCell(NONE) if value is None else TableCell(number(value), value)


def _share(value: float) -> TableCell:
    return TableCell("< 0.01 %" if 0 < value < 5e-5 else percent(value, decimals=2), value)


def _p(p: float | None) -> TableCell:
    return TableCell(p_value(p), p)


def _figure(figure: IntervalEntry | None, scale: float = 1, unit: str = "") -> TableCell:
    if figure is None or figure["value"] is None:
        return TableCell(NONE)
    value, within = interval_text(figure, scale)
    return TableCell(value + unit, figure["value"], within)
