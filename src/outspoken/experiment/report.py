"""The report of an experiment: one HTML file that works offline, and its charts as pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken.experiment import charts, report_tables
from outspoken.experiment.report_text import conclude, interval, samples_per_prompt, signed
from outspoken.experiment.results_view import ResultsView
from outspoken.io.atomic import write_bytes
from outspoken.report import charts as drawing
from outspoken.report import html
from outspoken.report.charts import add_chart

__all__ = ["render", "write"]

_WIDTH = 560
_SMALL = 230
_SQUARE, _LARGE_SQUARE = 240, 400


def write(results: Mapping[str, Any], folder: Path, *, pictures: bool = True) -> Path:
    """Write `report.html` into `folder`, and with `pictures` each chart as `charts/*.svg` and `charts/*.png`.

    Returns the path of the page. Each file is written whole or not at all. Needs no network. Raises `UsageError`
    where `results` is not a results document, `OutputError` where the folder cannot be written.
    """
    page = folder / "report.html"
    write_bytes(page, render(results).encode())
    if pictures:
        drawing.write_pictures(_drawn(html.printable(results)), folder / "charts")
    return page


def render(results: Mapping[str, Any]) -> str:
    """The page, with every script, style and chart inside. What models wrote is text in it and nothing else."""
    results = html.printable(results)
    view = ResultsView(results)
    specs: dict[str, Any] = {}
    return html.render(
        resources.files("outspoken.experiment") / "page",
        "report.html",
        specs,
        version=results["version"],
        view=view,
        results=results,
        answer=conclude(view),
        signed=signed,
        interval=interval,
        by_model=lambda keys: _by_model(view, keys),
        figures=[(add_chart(specs, figure.chart), figure) for figure in charts.figures(results)],
        distributions=_distributions(view, specs),
        reliabilities=[
            (add_chart(specs, figure.chart, _SQUARE), figure) for figure in charts.reliabilities(results)
        ],
        calibration=report_tables.calibration(view),
        stating={view.by_id[entry["group"]]["arm"] for entry in results.get("calibration") or ()},
        samples=samples_per_prompt(view),
        tables=[report_tables.figures(view, task, model) for task, model in view.panels],
        comparisons=report_tables.comparisons(view),
        costs=report_tables.costs(view),
        settings=json.dumps(results.get("settings", {}), ensure_ascii=False, indent=2),
    )


def _distributions(view: ResultsView, specs: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "task": entry["task"],
            "prompt": entry["prompt"],
            "reference": bool(entry["reference"]),
            "charts": {key: add_chart(specs, charts.answers(view.results, entry, key)) for key in entry["groups"]},
        }
        for entry in view.results.get("distributions", ())
        if entry["groups"]
    ]


def _by_model(view: ResultsView, keys: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The ids of groups, those of one model together, in the order of the results."""
    models: dict[str, list[str]] = {}
    order = [group["id"] for task, model in view.panels for group in view.panel(task, model)]
    for key in sorted(keys, key=order.index):
        models.setdefault(view.by_id[key]["model"], []).append(key)
    return list(models.items())


def _drawn(results: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The charts that become pictures: a name, a title and Vega-Lite."""
    view = ResultsView(results)
    for figure in charts.figures(results):
        yield figure.name, figure.title, drawing.spec(figure.chart, _WIDTH)
    for entry in results.get("distributions", ()):
        if entry["groups"]:
            spec = drawing.spec(_side_by_side(view, entry), _SMALL)
            del spec["width"]
            yield "answers", f"{entry['task']}: {entry['prompt']}"[:80], spec
    for figure in charts.reliabilities(results):
        yield figure.name, figure.title, drawing.spec(figure.chart, _LARGE_SQUARE, _LARGE_SQUARE)


def _side_by_side(view: ResultsView, entry: Mapping[str, Any]) -> Any:
    made = [
        charts.answers(view.results, entry, key).properties(
            width=_SMALL, title=f"{view.label(view.by_id[key])} · {view.by_id[key]['model']}"
        )
        for key in entry["groups"]
    ]
    return drawing.altair().concat(*made, columns=3)
