"""`outspoken sharpen`: what alignment does to a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Debug, Json
from outspoken.cli.theory_output import Out, claim, deliver, read_distribution, right_aligned

__all__ = ["sharpen"]

_TOP, _BAR = 12, 18
_FIGURES = {
    "effective_size": "answers, as equally likely ones",
    "entropy": "entropy, nats",
    "draws_to_new": "more draws until another answer",
    "distinct_10": "different answers in 10 draws",
    "distinct_100": "different answers in 100 draws",
}


@command
def sharpen(
    distribution: Annotated[
        Path,
        typer.Argument(
            metavar="DIST.json",
            help="Counts of answers {answer: count}, or what `outspoken ask --json` prints; - is standard input.",
        ),
    ],
    alpha: Annotated[
        float | None, typer.Option(help="The typicality bias: how much raters favour what is familiar.")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="The KL coefficient: how near alignment stays to the base model.")
    ] = None,
    gamma: Annotated[float | None, typer.Option(help="The power itself, instead of 1 + alpha / beta.")] = None,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what alignment with a typicality bias does to a distribution of answers.

    Example: outspoken sharpen --alpha 0.57 --beta 0.2 counts.json
    """
    from outspoken.theory.sharpening_result import Sharpened

    claim(out, "sharpen", str(distribution))

    result = Sharpened.of(read_distribution(distribution), alpha=alpha, beta=beta, gamma=gamma)
    settings = {"source": str(distribution), "alpha": alpha, "beta": beta, "gamma": gamma}
    deliver(result.to_dict(), settings, out=out, json=json, show=_show)


def _show(document: Mapping[str, Any]) -> None:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    screen = console()
    answers = document["answers"]
    top = max(max(entry["before"], entry["after"]) for entry in answers)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("answer", overflow="fold")
    for side in ("before", "after"):
        table.add_column(side, justify="right", no_wrap=True)
        table.add_column("", width=_BAR)
    for entry in answers[:_TOP]:
        cells: list[Any] = [Text(entry["text"])]
        for side, style in (("before", "dim"), ("after", "cyan")):
            bar = ProgressBar(top, entry[side], width=_BAR, complete_style=style, finished_style=style)
            cells += [f"{entry[side]:.1%}", bar]
        table.add_row(*cells)
    if rest := answers[_TOP:]:
        sums = [f"{sum(entry[side] for entry in rest):.1%}" for side in ("before", "after")]
        table.add_row(f"{len(rest):,} others", sums[0], "", sums[1], "", style="dim")
    screen.print(table)
    figures = right_aligned("", "before", "after")
    for name, title in _FIGURES.items():
        figures.add_row(title, *(_number(document[side][name]) for side in ("before", "after")))
    screen.print()
    screen.print(figures)
    screen.print()
    for sentence in document["sentences"]:
        screen.print(sentence)


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:,.2f}" if value < 1e6 else f"{value:.1e}"
