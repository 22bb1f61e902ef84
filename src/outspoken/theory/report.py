"""The page of a theory document: one HTML file that works offline, and its charts as pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError
from outspoken.io.atomic import write_bytes
from outspoken.report import charts as drawing
from outspoken.report import html
from outspoken.report.format import NONE, number, p_value, percent
from outspoken.report.html import Column, Table, TableCell, TableRow
from outspoken.theory import charts
from outspoken.theory.report_text import ABOUT, GLOSSARY, TITLES, estimates, interval_text, level_title, tiles

__all__ = ["MOST", "render", "skipped", "tables", "write"]

MOST = 200
"""The most rows of a table of answers; the results document has all of them."""

_PICTURE_WIDTH = 560
_cell = TableCell.of


def write(document: dict[str, Any], folder: Path, *, pictures: bool = True) -> Path:
    """Write `report.html` into `folder`, and with `pictures` each chart as `charts/*.svg` and `charts/*.png`.

    `document` is `to_dict()` of a result; the command line adds the command and its settings. Returns the path of
    the page. Each file is written completely or not at all, and no network is needed.

    Raises `UsageError` if `document` is something else, `OutputError` if the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(document).encode())
    if pictures:
        figures = charts.figures(html.printable(document))
        specs = ((figure.name, figure.title, drawing.spec(figure.chart, _PICTURE_WIDTH)) for figure in figures)
        drawing.write_pictures(specs, folder / "charts")
    return page


def render(document: dict[str, Any]) -> str:
    """The page, with every script, style and chart inside. Texts from the data are escaped."""
    kind = document.get("kind")
    if kind not in TITLES:
        raise UsageError(f"this is not a document of kind {', '.join(TITLES)}: its kind is {kind!r}")
    document = html.printable(document)
    models = [document, *document["others"]] if kind == "typicality" else []
    lead, *sentences = [document["verdict"]["lead"]] if models else document["sentences"]
    controls = {entry["title"]: entry["about"] for model in models for entry in model["controls"].values()}
    specs: dict[str, drawing.Spec] = {}
    return html.render(
        resources.files("outspoken.theory") / "page",
        "report.html",
        specs,
        title=TITLES[kind],
        about=ABOUT[kind],
        about_what=document["data"]["file"] if models else "",
        lead=lead,
        sentences=sentences,
        controls=controls.items(),
        skipped=skipped(document) if models else None,
        count="{:,}".format,
        document=document,
        version=document.get("version", ""),
        key_figures=tiles(document),
        figures=[(drawing.add_chart(specs, figure.chart), figure) for figure in charts.figures(document)],
        tables=tables(document),
        glossary=GLOSSARY,
        settings=json.dumps(document.get("settings", {}), ensure_ascii=False, indent=2),
    )


def tables(document: dict[str, Any]) -> list[Table]:
    """The tables of a document, with every figure, in cells that a page can sort."""
    of_kind = {"typicality": _typicality, "sharpen": _sharpen, "gamma": _gamma, "levels": _levels}
    return of_kind[document["kind"]](document)


def skipped(document: dict[str, Any]) -> Table:
    """The pairs that a typicality document leaves out, by reason: those of the file, and of each base model."""
    parts = {model["base"]: model["skipped"] for model in (document, *document["others"])}
    rows = (
        (_cell(reason), _cell(where), _cell(count, "{:,}".format))
        for where, reasons in (("the file", document["data"]["skipped"]), *parts.items())
        for reason, count in reasons.items()
    )
    return _table("Left out", (_words("left out because"), _words("of"), Column("number")), rows)


