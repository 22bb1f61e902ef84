"""The report of an experiment: one HTML file that works offline, and its charts as pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken.experiment import charts, report_tables
from outspoken.experiment.report_text import conclude, samples_per_prompt
from outspoken.experiment.results import ExperimentResults, TaskDistribution
from outspoken.experiment.results_view import ResultsView
from outspoken.io.atomic import write_bytes
from outspoken.report import html
from outspoken.report.charts import Spec, add_chart, alt, spec, title_lines, write_pictures

__all__ = ["render", "write"]

_WIDTH = 560
_SMALL, _SMALL_TITLE = 230, 38
_SQUARE, _LARGE_SQUARE = 240, 400


def write(results: ExperimentResults, folder: Path, *, pictures: bool = True) -> Path:
    """Write `report.html` into `folder`, and with `pictures` each chart as `charts/*.svg` and `charts/*.png`.

    Returns the path of the page. Each file is written completely or not at all. Needs no network. Raises
    `OutputError` if the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(results).encode())
    if pictures:
        write_pictures(_pictures(_view(results)), folder / "charts")
    return page


def render(results: ExperimentResults) -> str:
    """The page as text, with all scripts, styles and charts inside. Texts of models are escaped."""
    view = _view(results)
    specs: dict[str, Spec] = {}
    return html.render(
        resources.files("outspoken.experiment") / "page",
        "report.html",
        specs,
        version=view.results.version,
        view=view,
        results=view.results,
        conclusion=conclude(view),
        by_model=lambda ids: _by_model(view, ids),
        figures=[(add_chart(specs, figure.chart), figure) for figure in charts.figures(view)],
        distributions=[
            (entry, {key: add_chart(specs, charts.answers(view, entry, key)) for key in entry.groups})
            for entry in view.results.distributions
            if entry.groups
        ],
        reliabilities=[(add_chart(specs, figure.chart, _SQUARE), figure) for figure in charts.reliabilities(view)],
        saturations=[(add_chart(specs, figure.chart), figure) for figure in charts.saturations(view)],
        calibration=report_tables.calibration(view),
        calibrated_arms={view.by_id[entry.group].arm for entry in view.results.calibration},
        samples=samples_per_prompt(view),
        tables=[report_tables.figures(view, task, model) for task, model in view.panels],
        comparisons=report_tables.comparisons(view),
        costs=report_tables.costs(view),
        settings=json.dumps(view.results.settings, ensure_ascii=False, indent=2),
    )


def _view(results: ExperimentResults) -> ResultsView:
    return ResultsView(ExperimentResults.from_dict(html.printable(results.to_dict())))


def _by_model(view: ResultsView, ids: Iterable[str]) -> list[tuple[str, list[str]]]:
    models: dict[str, list[str]] = {}
    order = [group.id for task, model in view.panels for group in view.panel(task, model)]
    for key in sorted(ids, key=order.index):
        models.setdefault(view.by_id[key].model, []).append(key)
    return list(models.items())


def _pictures(view: ResultsView) -> Iterator[tuple[str, str, Spec]]:
    for figure in charts.figures(view):
        yield figure.name, figure.title, spec(figure.chart, _WIDTH)
    for entry in view.results.distributions:
        if entry.groups:
            chart = spec(_side_by_side(view, entry), _SMALL)
            del chart["width"]
            yield "answers", f"{entry.task}: {entry.prompt}", chart
    for figure in charts.saturations(view):
        yield figure.name, f"Different answers over the responses, {figure.title}", spec(figure.chart, _WIDTH)
    for figure in charts.reliabilities(view):
        yield figure.name, figure.title, spec(figure.chart, _LARGE_SQUARE, _LARGE_SQUARE)


def _side_by_side(view: ResultsView, entry: TaskDistribution) -> Any:
    groups = [view.by_id[key] for key in entry.groups]
    answers = [
        charts.answers(view, entry, group.id).properties(
            width=_SMALL, title=title_lines(f"{view.label(group)} · {group.model}", _SMALL_TITLE)
        )
        for group in groups
    ]
    return alt.concat(*answers, columns=3)
