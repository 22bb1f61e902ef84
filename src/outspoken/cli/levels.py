"""`outspoken levels`: a sharpened model asked for one answer, for a list and for a distribution."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Json, Overwrite, Seed
from outspoken.cli.theory_output import DistributionFile, Out, claim, deliver, read_distribution
from outspoken.io.text import plural
from outspoken.report.format import percent, with_interval
from outspoken.terminal import TextTable

__all__ = ["levels"]

_TOP = 10
_K = 5
_LEVELS = ("instance", "list", "distribution")


@command(quiet=True)
def levels(
    distribution: DistributionFile,
    gamma: Annotated[float, typer.Option(help="The power that alignment raised the base to; 1 is no change.")],
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", help="Answers in a list or a distribution. Default: 5, or all if fewer."),
    ] = None,
    replies: Annotated[int, typer.Option(help="Simulated replies at each level.")] = 1000,
    error: Annotated[
        float, typer.Option(help="Error of stated probabilities: the standard deviation of their logarithms.")
    ] = 0.0,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Simulate asking a sharpened model for one answer, for a list, and for a distribution.

    Example: outspoken levels counts.json --gamma 3.85 -k 20
    """
    from outspoken.theory.level_simulation import simulate_levels

    claim(out, "levels", str(distribution), overwrite=overwrite)
    base = read_distribution(distribution)
    k, seed = min(_K, len(base)) if k is None else k, seed or 0
    result = simulate_levels(base, gamma=gamma, k=k, replies=replies, error=error, seed=seed)
    settings = {"source": str(distribution), "gamma": gamma, "k": k, "replies": replies}
    deliver(result.to_dict(), {**settings, "error": error, "seed": seed}, out=out, json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    from outspoken.theory.report_text import ends

    screen = console()
    k, draws = document["k"], document["draws"]
    titles = dict(zip(_LEVELS, ("one answer", f"a list of {k}", f"{k} and their shares"), strict=True))
    arms = TextTable("asked for", "total variation", "KL, nats", f"different of {draws}", right=True)
    for arm in document["arms"]:
        figures = (arm["tv"], arm["kl"], arm["distinct"])
        arms.add_row(titles[arm["level"]], *(with_interval(*ends(figure)) for figure in figures))
    screen.print(arms)
    screen.print()
    table = TextTable("answer", "base", *_LEVELS, right=True)
    for entry in document["answers"][:_TOP]:
        table.add_row(entry["text"], *map(percent, _shares(entry)))
    if others := document["answers"][_TOP:]:
        sums = map(sum, zip(*map(_shares, others), strict=True))
        table.add_row(plural(len(others), "other"), *map(percent, sums), style="dim")
    screen.print(table)


def _shares(entry: dict[str, Any]) -> tuple[float, ...]:
    return tuple(entry[name] for name in ("base", *_LEVELS))
