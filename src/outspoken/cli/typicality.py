"""`outspoken typicality`: do these preferences reward what a base model finds likely?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note
from outspoken.cli.options import Debug, Json, Offline
from outspoken.cli.theory_output import Out, Seed, claim, deliver, interval, right_aligned

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["typicality"]

_LEDGER = "ledger.sqlite"


@command
def typicality(
    preferences: Annotated[
        Path,
        typer.Argument(
            metavar="PREFS",
            help="Which of two responses was preferred: prompt, chosen, rejected; or prompt, response, ratings. "
            "HelpSteer, UltraFeedback, hh-rlhf and TL;DR are recognised.",
        ),
    ],
    base: Annotated[
        list[str],
        typer.Option(
            "--base",
            help="A base model, such as local/gemma3-270m, transformers/NAME or the URL of a vLLM server; may be "
            "given several times.",
        ),
    ],
    limit: Annotated[int | None, typer.Option(help="Take so many pairs, drawn at random.")] = None,
    text_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="What stands before a response, with {prompt} in it. Default: as published."
        ),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Measure the typicality bias alpha of preference data, with its interval, its controls and a verdict.

    Every response is scored by the base model; the same command goes on where it stopped. Everything goes into
    --out, a folder named after PREFS where none is given.

    Example: outspoken typicality prefs.jsonl --base local/gemma3-270m --limit 600
    """
    from outspoken.cli.measure_tables import working
    from outspoken.io import atomic
    from outspoken.models import get_model
    from outspoken.theory.api import typicality_bias
    from outspoken.theory.preferences import PUBLISHED, read_preferences

    data = read_preferences(preferences, text_format=text_format or PUBLISHED, limit=limit, seed=seed)
    stem = "preferences" if str(preferences) == "-" else preferences.name.split(".")[0]
    folder = out or Path(f"{stem}-typicality")
    claim(folder, "typicality", str(preferences))
    models = [get_model(name) for name in base]
    with atomic.output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    note(f"{len(data.pairs):,} pairs ({data.layout}) into {folder}", style="dim")
    try:
        with working() as progress:
            result = typicality_bias(data, models, ledger=folder / _LEDGER, seed=seed, progress=progress)
    except KeyboardInterrupt:
        note(f"stopped: what was scored is kept in {folder / _LEDGER}; the same command goes on from there")
        raise typer.Exit(130) from None
    settings = {
        "source": str(preferences),
        "base": base,
        "limit": limit,
        "format": data.format,
        "seed": seed,
    }
    deliver(result.to_dict(), settings, out=folder, json=json, show=_show)


def _show(document: Mapping[str, Any]) -> None:
    screen = console()
    for model in (document, *document["others"]):
        _show_model(screen, model)
    screen.print(
        "Odds ratio: by how much the odds of being preferred are multiplied when a response is one standard "
        "deviation likelier to the base model; 1 is no effect. In brackets, 95 % intervals.",
        style="dim",
    )


def _show_model(screen: Console, model: Mapping[str, Any]) -> None:
    screen.print(f"{model['base']}: {model['pairs']:,} pairs of {model['prompts']:,} prompts", style="bold")
    table = right_aligned("", "alpha", "p", "odds ratio per SD")
    rows = [("as it stands", {**model["alpha"], "odds_ratio": model["odds_ratio"]})]
    rows += [(control["title"], control) for control in model["controls"].values()]
    for title, figures in rows:
        odds = figures["odds_ratio"]
        known = odds is not None and odds["value"] is not None
        table.add_row(title, interval(figures, ".3g"), _p(figures["p"]), interval(odds) if known else "–")
    screen.print(table)
    rate = {name: 100 * value if value is not None else None for name, value in model["rate"].items()}
    screen.print(f"The preferred response is the likelier one in {interval(rate, '.1f')} % of the pairs.")
    verdict = model["verdict"]
    screen.print()
    screen.print(verdict["lead"], style="bold")
    for title, told in (("This may be concluded:", verdict["may"]), ("This may not:", verdict["may_not"])):
        if told:
            screen.print(title)
            for sentence in told:
                screen.print(f"  · {sentence}")
    screen.print()


def _p(value: float | None) -> str:
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
