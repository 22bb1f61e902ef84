"""`outspoken sharpen`: the effect of alignment on a distribution."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Json, Overwrite
from outspoken.cli.theory_output import DistributionFile, Out, claim, deliver, read_distribution
from outspoken.io.text import plural
from outspoken.report.format import number, percent
from outspoken.terminal import ShareBar, TextTable

__all__ = ["sharpen"]

_TOP, _BAR = 12, 18
_FIGURES = {
    "effective_size": "effective size, answers",
    "entropy": "entropy, nats",
    "draws_to_new": "more draws until another answer",
    "distinct_10": "different answers in 10 draws",
    "distinct_100": "different answers in 100 draws",
}


@command(quiet=True)
def sharpen(
    distribution: DistributionFile,
    alpha: Annotated[
        float | None, typer.Option(help="Typicality bias: how much raters favour familiar answers.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="KL coefficient: keeps alignment close to the base.")] = None,
    gamma: Annotated[float | None, typer.Option(help="The power itself, instead of 1 + alpha / beta.")] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show the effect of alignment with a typicality bias on a distribution of answers.

    Example: outspoken sharpen --alpha 0.57 --beta 0.2 counts.json
    """
    from outspoken.theory.sharpening import Sharpened

    claim(out, "sharpen", str(distribution), overwrite=overwrite)
    result = Sharpened.of(read_distribution(distribution), alpha=alpha, beta=beta, gamma=gamma)
    settings = {"source": str(distribution), "alpha": alpha, "beta": beta, "gamma": gamma}
    deliver(result.to_dict(), settings, out=out, json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    screen = console()
    answers = document["answers"]
    top = max(max(entry["before"], entry["after"]) for entry in answers)

    def bar(share: float, style: str) -> ShareBar:
        return ShareBar(share / top, style, _BAR)

    table = TextTable("answer")
    for side in ("before", "after"):
        table.add_column(side, right=True)
        table.add_column()
    for entry in answers[:_TOP]:
        before, after = entry["before"], entry["after"]
        table.add_row(entry["text"], percent(before), bar(before, "dim"), percent(after), bar(after, "cyan"))
    if others := answers[_TOP:]:
        before, after = sum(entry["before"] for entry in others), sum(entry["after"] for entry in others)
        table.add_row(plural(len(others), "other"), percent(before), "", percent(after), "", style="dim")
    screen.print(table)
    screen.print()
    figures = TextTable("", "before", "after", right=True)
    for name, title in _FIGURES.items():
        values = (document[side][name] for side in ("before", "after"))
        figures.add_row(title, *("never" if value is None else number(value) for value in values))
    screen.print(figures)
