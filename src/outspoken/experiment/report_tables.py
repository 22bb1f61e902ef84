"""The tables of a report: figures, comparisons and costs, as cells that a page can sort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outspoken.experiment.report_text import SOURCES, chance, interval, signed
from outspoken.experiment.results_view import DisplayedDifference, DisplayedFigure, ResultsView, displayed
from outspoken.report.format import number
from outspoken.report.tables import Column, Table, TableCell, TableRow

__all__ = ["calibration", "comparisons", "costs", "figures"]

_Group = Mapping[str, Any]
_KINDS = {"headline": 0, "": 1, "published": 2}


@dataclass(slots=True)
class _Notes:
    texts: list[str] = field(default_factory=list)

    def add(self, *texts: str) -> tuple[int, ...]:
        """The places of these texts, the empty ones dropped, an equal one never put down twice."""
        places = []
        for text in filter(None, texts):
            if text not in self.texts:
                self.texts.append(text)
            places.append(self.texts.index(text) + 1)
        return tuple(places)


def figures(view: ResultsView, task: str, model: str) -> Table:
    """A row an arm, a column a measure: headline ones first, those as published last and labelled."""
    groups = view.panel(task, model)
    ranked = sorted(view.measures, key=lambda name: _rank(view, name))
    names = [name for name in ranked if any(view.figure(group, name) for group in groups)]
    notes = _Notes()
    likes = {name: _like(view.figure(group, name) for group in groups) for name in names}
    rows = [
        TableRow((_name(view, group), *(_figure(view, group, name, notes, likes[name]) for name in names)))
        for group in groups
    ]
    columns = [Column("arm", text=True), *(_column(view, name) for name in names)]
    return Table(
        " · ".join(filter(None, (task, model))),
        tuple(columns),
        tuple(rows),
        tuple(notes.texts),
        _absent(view, groups),
    )


def _absent(view: ResultsView, groups: list[_Group]) -> tuple[str, ...]:
    """The measures that no group has, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for name, measure in view.measures.items():
        why = next((group["undefined"][name] for group in groups if name in group.get("undefined", {})), None)
        if why and not any(view.figure(group, name) for group in groups):
            reasons.setdefault(why, []).append(measure["title"])
    return tuple(f"{', '.join(titles)}: {why}" for why, titles in reasons.items())


def _rank(view: ResultsView, name: str) -> tuple[bool, bool, int]:
    return name != view.primary, name != view.quality, _KINDS.get(view.measures[name]["kind"], 1)


def _column(view: ResultsView, name: str) -> Column:
    measure = view.measures[name]
    better = f"{measure['better']} is better" if measure["better"] else ""
    badge = "as published" if measure["kind"] == "published" else ""
    return Column(measure["title"], measure["about"], better, badge)


def _name(view: ResultsView, group: _Group) -> TableCell:
    label = view.label(group)
    return TableCell(label, label, arm=view.arms.index(group["arm"]))


def _like(figures: Iterable[DisplayedFigure | None]) -> float | None:
    """The figure whose decimals a column has: its least, with at most one decimal more than its largest takes."""
    sizes = [abs(figure.value) for figure in figures if figure and figure.value]
    return max(min(sizes), max(sizes) / 10) if sizes else None


def _estimated(
    figure: DisplayedFigure, notes: _Notes, like: float | None, mark: str = "", verdict: str = ""
) -> TableCell:
    # What the column's decimals would make a 0 keeps its own.
    if like is not None and 0 < abs(figure.value) < like / 100:
        like = None
    text, within = number(figure.value, like=like), interval(figure, like=like)
    return TableCell(text, figure.value, within, mark, verdict, notes.add(figure.note))


def _figure(view: ResultsView, group: _Group, name: str, notes: _Notes, like: float | None) -> TableCell:
    figure = view.figure(group, name)
    if figure is None:
        why = group.get("undefined", {}).get(name, "")
        return TableCell("–", None, notes=notes.add(why and f"undefined: {why}"))
    mark, verdict = _mark(view, group, name)
    return _estimated(figure, notes, like, mark, verdict)


def _mark(view: ResultsView, group: _Group, name: str) -> tuple[str, str]:
    against = view.against(group, view.baseline_of(group), name)
    if against is None or not against.shown:
        return "", ""
    up = against.difference > 0
    better = view.measures[name]["better"]
    return "↑" if up else "↓", ("good" if up == (better == "higher") else "bad") if better else ""


def calibration(view: ResultsView) -> Table:
    """A row an arm and what its stated probabilities are held against."""
    columns = (
        Column("arm", text=True),
        Column("against", "Direct answers of the same model, or the reference.", text=True),
        Column(
            "total variation",
            "Half the sum of the differences of the two distributions: 0 where they agree, 1 where they share "
            "no answer.",
            "lower is better",
        ),
        Column(
            "ECE",
            "Expected calibration error: how far what was stated lies from what was observed, the mean over bins "
            "of answers. It depends on how many answers there are: compare within a task.",
            "lower is better",
        ),
        Column(
            "rank correlation",
            "Spearman's rho: 1 where the answers stated to be likelier are the likelier ones.",
            "higher is better",
        ),
        Column("answers", "All that were stated or observed, over all prompts."),
        Column("task", text=True),
        Column("model", text=True),
    )
    entries = [entry for entries in view.calibrations().values() for entry in entries]
    names = ("total_variation", "ece", "rank_correlation")
    likes = {name: _like(displayed(entry[name]) for entry in entries) for name in names}
    notes = _Notes()
    rows = []
    for entry in entries:
        group = view.by_id[entry["group"]]
        source = SOURCES[entry["against"]]
        figures = [(displayed(entry[name]), likes[name]) for name in names]
        cells = (
            _name(view, group),
            TableCell(source, source),
            *(TableCell("–") if figure is None else _estimated(figure, notes, like) for figure, like in figures),
            _compared_answers(entry, notes),
            TableCell(group["task"], group["task"]),
            TableCell(group["model"], group["model"]),
        )
        rows.append(TableRow(cells))
    return Table("Are the stated probabilities right?", columns, tuple(rows), tuple(notes.texts))


