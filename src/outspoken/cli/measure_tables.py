"""Figures with intervals as tables, for `measure`, `compare` and `experiment`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outspoken.cli.common import console, note

if TYPE_CHECKING:
    from rich.console import Console

    from outspoken.measure.analysis import Analysis, GroupComparison, MeasuredGroup
    from outspoken.measure.statistics import Estimate

__all__ = ["label", "show", "working"]

_NAME_WIDTH, _CELL_WIDTH = 24, 21
_PAIRS_SHOWN = 3
_PLAIN_SECONDS = 10.0


def label(measured: MeasuredGroup, all_groups: Sequence[MeasuredGroup]) -> str:
    """What tells a group apart from the others."""
    group = measured.group
    models = {other.group.model for other in all_groups}
    methods = {other.group.method for other in all_groups}
    parts = [group.method] if len(methods) > 1 or len(models) == 1 else []
    if len(models) > 1:
        parts.append(group.model)
    parts += [f"{name}={value}" for name, value in group.settings.items()]
    return " ".join(parts)


def show(analysis: Analysis, *, every: bool = False) -> None:
    """The figures, a column a group, then the comparisons, then what is to be known before believing them."""
    screen = console()
    _figures(screen, analysis.groups, every=every)
    _comparisons(screen, analysis, every=every)
    _calibration(screen, analysis)
    notes = {
        estimate.note: None
        for measured in analysis.groups
        for estimate in measured.figures.values()
        if estimate.note
    }
    for text in (*analysis.warnings, *notes, *_undefined(analysis.groups)):
        note(f"note: {text}", style="yellow")


def _undefined(groups: Sequence[MeasuredGroup]) -> Iterator[str]:
    """Why a figure is missing for a group or for some of its prompts, unless nobody has what it needs."""
    from outspoken.measure.measures import MEASURES

    for name, measure in MEASURES.items():
        others_have = any(name in measured.figures for measured in groups)
        for measured in groups:
            lacks_what_others_have = others_have and name not in measured.figures
            if name in measured.undefined and (lacks_what_others_have or name not in measured.not_given):
                yield f"{label(measured, groups)}: {measure.title}: {measured.undefined[name]}"


def _figures(screen: Console, groups: Sequence[MeasuredGroup], *, every: bool) -> None:
    from rich.table import Table

    from outspoken.measure.measures import MEASURES

    at_once = max(1, (screen.width - _NAME_WIDTH) // _CELL_WIDTH)
    for start in range(0, len(groups), at_once):
        part = groups[start : start + at_once]
        table = Table("", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for measured in part:
            table.add_column(label(measured, groups), justify="right", overflow="fold")
        table.add_row("prompts", *(f"{len(measured.group.prompts):,}" for measured in part), style="dim")
        table.add_row("responses", *(f"{measured.responses:,}" for measured in part), style="dim")
        for measure in MEASURES.values():
            cells = [measured.figures.get(measure.name) for measured in part]
            if not any(cells) or (measure.kind == "published" and not every):
                continue
            arrow = {"higher": " ↑", "lower": " ↓"}.get(measure.better, "")
            style = "" if measure.kind == "headline" else "dim"
            table.add_row(measure.title + arrow, *(cell(found, measure.scale) for found in cells), style=style)
        screen.print(table)
        _costs(screen, part)
        screen.print()


def cell(estimate: Estimate | None, scale: float = 1) -> str:
    """A figure with its interval, as far as there is one."""
    if estimate is None:
        return "–"
    value = _number(estimate.value * scale)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{_number(estimate.low * scale)}, {_number(estimate.high * scale)}]"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _costs(screen: Console, groups: Sequence[MeasuredGroup]) -> None:
    for measured in groups:
        if measured.cost is None:
            continue
        cost = measured.to_dict()["cost"]
        each = cost["per_distinct"]
        money = f", ${each['usd']:.5f}" if each["usd"] else ""
        tokens = "–" if each["tokens"] is None else f"{each['tokens']:,.0f} tokens"
        screen.print(
            f"{label(measured, groups)}: {cost['requests']:,} requests, {cost['tokens']:,} tokens; "
            f"for each distinct response {tokens}{money}",
            style="dim",
            soft_wrap=True,
        )


def _comparisons(screen: Console, analysis: Analysis, *, every: bool) -> None:
    """A table for each pair of groups; where there are many, of the first measure alone."""
    from outspoken.measure.measures import MEASURES

    rows = [found for found in analysis.comparisons if every or MEASURES[found.measure].kind == "headline"]
    pairs: dict[tuple[int, int], list[GroupComparison]] = {}
    for found in rows:
        pairs.setdefault((found.a, found.b), []).append(found)
    if every or len(pairs) <= _PAIRS_SHOWN:
        tables = [
            (_pair(analysis, found[0]), {MEASURES[item.measure].title: item for item in found})
            for found in pairs.values()
        ]
    else:
        first = [item for item in rows if item.measure == rows[0].measure]
        tables = [(MEASURES[rows[0].measure].title, {_pair(analysis, item): item for item in first})]
        note("the other comparisons are shown with --all, and all of them with --json")
    for title, table in tables:
        _table_of(screen, title, table)
    for text in sorted({item.comparison.note for _, table in tables for item in table.values()} - {""}):
        note(f"note: {text}", style="yellow")


def _pair(analysis: Analysis, found: GroupComparison) -> str:
    return " − ".join(label(analysis.groups[at], analysis.groups) for at in (found.a, found.b))


def _table_of(screen: Console, title: str, rows: Mapping[str, GroupComparison]) -> None:
    from rich.table import Table

    from outspoken.measure.measures import MEASURES

    columns = ("", "difference", "p (Holm)", "d_z", "prompts", "needed")
    table = Table(*columns, box=None, header_style="dim", padding=(0, 2, 0, 0))
    screen.print(title, style="bold", soft_wrap=True)
    for name, compared in rows.items():
        found, scale = compared.comparison, MEASURES[compared.measure].scale
        difference = _signed(found.difference * scale)
        if found.low is not None and found.high is not None:
            difference += f" [{_signed(found.low * scale)}, {_signed(found.high * scale)}]"
        table.add_row(
            name,
            difference,
            "–" if found.p_holm is None else "<0.001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}",
            "–" if found.effect is None else f"{found.effect:.2f}",
            f"{found.units:,}",
            "–" if found.needed is None else f"{found.needed:,}",
        )
    screen.print(table)
    screen.print()


def _calibration(screen: Console, analysis: Analysis) -> None:
    from rich.table import Table

    if not analysis.calibration:
        return
    columns = ("stated probabilities", "against", "total variation", "ECE", "rank correlation")
    table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for found in analysis.calibration:
        table.add_row(
            label(analysis.groups[found.group], analysis.groups),
            found.source,
            *(cell(estimate) for estimate in (found.total_variation, found.ece, found.rank_correlation)),
        )
    screen.print()
    screen.print(table)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + _number(value)


@contextmanager
def working() -> Iterator[Any]:
    """A progress callback (what, done, total): a bar in a terminal, elsewhere a line now and then."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        told = time.monotonic()

        def update(what: str, done: int, total: int) -> None:
            nonlocal told
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)
            if not screen.is_terminal and time.monotonic() - told > _PLAIN_SECONDS:
                told = time.monotonic()
                note(f"{what} {done:,}/{total:,}")

        yield update
