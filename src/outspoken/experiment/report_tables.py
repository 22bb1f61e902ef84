"""The tables of a report: figures, calibration, comparisons and costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outspoken.experiment.report_text import SOURCES
from outspoken.experiment.results import ArmCalibration, ArmComparison, ArmResults
from outspoken.experiment.results_view import DisplayedFigure, ResultsView, displayed
from outspoken.measure.cost import CostShare
from outspoken.report.format import NONE, count, dollars, number, p_value, with_interval
from outspoken.report.html import Column, Table, TableCell, TableRow

__all__ = ["calibration", "comparisons", "costs", "figures"]

_KINDS = {"headline": 0, "": 1, "published": 2}


class _Notes(list[str]):
    def add(self, text: str) -> tuple[int, ...]:
        """The number of the note, which is appended if it is new; no number for ""."""
        if text and text not in self:
            self.append(text)
        return (self.index(text) + 1,) if text else ()


def figures(view: ResultsView, task: str, model: str) -> Table:
    """A row for each arm and a column for each measure, headline measures first and published ones last."""
    groups = view.panel(task, model)
    ranked = sorted(view.measures, key=lambda name: _rank(view, name))
    stated = any(group.states_shares for group in groups)
    names = [
        name
        for name in ranked
        if any(view.figure(group, name) for group in groups)
        and (stated or name == view.primary or not name.endswith("_shares"))
    ]
    notes = _Notes()
    likes = {name: _like(view.figure(group, name) for group in groups) for name in names}
    rows = [
        TableRow((_arm(view, group), *(_figure(view, group, name, notes, likes[name]) for name in names)))
        for group in groups
    ]
    columns = (Column("arm", text=True), *(_column(view, name) for name in names))
    title = " · ".join(filter(None, (task, model)))
    return Table(title, columns, tuple(rows), tuple(notes), _undefined(view, groups))


def _undefined(view: ResultsView, groups: list[ArmResults]) -> tuple[str, ...]:
    """The measures that no group has, with the reasons."""
    reasons: dict[str, list[str]] = {}
    for name, measure in view.measures.items():
        reason = next((group.undefined[name] for group in groups if name in group.undefined), None)
        if reason and not any(view.figure(group, name) for group in groups):
            reasons.setdefault(reason, []).append(measure.title)
    return tuple(f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items())


def _rank(view: ResultsView, name: str) -> tuple[bool, bool, int]:
    return name != view.primary, name != view.quality, _KINDS.get(view.measures[name].kind, 1)


def _column(view: ResultsView, name: str) -> Column:
    measure = view.measures[name]
    better = f"{measure.better} is better" if measure.better else ""
    badge = "as published" if measure.kind == "published" else ""
    return Column(measure.title, measure.about, better, badge)


def _arm(view: ResultsView, group: ArmResults, label: str = "") -> TableCell:
    return replace(TableCell.of(label or view.label(group)), arm=view.arms.index(group.arm))


def _like(figures: Iterable[DisplayedFigure | None]) -> float | None:
    """The number that decides a column's decimals: its smallest, but at least a tenth of its largest."""
    sizes = [abs(figure.value) for figure in figures if figure and figure.value]
    return max(min(sizes), max(sizes) / 10) if sizes else None


def _figure_cell(
    figure: DisplayedFigure, notes: _Notes, like: float | None, mark: str = "", verdict: str = ""
) -> TableCell:
    if like is not None and 0 < abs(figure.value) < like / 100:
        like = None  # the column's decimals would turn it into 0
    text = number(figure.value, like=like)
    return TableCell(text, figure.value, figure.interval(like), mark, verdict, notes.add(figure.note))


def _figure(view: ResultsView, group: ArmResults, name: str, notes: _Notes, like: float | None) -> TableCell:
    figure = view.figure(group, name)
    if figure is None:
        reason = group.undefined.get(name, "")
        return TableCell(NONE, None, notes=notes.add(reason and f"undefined: {reason}"))
    if floor := group.floors.get(name):
        by_chance = with_interval(floor.value, floor.low, floor.high)
        figure = replace(figure, note="; ".join(filter(None, (figure.note, f"perfect draws: {by_chance}"))))
    mark, verdict = _mark(view, group, name)
    return _figure_cell(figure, notes, like, mark, verdict)


def _mark(view: ResultsView, group: ArmResults, name: str) -> tuple[str, str]:
    """An arrow for a significant difference from the baseline, and whether it is good or bad."""
    against = view.against(group, view.baseline_of(group), name)
    if against is None or not against.significant:
        return "", ""
    up = against.difference > 0
    better = view.measures[name].better
    return "↑" if up else "↓", ("good" if up == (better == "higher") else "bad") if better else ""


