"""Tables of figures with intervals, for `measure` and `compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from outspoken.cli.common import console, note, print_text
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.cli.options import TableFormat
    from outspoken.cli.screen import Screen
    from outspoken.measure.analysis import Analysis
    from outspoken.measure.equal_size import NoiseFloor
    from outspoken.measure.estimates import Estimate
    from outspoken.measure.measured import GroupComparison, MeasuredGroup
    from outspoken.measure.richness import GroupRichness

__all__ = ["check_format", "label", "show"]

_NAME_WIDTH, _CELL_WIDTH = 24, 21
_MAX_PAIRS = 3
_MAX_NAMES = 4


def label(measured: MeasuredGroup, all_groups: Sequence[MeasuredGroup]) -> str:
    """The name of a group: what distinguishes it from the others."""
    from outspoken.measure.values import group_label

    return group_label(measured.group, [other.group for other in all_groups])


def check_format(form: TableFormat | None, *, json: bool) -> None:
    """Raise `UsageError` for --format with --json."""
    if form is not None and json:
        raise UsageError("--format and --json print different things: choose one of them")


def show(analysis: Analysis, *, every: bool = False, form: TableFormat | None = None) -> None:
    """The figures with a column for each group, the comparisons, the calibration, notes, and the verdicts.

    With `form`, only the figures as a table to paste, and the warnings on standard error.
    """
    screen = console()
    if form is not None:
        from outspoken.cli.table_formats import table_of

        print_text(table_of(analysis, form, every=every))
        for text in analysis.warnings:
            note(f"note: {text}", style="yellow")
        return
    _figures(screen, analysis.groups, every=every)
    _comparisons(screen, analysis, every=every)
    _calibration(screen, analysis)
    for text in (*analysis.warnings, *_notes(analysis, every=every), *_undefined(analysis.groups)):
        note(f"note: {text}", style="yellow")
    _fidelity(screen, analysis)
    for one in analysis.richness:
        screen.print(
            _richness(label(analysis.groups[one.group], analysis.groups), one), style="dim", soft_wrap=True
        )
    for effect in analysis.effects:
        colour = {"helps": "green", "hurts": "red"}.get(effect.outcome, "")
        screen.print(effect.sentence, style=f"bold {colour}".strip(), soft_wrap=True)


def _fidelity(screen: Screen, analysis: Analysis) -> None:
    """The law's figures of each group, and a sentence about each."""
    from outspoken.report.format import NONE, number, p_value

    if not analysis.fidelity:
        return
    law = analysis.fidelity[0].fidelity.law
    table = TextTable(
        law, "draws", "left out", "KS@N (by chance)", "total variation (by chance)", "chi-square p", right=True
    )
    table.add_column("sd / law's", right=True)
    for one in analysis.fidelity:
        found = one.fidelity
        pairs = ((found.ks, found.ks_by_chance), (found.tv, found.tv_by_chance))
        table.add_row(
            label(analysis.groups[one.group], analysis.groups),
            f"{found.draws:,}",
            f"{found.left_out:,}",
            *(NONE if a is None or b is None else f"{number(a)} ({number(b)})" for a, b in pairs),
            p_value(found.chi_square_p),
            _cell(found.sd_ratio),
        )
    screen.print()
    screen.print(table)
    for one in analysis.fidelity:
        name = label(analysis.groups[one.group], analysis.groups)
        shares = one.sd_ratio_of_shares
        more = "" if shares is None else f" Of the stated shares the ratio is {number(shares)}."
        screen.print(f"{name}: {one.fidelity.sentence}{more}", soft_wrap=True)


def _richness(name: str, one: GroupRichness) -> str:
    from outspoken.report.format import number, share

    text = f"{name}: {number(one.seen)} answers seen a prompt, at least {number(one.at_least)} in the model"
    again = f"{share(one.coverage, 1)} of further responses would be an answer already seen"
    return f"{text}; {again}, and as many responses again would show {number(one.new_in_as_many)} new ones"


def _notes(analysis: Analysis, *, every: bool) -> Iterator[str]:
    """The notes of the figures and comparisons that are shown, each with the measures that it is about."""
    from outspoken.measure.measures import MEASURES

    titles: dict[str, dict[str, None]] = {}
    notes = [(name, one.note) for measured in analysis.groups for name, one in measured.figures.items()]
    notes += [(row.measure, row.comparison.note) for row in analysis.comparisons]
    for name, text in notes:
        if text and (every or MEASURES[name].kind != "published"):
            titles.setdefault(text, {})[MEASURES[name].title] = None
    for text, names in titles.items():
        first = list(names)[:_MAX_NAMES]
        more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
        yield f"{', '.join(first)}{more}: {text}"


def _undefined(groups: Sequence[MeasuredGroup]) -> Iterator[str]:
    """Why a measure is undefined for a group or some of its prompts; nothing if no group was given its input."""
    from outspoken.measure.measures import MEASURES

    for name, measure in MEASURES.items():
        others_have = any(name in measured.figures for measured in groups)
        for measured in groups:
            lacks_what_others_have = others_have and name not in measured.figures
            if name in measured.undefined and (lacks_what_others_have or name not in measured.not_given):
                yield f"{label(measured, groups)}: {measure.title}: {measured.undefined[name]}"


