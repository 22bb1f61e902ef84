"""The tables of a theory page: every figure of its document, as cells that a page can sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.report.tables import Column, Table, TableCell, TableRow
from outspoken.theory.report_text import asked, chance, digits, written
from outspoken.theory.typicality_charts import estimates

__all__ = ["MOST", "skipped", "tables"]

MOST = 200
"""The rows of a table of answers; all of them stand in the results document."""


def tables(document: Mapping[str, Any]) -> list[Table]:
    """The tables of a document, by its `kind`."""
    made = {"typicality": _typicality, "sharpen": _sharpen, "gamma": _gamma, "levels": _levels}
    return made[document["kind"]](document)


def skipped(document: Mapping[str, Any]) -> Table:
    """What was left out of a typicality document and why: of the file, and by each base model."""
    bases = [document, *document["others"]]
    parts = [("the file", document["data"]["skipped"]), *((fields["base"], fields["skipped"]) for fields in bases)]
    rows = [
        TableRow((_text(reason), _text(where), TableCell(f"{count:,}", count)))
        for where, reasons in parts
        for reason, count in reasons.items()
    ]
    columns = (Column("left out because", text=True), Column("of", text=True), Column("how many"))
    return Table("Left out", columns, tuple(rows))


def _typicality(document: Mapping[str, Any]) -> list[Table]:
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
    made = []
    for fields in (document, *document["others"]):
        rows = []
        for name, title, entry in estimates(fields):
            main = name == "main"
            ratio = entry["odds_ratio"]
            rows.append(
                TableRow(
                    (
                        _text(title),
                        _figure(entry),
                        _number(entry["se"]),
                        _chance(entry["p"]),
                        _chance(entry["p_holm"]) if main else TableCell(""),
                        TableCell("–") if ratio is None else _figure(ratio),
                        _figure(fields["change"], 100) if main else TableCell(""),
                        _figure(fields["rate"], 100, " %") if main else TableCell(""),
                    )
                )
            )
        caption = f"{fields['base']}: {fields['pairs']:,} pairs from {fields['prompts']:,} prompts"
        made.append(Table(caption, columns, tuple(rows)))
    return made


def _sharpen(document: Mapping[str, Any]) -> list[Table]:
    answers = document["answers"]
    rows = [
        TableRow((_text(entry["text"]), _share(entry["before"]), _share(entry["after"])))
        for entry in answers[:MOST]
    ]
    shares = Table(
        _first("Answers", answers), (Column("answer", text=True), Column("before"), Column("after")), tuple(rows)
    )
    names = {
        "gamma": "gamma",
        "effective_size": "effective size",
        "entropy": "entropy",
        "draws_to_new": "draws to a new answer",
        "distinct_10": "different in 10 draws",
        "distinct_100": "different in 100 draws",
    }
    lines = (TableRow(tuple(_number(entry[name]) for name in names)) for entry in document["curve"])
    return [shares, Table("Over gamma", tuple(map(Column, names.values())), tuple(lines))]


def _gamma(document: Mapping[str, Any]) -> list[Table]:
    about = document.get("about", {})
    fit = (
        TableRow((_text(name), _number(value), _text(about.get(name, ""))))
        for name, value in document["fit"].items()
        if value is None or isinstance(value, (int, float))
    )
    counts = document["how"] == "counts"
    cell = _share if counts else _number
    points = sorted(document["points"], key=lambda point: -point["base"])
    texts = ["answer", "prompt"] if document["prompts"] > 1 else ["answer"]
    rows = (
        TableRow((*(_text(point[name]) for name in texts), *(cell(point[name]) for name in _SIDES)))
        for point in points[:MOST]
    )
    what = "share" if counts else "log-probability"
    return [
        Table(
            "The fit", (Column("figure", text=True), Column("value"), Column("what it is", text=True)), tuple(fit)
        ),
        Table(
            _first(f"{what.capitalize()} of each answer", points),
            (*(Column(name, text=True) for name in texts), *map(Column, _SIDES)),
            tuple(rows),
        ),
    ]


_SIDES = ("base", "aligned", "fitted")


def _levels(document: Mapping[str, Any]) -> list[Table]:
    names = {
        "tv": "total variation",
        "kl": "KL from the base, nats",
        "distinct": f"different in {document['draws']} draws",
    }
    arms = document["arms"]
    rows = (
        TableRow(
            (
                _text(asked(arm["level"])),
                *(TableCell("–") if arm[name] is None else _figure(arm[name]) for name in names),
            )
        )
        for arm in arms
    )
    levels = [arm["level"] for arm in arms]
    answers = sorted(document["answers"], key=lambda answer: -answer["base"])
    shares = (
        TableRow((_text(answer["text"]), *(_share(answer[name]) for name in ("base", *levels))))
        for answer in answers[:MOST]
    )
    return [
        Table("The levels", (Column("asked for", text=True), *map(Column, names.values())), tuple(rows)),
        Table(
            _first("Answers", answers),
            (Column("answer", text=True), Column("base"), *(Column(asked(level)) for level in levels)),
            tuple(shares),
        ),
    ]


def _first(caption: str, entries: Sequence[Any]) -> str:
    return caption if len(entries) <= MOST else f"{caption}: the first {MOST} of {len(entries):,}"


def _text(text: str) -> TableCell:
    return TableCell(text, text)


def _number(value: float | None) -> TableCell:
    if value is None:
        return TableCell("–")
    return TableCell(f"{value:,}" if isinstance(value, int) else digits(value, abs(value)), value)


def _share(value: float | None) -> TableCell:
    return (
        TableCell("–")
        if value is None
        else TableCell(f"{value:.2%}" if value >= 5e-5 or not value else "< 0.01%", value)
    )


def _chance(p: float | None) -> TableCell:
    return TableCell(chance(p), p)


def _figure(figure: Mapping[str, Any], scale: float = 1, unit: str = "") -> TableCell:
    value, within = written(figure, scale)
    return TableCell("–") if figure["value"] is None else TableCell(value + unit, figure["value"], within)