def calibration(view: ResultsView) -> Table:
    """A row for each arm and each source with which its stated probabilities are compared."""
    columns = (
        Column("arm", text=True),
        Column("against", "Direct answers of the same model, or the reference.", text=True),
        Column(
            "total variation",
            "Half the sum of the differences of the two distributions: 0 if they are equal, 1 if they share no "
            "answer.",
            "lower is better",
        ),
        Column(
            "Brier",
            "The sum over answers of the squared difference of stated and observed probability, 0 to 2: the part "
            "of the Brier score that is due to the stated probabilities.",
            "lower is better",
        ),
        Column(
            "rank correlation",
            "Spearman's rho: 1 if answers with a higher stated probability are always more frequent.",
            "higher is better",
        ),
        Column("answers", "All stated or observed answers, over all prompts."),
        *(Column(title, text=True) for title in ("task", "model")),
    )
    entries = [entry for entries in view.calibrations().values() for entry in entries]
    figures = [
        tuple(map(displayed, (entry.total_variation, entry.brier, entry.rank_correlation))) for entry in entries
    ]
    likes = [_like(column) for column in zip(*figures, strict=True)]
    notes = _Notes()
    rows = []
    for entry, own in zip(entries, figures, strict=True):
        group = view.by_id[entry.group]
        cells = (
            _arm(view, group),
            TableCell.of(SOURCES[entry.against]),
            *(
                TableCell(NONE) if figure is None else _figure_cell(figure, notes, like)
                for figure, like in zip(own, likes, strict=True)
            ),
            _compared_answers(entry, notes),
            *map(TableCell.of, (group.task, group.model)),
        )
        rows.append(TableRow(cells))
    return Table("Are the stated probabilities right?", columns, tuple(rows), tuple(notes))


def _compared_answers(entry: ArmCalibration, notes: _Notes) -> TableCell:
    prompts = "1 prompt" if entry.undefined == 1 else f"{entry.undefined:,} prompts"
    reason = f"{prompts} left out: one answer in all, or no answer in common" if entry.undefined else ""
    return replace(TableCell.of(sum(part.count for part in entry.bins), count), notes=notes.add(reason))


def comparisons(view: ResultsView) -> Table:
    """A row for each comparison, those of the primary measure and of quality first."""
    first = [name for name in (view.primary, view.quality) if name]
    entries = sorted(
        view.results.comparisons,
        key=lambda entry: first.index(entry.measure) if entry.measure in first else len(first),
    )
    notes = _Notes()
    columns = (
        Column("comparison", "The difference is the first minus the second, on the same prompts.", text=True),
        Column("difference", "With its 95 % interval."),
        Column(
            "significant",
            "The interval excludes 0, p after Holm is at most 0.05, and there are six prompts or more.",
            text=True,
        ),
        Column("p", "The p value of a paired permutation test."),
        Column(
            "p\N{NO-BREAK SPACE}(Holm)",
            "The p value corrected for all pairs that are compared by the measure in the task (Holm 1979).",
        ),
        Column("effect", "The difference in units of its standard deviation between prompts."),
        Column("units", "Prompts, or calls if there is one prompt with known answers."),
        Column("needed", "About how many units a difference of this size needs, with a power of 80 %."),
        *(Column(title, text=True) for title in ("task", "model", "measure")),
    )
    rows = tuple(_comparison(view, entry, notes) for entry in entries)
    return Table("Comparisons", columns, rows, tuple(notes))


def _comparison(view: ResultsView, entry: ArmComparison, notes: _Notes) -> TableRow:
    against = view.difference(entry)
    a, b = view.by_id[entry.a], view.by_id[entry.b]
    pair = f"{view.label(a)} \N{MINUS SIGN} {view.label(b)}"
    answer = "yes" if against.significant else "no"
    cells = (
        _arm(view, a, pair),
        TableCell(against.text, against.difference, against.interval, notes=notes.add(against.note)),
        TableCell(answer, answer, notes=notes.add(against.doubt and f"not significant: {against.doubt}")),
        TableCell.of(against.p, p_value),
        TableCell.of(against.p_holm, p_value),
        TableCell.of(against.effect),
        TableCell.of(against.units, count),
        TableCell.of(against.needed, count),
        *map(TableCell.of, (entry.task, entry.model, view.measures[entry.measure].title)),
    )
    pairs = "baseline" if view.baseline in (a.arm, b.arm) else "others"
    return TableRow(cells, {"measure": entry.measure, "pairs": pairs})


def costs(view: ResultsView) -> Table:
    """A row for each group: its prompts, its responses, and their cost."""
    columns = (
        *(Column(title, text=True) for title in ("arm", "task", "model")),
        Column("prompts"),
        Column("responses"),
        Column("failures", "Missing responses. They are not among the responses."),
        Column("empty", "Responses without text. They are not among the responses."),
        *map(Column, ("requests", "tokens", "dollars")),
        Column("seconds", "The time during which at least one request was under way."),
        Column(
            "model seconds", "The sum of the times that the model took for each request, however many ran at once."
        ),
        Column("tokens per response"),
        Column("tokens per distinct response", "All tokens divided by the number of distinct responses."),
        Column("dollars per distinct response"),
    )
    rows = []
    for group in view.groups:
        requests = tokens = usd = wall = model = None
        each = distinct = CostShare()
        if cost := group.cost:
            requests, tokens, usd = cost.requests, cost.tokens, cost.usd
            wall, model = cost.wall_seconds, cost.model_seconds
            each, distinct = cost.per_response, cost.per_distinct
        counts = (group.prompts, group.responses, group.failures, group.empty, requests, tokens)
        cells = (
            _arm(view, group),
            *map(TableCell.of, (group.task, group.model)),
            *(TableCell.of(value, count) for value in counts),
            TableCell.of(usd, dollars),
            *map(TableCell.of, (wall, model, each.tokens, distinct.tokens)),
            TableCell.of(distinct.usd, dollars),
        )
        rows.append(TableRow(cells))
    return Table("Requests, responses and cost", columns, tuple(rows))
