"""`outspoken typicality`: do preferences favour responses that are likely under a base model?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Json, Overwrite, Seed, several
from outspoken.cli.theory_output import Out, claim, deliver
from outspoken.io.text import plural
from outspoken.report.format import NONE, p_value, percent, with_interval
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.cli.screen import Screen

__all__ = ["typicality"]

_LEDGER = "ledger.sqlite"


@command(quiet=True, offline=True)
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
            help="Base model: local/gemma3-270m, transformers/NAME or the URL of a vLLM server; repeat the "
            "option for several, or use commas."
        ),
    ],
    limit: Annotated[int | None, typer.Option(help="Number of pairs, drawn at random. Default: all.")] = None,
    prompt_format: Annotated[
        str | None, typer.Option(help="Text before a response, with {prompt} in it. Default: as published.")
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure the typicality bias alpha of preference data, with its interval, its controls and a verdict.

    The base model scores every response; the same command continues where it stopped. All output goes into --out,
    by default a folder named after PREFS.

    Example: outspoken typicality prefs.jsonl --base local/gemma3-270m --limit 600
    """
    from outspoken.cli.progress import step_progress
    from outspoken.io import atomic
    from outspoken.models import get_model
    from outspoken.theory.preferences import PUBLISHED, read_preferences
    from outspoken.theory.typicality import atypicality_bias

    bases, seed = several(base, "--base"), seed or 0
    data = read_preferences(preferences, prompt_format=prompt_format or PUBLISHED, limit=limit, seed=seed)
    stem = "preferences" if str(preferences) == "-" else preferences.name.split(".")[0]
    folder = out or Path(f"{stem}-typicality")
    claim(folder, "typicality", str(preferences), overwrite=overwrite)
    models = [get_model(name) for name in bases]
    with atomic.output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / _LEDGER
    note(f"{plural(len(data.pairs), 'pair')} ({data.layout}) into {folder}", style="dim")
    if ledger.exists():
        note(f"continuing: the scores in {ledger} are used again", style="dim")
    with step_progress() as progress:
        result = run_or_exit(
            lambda: atypicality_bias(data, models, ledger=ledger, seed=seed, progress=progress),
            stopped=f"stopped: the scores are kept in {ledger}; the same command continues from there",
        )
    settings = {
        "source": str(preferences),
        "base": list(bases),
        "limit": limit,
        "prompt_format": data.prompt_format,
        "seed": seed,
    }
    deliver(result.to_dict(), settings, out=folder, json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    screen = console()
    for model in (document, *document["others"]):
        _show_model(screen, model)
    screen.print(
        "Odds ratio: the factor by which the odds of being preferred change when a response is one standard "
        "deviation likelier under the base model; 1 is no effect. In brackets, 95 % intervals.",
        style="dim",
    )


def _show_model(screen: Screen, model: dict[str, Any]) -> None:
    from outspoken.theory.report_text import ends, estimates

    screen.print(f"{model['base']}: {model['pairs']:,} pairs of {model['prompts']:,} prompts", style="bold")
    table = TextTable("", "alpha", "p", "odds ratio per SD", right=True)
    for estimate in estimates(model):
        odds = NONE if estimate["odds_ratio"] is None else with_interval(*ends(estimate["odds_ratio"]))
        table.add_row(estimate["title"], with_interval(*ends(estimate)), p_value(estimate["p"]), odds)
    screen.print(table)
    value, low, high = map(percent, ends(model["rate"]))
    within = "" if model["rate"]["low"] is None else f" (95 % interval {low} to {high})"
    screen.print(f"The preferred response is the likelier one in {value}{within} of the pairs.")
    verdict = model["verdict"]
    screen.print()
    screen.print(verdict["lead"], style="bold")
    for title, points in (("This may be concluded:", verdict["may"]), ("This may not:", verdict["may_not"])):
        if points:
            screen.print(title)
            for point in points:
                screen.print(f"  · {point}")
    screen.print()
