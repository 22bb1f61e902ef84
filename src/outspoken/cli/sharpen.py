"""`outspoken sharpen`: what alignment does to a distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Debug, Json, Quiet
from outspoken.cli.theory_output import Out, claim, deliver, read_distribution, right_aligned
from outspoken.report.format import number, percent

__all__ = ["sharpen"]

_TOP, _BAR = 12, 18


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
        float | None, typer.Option(help="The KL coefficient: how close alignment stays to the base model.")
    ] = None,
    gamma: Annotated[float | None, typer.Option(help="The power itself, instead of 1 + alpha / beta.")] = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what alignment with a typicality bias does to a distribution of answers.

    Example: outspoken sharpen --alpha 0.57 --beta 0.2 counts.json
    """
    from outspoken.theory.sharpening import Sharpened

    claim(out, "sharpen", str(distribution))
    result = Sharpened.of(read_distribution(distribution), alpha=alpha, beta=beta, gamma=gamma)
    settings = {"source": str(distribution), "alpha": alpha, "beta": beta, "gamma": gamma}
    deliver(result.to_dict(), settings, out=out, json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    screen = console()
    answers = document["answers"]
    top = max(max(entry["before"], entry["after"]) for entry in answers)

    def bar(share: float, style: str) -> ProgressBar:
        return ProgressBar(top, share, width=_BAR, complete_style=style, finished_style=style)

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("answer", overflow="fold")
    for side in ("before", "after"):
        table.add_column(side, justify="right", no_wrap=True)
        table.add_column("", width=_BAR)
    for entry in answers[:_TOP]:
        before, after = entry["before"], entry["after"]
        table.add_row(Text(entry["text"]), percent(before), bar(before, "dim"), percent(after), bar(after, "cyan"))
    if others := answers[_TOP:]:
        before, after = sum(entry["before"] for entry in others), sum(entry["after"] for entry in others)
        table.add_row(f"{len(others):,} others", percent(before), "", percent(after), "", style="dim")
    screen.print(table)
    screen.print()
    figures = right_aligned("", "before", "after")
    for row in zip(_figures(document["before"]), _figures(document["after"]), strict=True):
        (title, before_text), (_, after_text) = row
        figures.add_row(title, before_text, after_text)
    screen.print(figures)


def _figures(variety: dict[str, Any]) -> list[tuple[str, str]]:
    figures = {
        "effective size, answers": variety["effective_size"],
        "entropy, nats": variety["entropy"],
        "more draws until another answer": variety["draws_to_new"],
        "different answers in 10 draws": variety["distinct_10"],
        "different answers in 100 draws": variety["distinct_100"],
    }
    return [(title, "never" if value is None else number(value)) for title, value in figures.items()]
