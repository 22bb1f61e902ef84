"""The loss of a training over its steps, as a page and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.io.atomic import write_bytes
from outspoken.report import charts, html
from outspoken.report.format import number
from outspoken.report.theme import theme

__all__ = ["write"]

_MOST = 2000


def write(document: Mapping[str, Any], folder: Path) -> None:
    """Write `loss.html`, which works offline, and `loss.png`. `document` is that of `training.json`, with
    losses."""
    figures = _figures(document)
    write_bytes(folder / "loss.html", render(document).encode())
    convert = need("vl_convert", "drawing charts", "train")
    made = {**charts.spec(figures[0].chart, 640), "title": figures[0].title}
    write_bytes(folder / "loss.png", convert.vegalite_to_png(made, scale=2, config=theme()))


def render(document: Mapping[str, Any]) -> str:
    """The page. What the data say is text in it and nothing else."""
    document = html.printable(document)
    specs: dict[str, Any] = {}
    losses = document["losses"]
    kept = {
        name: document[name] for name in ("settings", "data", "base", "versions", "device", "seconds", "tokens")
    }
    return html.render(
        resources.files("outspoken.training") / "page",
        "loss.html",
        specs,
        document=document,
        version=document["version"],
        title="Training loss",
        about=f"{document['base']['name']} on {document['data']['examples']:,} examples, {len(losses):,} steps.",
        lead=f"The loss went from {number(losses[0]['loss'])} to {number(_smoothed(losses)[-1])} nats a token.",
        figures=[(charts.add_chart(specs, figure.chart), figure) for figure in _figures(document)],
        settings=json.dumps(kept, ensure_ascii=False, indent=2),
    )


def _figures(document: Mapping[str, Any]) -> list[charts.Figure]:
    alt = charts.altair()
    losses = document["losses"]
    rows = [
        {"step": row["step"], "loss": row["loss"], "smooth": smooth}
        for row, smooth in zip(losses, _smoothed(losses), strict=True)
    ][:: max(1, len(losses) // _MOST)]
    x = alt.X(
        "step:Q", title="step", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1, format=",d")
    )
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".4f")]
    each = (
        charts.chart_of(rows).mark_circle(size=14, opacity=0.35, style="quiet").encode(x=x, y=y, tooltip=tooltip)
    )
    line = charts.chart_of(rows).mark_line(style="accent").encode(x=x, y=alt.Y("smooth:Q"))
    what = (
        "The loss of direct preference optimisation."
        if document["settings"]["method"] == "dpo"
        else "The mean negative log-likelihood of the answers' tokens, in nats."
    )
    chart = charts.layer_charts([each, line], f"Training loss over {len(losses)} steps", 320)
    caption = f"{what} Points are single steps, the line their exponential mean (weight {_weight(losses):.2g})."
    return [charts.Figure("loss", "Training loss", caption, chart)]


def _weight(losses: Sequence[Mapping[str, Any]]) -> float:
    """What one step counts in the exponential mean: more where there are few."""
    return max(0.05, min(1.0, 3 / len(losses)))


def _smoothed(losses: Sequence[Mapping[str, Any]]) -> list[float]:
    """The exponential mean, from the first loss on."""
    found: list[float] = []
    weight = _weight(losses)
    for row in losses:
        found.append(row["loss"] if not found else (1 - weight) * found[-1] + weight * row["loss"])
    return found
