"""`outspoken measure`: the measures of recorded responses, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outspoken.cli.common import command, note, print_json
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Embedder, Json, Same, Seed, several
from outspoken.errors import UsageError

__all__ = ["measure"]


@command(quiet=True, offline=True)
def measure(
    responses: Annotated[
        list[Path],
        typer.Argument(
            help="Files of responses: output of `outspoken run`, JSON lines or Parquet with prompt and text, "
            "NoveltyBench's generations, results of the official package, or counts of answers."
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="The shares that answers should have: a JSON file {answer: count}, or a file of questions with "
            "their answers."
        ),
    ] = None,
    embedder: Embedder = "minilm",
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Group by these columns too, besides method and model; repeat the option or use commas."
        ),
    ] = None,
    per_prompt: Annotated[int | None, typer.Option(help="Measure only this many responses per prompt.")] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="Ledger of the run that wrote the responses: adds tokens, dollars and seconds."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Model that judges the quality of each response.")] = None,
    rubric: Annotated[str, typer.Option(help="Judge's criteria: creative, joke, or a .toml file.")] = "creative",
    verdicts: Annotated[
        Path | None, typer.Option(help="Ledger of the judge. Default: RESPONSES.verdicts.sqlite.")
    ] = None,
    same: Same = "exact",
    seed: Seed = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap and of the test.")] = 10_000,
    every: Annotated[bool, typer.Option("--all", help="Show every comparison, and published figures.")] = False,
    json: Json = False,
) -> None:
    """Measure diversity, coverage and divergence of recorded responses, and compare their methods.

    Example: outspoken measure responses.parquet --reference counts.json
    """
    from outspoken.cli.measure_tables import show
    from outspoken.cli.progress import step_progress
    from outspoken.measure.api import ameasure

    if judge is not None and verdicts is None:
        if str(responses[0]) == "-":
            raise UsageError("name a file for the judge's verdicts: --verdicts verdicts.sqlite")
        verdicts = responses[0].with_name(responses[0].name + ".verdicts.sqlite")
    with step_progress() as progress:
        analysis = run_or_exit(
            lambda: ameasure(
                responses,
                reference=reference,
                embedder=None if embedder == "none" else embedder,
                by=several(by, "--by"),
                per_prompt=per_prompt,
                ledger=ledger,
                judge=judge,
                rubric=rubric,
                verdicts=verdicts,
                same=same,
                seed=seed or 0,
                resamples=resamples,
                progress=progress,
            )
        )
    if json:
        print_json(analysis.to_dict())
        for warning in analysis.warnings:
            note(f"note: {warning}")
    else:
        show(analysis, every=every)
