"""The loss of a training at each step, as a page and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from outspoken._imports import need
from outspoken.io.atomic import write_bytes
from outspoken.report import charts, html
from outspoken.report.charts import theme
from outspoken.report.format import number
from outspoken.training.record import StepLoss, TrainingRecord

__all__ = ["render", "write"]

_MOST = 2000


def write(record: TrainingRecord, folder: Path) -> None:
    """Write `loss.html`, which works offline, and `loss.png`, from a record with losses."""
    figure = _figure(record)
    write_bytes(folder / "loss.html", render(record).encode())
    convert = need("vl_convert", "drawing charts", "train")
    spec = {**charts.spec(figure.chart, 640), "title": figure.title}
    write_bytes(folder / "loss.png", convert.vegalite_to_png(spec, scale=2, config=theme()))


def render(record: TrainingRecord) -> str:
    """The page. Texts from the data are escaped."""
    specs: dict[str, charts.Spec] = {}
    losses, figure = record.losses, _figure(record)
    document = html.printable(record.to_dict())
    shown = ("settings", "data", "base", "versions", "device", "seconds", "tokens")
    name = html.printable(record.base.name)
    return html.render(
        resources.files("outspoken.training") / "page",
        "loss.html",
        specs,
        source=html.printable(record.data.source),
        version=record.version,
        title="Training loss",
        about=f"{name} on {record.data.examples:,} examples, {len(losses):,} steps.",
        lead=f"The loss went from {number(losses[0].loss)} to {number(_smoothed(losses)[-1])} nats a token.",
        figures=[(charts.add_chart(specs, figure.chart), figure)],
        settings=json.dumps({key: document[key] for key in shown}, ensure_ascii=False, indent=2),
    )


def _figure(record: TrainingRecord) -> charts.Figure:
    alt = charts.alt
    losses = record.losses
    rows = [
        {"step": step.step, "loss": step.loss, "smooth": smooth}
        for step, smooth in zip(losses, _smoothed(losses), strict=True)
    ][:: max(1, len(losses) // _MOST)]
    x = alt.X(
        "step:Q", title="step", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1, format=",d")
    )
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".4f")]
    points = charts.chart_of(rows).mark_circle(size=14, opacity=0.35, style="quiet")
    line = charts.chart_of(rows).mark_line(style="accent").encode(x=x, y=alt.Y("smooth:Q"))
    layers = [points.encode(x=x, y=y, tooltip=tooltip), line]
    chart = charts.layer_charts(layers, f"Training loss over {len(losses)} steps", 320)
    what = (
        "The loss of direct preference optimisation."
        if record.settings["objective"] == "dpo"
        else "The mean negative log-likelihood of the answers' tokens, in nats."
    )
    caption = (
        f"{what} Points are single steps, the line their exponential mean (weight {number(_weight(losses))})."
    )
    return charts.Figure("loss", "Training loss", caption, chart)


def _weight(losses: Sequence[StepLoss]) -> float:
    """The weight of one step in the exponential mean: larger if there are few steps."""
    return max(0.05, min(1.0, 3 / len(losses)))


def _smoothed(losses: Sequence[StepLoss]) -> list[float]:
    """The exponential mean, starting from the first loss."""
    weight, mean = _weight(losses), losses[0].loss
    means = []
    for step in losses:
        mean = (1 - weight) * mean + weight * step.loss
        means.append(mean)
    return means