def _figures(screen: Screen, groups: Sequence[MeasuredGroup], *, every: bool) -> None:
    from outspoken.measure.measures import MEASURES

    at_once = max(1, (screen.width - _NAME_WIDTH) // _CELL_WIDTH)
    for start in range(0, len(groups), at_once):
        part = groups[start : start + at_once]
        table = TextTable("", *(label(measured, groups) for measured in part), right=True)
        table.add_row("prompts", *(f"{len(measured.group.prompts):,}" for measured in part), style="dim")
        table.add_row("responses", *(f"{measured.responses:,}" for measured in part), style="dim")
        for measure in MEASURES.values():
            cells = [measured.figures.get(measure.name) for measured in part]
            if not any(cells) or (measure.kind == "published" and not every):
                continue
            if measure.name.endswith("_shares") and not any(measured.states_shares for measured in groups):
                continue
            if measure.name == "empty" and not any(cell.value for cell in cells if cell):
                continue
            arrow = {"higher": " ↑", "lower": " ↓"}.get(measure.better, "")
            style = "" if measure.kind == "headline" else "dim"
            table.add_row(
                measure.title + arrow, *(_cell(estimate, measure.scale) for estimate in cells), style=style
            )
            floors = [measured.floors.get(measure.name) for measured in part]
            if any(floors) and measure.kind != "published":
                table.add_row("  by chance", *map(_floor, floors), style="dim")
        screen.print(table)
        _costs(screen, part, groups)
        screen.print()


def _cell(estimate: Estimate | None, scale: float = 1) -> str:
    from outspoken.report.format import NONE, with_interval

    if estimate is None:
        return NONE
    scaled = estimate.scaled(scale)
    return with_interval(scaled.value, scaled.low, scaled.high)


def _floor(floor: NoiseFloor | None) -> str:
    from outspoken.report.format import NONE, with_interval

    return NONE if floor is None else with_interval(floor.value, floor.low, floor.high)


def _costs(screen: Screen, part: Sequence[MeasuredGroup], groups: Sequence[MeasuredGroup]) -> None:
    from outspoken.report.format import count, dollars

    for measured in part:
        cost = measured.cost_summary
        if cost is None:
            continue
        price = f", {dollars(cost.per_distinct.usd)}" if cost.per_distinct.usd else ""
        screen.print(
            f"{label(measured, groups)}: {plural(cost.requests, 'request')}, {plural(cost.tokens, 'token')}; "
            f"for each distinct response {count(cost.per_distinct.tokens)} tokens{price}",
            style="dim",
            soft_wrap=True,
        )


def _comparisons(screen: Screen, analysis: Analysis, *, every: bool) -> None:
    """A table for each pair of groups; for many pairs, one table of the first measure."""
    from outspoken.measure.measures import MEASURES

    rows = [row for row in analysis.comparisons if every or MEASURES[row.measure].kind == "headline"]
    pairs: dict[tuple[int, int], list[GroupComparison]] = {}
    for row in rows:
        pairs.setdefault((row.a, row.b), []).append(row)
    if every or len(pairs) <= _MAX_PAIRS:
        tables = [
            (_pair(analysis, pair[0]), {MEASURES[row.measure].title: row for row in pair})
            for pair in pairs.values()
        ]
    else:
        first = [row for row in rows if row.measure == rows[0].measure]
        tables = [(MEASURES[rows[0].measure].title, {_pair(analysis, row): row for row in first})]
        note("the other comparisons are shown with --all, and all of them with --json")
    for title, table in tables:
        _show_comparisons(screen, title, table)


def _pair(analysis: Analysis, row: GroupComparison) -> str:
    return " − ".join(label(analysis.groups[index], analysis.groups) for index in (row.a, row.b))


def _show_comparisons(screen: Screen, title: str, rows: Mapping[str, GroupComparison]) -> None:
    from outspoken.measure.measures import MEASURES
    from outspoken.report.format import NONE, count, number, p_value, with_interval

    table = TextTable("", "difference", "p (Holm)", "d_z", "prompts", "needed", style="dim")
    screen.print(title, style="bold", soft_wrap=True)
    for name, compared in rows.items():
        comparison = compared.comparison.scaled(MEASURES[compared.measure].scale)
        table.add_row(
            name,
            with_interval(comparison.difference, comparison.low, comparison.high, plus=True),
            p_value(comparison.p_holm),
            NONE if comparison.effect is None else number(comparison.effect),
            count(comparison.units),
            count(comparison.needed),
        )
    screen.print(table)
    screen.print()


def _calibration(screen: Screen, analysis: Analysis) -> None:
    if not analysis.calibration:
        return
    table = TextTable("stated probabilities", "against", "total variation", "Brier", "rank correlation")
    for row in analysis.calibration:
        table.add_row(
            label(analysis.groups[row.group], analysis.groups),
            row.source,
            *(_cell(estimate) for estimate in (row.total_variation, row.brier, row.rank_correlation)),
        )
    screen.print()
    screen.print(table)
