"""`outspoken levels`: an answer, a list or a distribution asked of a collapsed model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Debug, Json
from outspoken.cli.theory_output import Out, Seed, claim, deliver, interval, read_distribution, right_aligned

__all__ = ["levels"]

_TOP = 10
_K = 5


@command
def levels(
    distribution: Annotated[
        Path,
        typer.Argument(
            metavar="DIST.json",
            help="What the base model gives: counts {answer: count}, or what `outspoken ask --json` prints; - is "
            "standard input.",
        ),
    ],
    gamma: Annotated[float, typer.Option(help="The power that alignment raised it to; 1 is no change.")],
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", help="Answers in a list or a distribution. Default: 5, or all of fewer."),
    ] = None,
    replies: Annotated[int, typer.Option(help="Replies that are simulated at each level.")] = 1000,
    error: Annotated[
        float, typer.Option(help="Error of stated probabilities: the standard deviation of their logarithms.")
    ] = 0.0,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate asking a sharpened model for one answer, for a list, and for a distribution.

    Example: outspoken levels counts.json --gamma 3.85 -k 20
    """
    from outspoken.theory.level_simulation import simulate_levels

    claim(out, "levels", str(distribution))
    base = read_distribution(distribution)
    k = min(_K, len(base)) if k is None else k
    result = simulate_levels(base, gamma=gamma, k=k, replies=replies, error=error, seed=seed)
    settings = {"source": str(distribution), "gamma": gamma, "k": k, "replies": replies}
    deliver(result.to_dict(), {**settings, "error": error, "seed": seed}, out=out, json=json, show=_show)


def _show(document: Mapping[str, Any]) -> None:
    from rich.text import Text

    screen = console()
    arms = right_aligned("asked for", "total variation", "KL, nats", f"different of {document['draws']}")
    for arm in document["arms"]:
        cells = (interval(arm["tv"]), interval(arm["kl"]), interval(arm["distinct"], ".1f"))
        arms.add_row(_asked(arm["level"], document["k"]), *cells)
    screen.print(arms)
    screen.print()
    columns = ("base", "instance", "list", "distribution")
    table = right_aligned("answer", *columns)
    for entry in document["answers"][:_TOP]:
        table.add_row(Text(entry["text"]), *(f"{entry[name]:.1%}" for name in columns))
    if rest := document["answers"][_TOP:]:
        sums = (f"{sum(entry[name] for entry in rest):.1%}" for name in columns)
        table.add_row(f"{len(rest):,} others", *sums, style="dim")
    screen.print(table)
    screen.print()
    for sentence in document["sentences"]:
        screen.print(sentence)


def _asked(level: str, k: int) -> str:
    return {"instance": "one answer", "list": f"a list of {k}", "distribution": f"{k} and their shares"}[level]