def _compared_answers(entry: Mapping[str, Any], notes: _Notes) -> TableCell:
    count = sum(part["count"] for part in entry["bins"])
    left = entry["undefined"]
    prompts = "1 prompt" if left == 1 else f"{left:,} prompts"
    return TableCell(
        f"{count:,}",
        count,
        notes=notes.add(left and f"{prompts} left out: one answer in all, or none on both sides"),
    )


def comparisons(view: ResultsView) -> Table:
    """A row a comparison, those of the primary measure and of quality first."""
    first = [name for name in (view.primary, view.quality) if name]
    entries = [entry for entry in view.results.get("comparisons", ()) if entry["difference"] is not None]
    entries.sort(key=lambda entry: first.index(entry["measure"]) if entry["measure"] in first else len(first))
    notes = _Notes()
    columns = (
        Column("comparison", "The difference is the first minus the second, on the same prompts.", text=True),
        Column("difference", "With its 95 % interval."),
        Column(
            "shown",
            "The interval excludes 0, p after Holm is at most 0.05, and six prompts or more.",
            text=True,
        ),
        Column("p", "Of a paired permutation test."),
        Column(
            "p\N{NO-BREAK SPACE}(Holm)",
            "The p-value corrected for all pairs compared by the measure in the task (Holm 1979).",
        ),
        Column("effect", "The difference in units of its standard deviation between prompts."),
        Column("units", "Prompts; calls, where there is one prompt with known answers."),
        Column("needed", "About how many of them a difference of this size takes, with a power of 80 %."),
        Column("task", text=True),
        Column("model", text=True),
        Column("measure", text=True),
    )
    rows = tuple(_compared(view, entry, notes) for entry in entries)
    return Table("Comparisons", columns, rows, tuple(notes.texts))


def _compared(view: ResultsView, entry: Mapping[str, Any], notes: _Notes) -> TableRow:
    against = view.read(entry)
    a, b = view.by_id[entry["a"]], view.by_id[entry["b"]]
    pair = f"{view.label(a)} \N{MINUS SIGN} {view.label(b)}"
    title = view.measures[entry["measure"]]["title"]
    cells = (
        TableCell(pair, pair, arm=view.arms.index(a["arm"])),
        TableCell(signed(against), against.difference, interval(against), notes=notes.add(against.note)),
        _said(against, notes),
        _p(against.p),
        _p(against.p_holm),
        _plain(against.effect),
        _count(against.units),
        _count(against.needed),
        TableCell(entry["task"], entry["task"]),
        TableCell(entry["model"], entry["model"]),
        TableCell(title, title),
    )
    pairs = "baseline" if view.baseline in (a["arm"], b["arm"]) else "others"
    return TableRow(cells, {"measure": entry["measure"], "pairs": pairs})


def _said(against: DisplayedDifference, notes: _Notes) -> TableCell:
    return (
        TableCell("yes", "yes")
        if against.shown
        else TableCell("no", "no", notes=notes.add(f"not shown: {against.doubt}"))
    )


def _p(p: float | None) -> TableCell:
    return TableCell("–") if p is None else TableCell(chance(p).removeprefix("p ").removeprefix("= "), p)


def _plain(value: float | None) -> TableCell:
    return TableCell("–") if value is None else TableCell(number(value), value)


def _count(value: int | None) -> TableCell:
    return TableCell("–") if value is None else TableCell(f"{value:,}", value)


def _dollars(value: float | None) -> TableCell:
    return (
        TableCell("–")
        if value is None
        else TableCell(f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.2g}", value)
    )


def costs(view: ResultsView) -> Table:
    """What was asked, what came, and what it cost, a row a group."""
    columns = (
        Column("arm", text=True),
        Column("task", text=True),
        Column("model", text=True),
        Column("prompts"),
        Column("responses"),
        Column("failures", "Answers that never came. They are not among the responses."),
        Column("empty", "Answers without any text. They are not among the responses."),
        Column("requests"),
        Column("tokens"),
        Column("dollars"),
        Column("seconds", "The sum over all requests, however many ran at once."),
        Column("tokens a response"),
        Column("tokens a distinct response", "The whole divided by the number of different responses."),
        Column("dollars a distinct response"),
        Column("seconds a distinct response"),
    )
    rows = []
    for group in view.groups:
        cost = group.get("cost") or {}
        each, distinct = cost.get("per_response") or {}, cost.get("per_distinct") or {}
        cells = (
            _name(view, group),
            TableCell(group["task"], group["task"]),
            TableCell(group["model"], group["model"]),
            *(_count(group[name]) for name in ("prompts", "responses", "failures", "empty")),
            _count(cost.get("requests")),
            _count(cost.get("tokens")),
            _dollars(cost.get("usd")),
            _plain(cost.get("seconds")),
            _plain(each.get("tokens")),
            _plain(distinct.get("tokens")),
            _dollars(distinct.get("usd")),
            _plain(distinct.get("seconds")),
        )
        rows.append(TableRow(cells))
    return Table("What was asked and what it cost", columns, tuple(rows))