def _typicality(document: dict[str, Any]) -> list[Table]:
    columns = (
        _words("estimate"),
        *map(Column, ("alpha", "standard error", "p")),
        Column("p, corrected", "Holm's correction for the number of base models"),
        Column("odds ratio", under="per SD"),
        Column("change", "of the probability from -1 to +1 SD, in points"),
        Column("rate", "pairs whose preferred answer is the more likely one"),
    )
    drawn = []
    for model in (document, *document["others"]):
        rows = []
        for estimate in estimates(model):
            main = estimate["name"] == "main"
            rows.append(
                (
                    _cell(estimate["title"]),
                    _figure(estimate),
                    _cell(estimate["se"]),
                    _cell(estimate["p"], p_value),
                    _cell(estimate["p_holm"], p_value) if main else TableCell(""),
                    _figure(estimate["odds_ratio"]),
                    _figure(model["change"], 100) if main else TableCell(""),
                    _figure(model["rate"], 100, " %") if main else TableCell(""),
                )
            )
        caption = f"{model['base']}: {model['pairs']:,} pairs from {model['prompts']:,} prompts"
        drawn.append(_table(caption, columns, rows))
    return drawn


def _sharpen(document: dict[str, Any]) -> list[Table]:
    titles = {
        "gamma": "gamma",
        "effective_size": "effective size",
        "entropy": "entropy",
        "draws_to_new": "draws to a new answer",
        "distinct_10": "different in 10 draws",
        "distinct_100": "different in 100 draws",
    }
    curve = ([_cell(entry[name]) for name in titles] for entry in document["curve"])
    return [
        _answers(document["answers"], {"before": "before", "after": "after"}),
        _table("Over gamma", map(Column, titles.values()), curve),
    ]


def _gamma(document: dict[str, Any]) -> list[Table]:
    about = document["about"]
    fit = ((_cell(name), _cell(value), _cell(about.get(name, ""))) for name, value in document["fit"].items())
    what = "Share" if document["how"] != "logprobs" else "Log-probability"
    write: Callable[[float], str] = _share if what == "Share" else number
    texts = ["answer", "prompt"] if document["prompts"] > 1 else ["answer"]
    points = sorted(document["points"], key=lambda point: -point["base"])
    names = ("base", "aligned", "fitted")
    rows = (
        (*(_cell(point[name]) for name in texts), *(_cell(point[name], write) for name in names))
        for point in points[:MOST]
    )
    return [
        _table("The fit", (_words("figure"), Column("value"), _words("what it is")), fit),
        _table(_shortened(f"{what} of each answer", points), (*map(_words, texts), *map(Column, names)), rows),
    ]


def _levels(document: dict[str, Any]) -> list[Table]:
    arms = document["arms"]
    titles = ("total variation", "KL from the base, nats", f"different in {document['draws']} draws")
    figures = (
        (_cell(level_title(arm["level"])), *(_figure(arm[name]) for name in ("tv", "kl", "distinct")))
        for arm in arms
    )
    answers = sorted(document["answers"], key=lambda answer: -answer["base"])
    levels = {arm["level"]: level_title(arm["level"]) for arm in arms}
    return [
        _table("The levels", (_words("asked for"), *map(Column, titles)), figures),
        _answers(answers, {"base": "base", **levels}),
    ]


def _answers(answers: Sequence[dict[str, Any]], titles: dict[str, str]) -> Table:
    """The shares of the first answers, by their names in an answer and with the `titles` of their columns."""
    rows = ([_cell(entry["text"]), *(_cell(entry[name], _share) for name in titles)] for entry in answers[:MOST])
    return _table(_shortened("Answers", answers), (_words("answer"), *map(Column, titles.values())), rows)


def _table(caption: str, columns: Iterable[Column], rows: Iterable[Iterable[TableCell]]) -> Table:
    return Table(caption, tuple(columns), tuple(TableRow(tuple(cells)) for cells in rows))


def _words(title: str) -> Column:
    return Column(title, text=True)


def _shortened(caption: str, entries: Sequence[object]) -> str:
    return caption if len(entries) <= MOST else f"{caption}: the first {MOST} of {len(entries):,}"


def _share(value: float) -> str:
    return "< 0.01 %" if 0 < value < 5e-5 else percent(value, decimals=2)


def _figure(figure: dict[str, Any] | None, scale: float = 1, unit: str = "") -> TableCell:
    if figure is None or figure["value"] is None:
        return TableCell(NONE)
    value, within = interval_text(figure, scale)
    return TableCell(value + unit, figure["value"], within)
