"""`outspoken measure`: what stands in files of responses, in figures with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outspoken.cli.common import command, note, print_json
from outspoken.cli.options import Debug, Json, Offline
from outspoken.errors import UsageError

__all__ = ["measure"]


@command
def measure(
    responses: Annotated[
        list[Path],
        typer.Argument(
            help="Files of responses: what `outspoken run` wrote, JSON lines or Parquet with prompt and text, "
            "NoveltyBench's generations, the official package's results, or counts of answers."
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="What the answers ought to be: a JSON file {answer: count}, or of questions."),
    ] = None,
    embedder: Annotated[
        str,
        typer.Option(
            help="What embeds the texts: minilm, wordllama, sentence-transformers/NAME, local//FILE.gguf, "
            "openai/NAME, the URL of a server; or none."
        ),
    ] = "minilm",
    by: Annotated[
        list[str] | None, typer.Option(help="Group by this column too, beside method and model. Repeatable.")
    ] = None,
    per_prompt: Annotated[
        int | None, typer.Option(help="Measure the first so many responses of each prompt.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger of the run: adds tokens, money and seconds.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="A model that judges the quality of each response; it is asked about each.")
    ] = None,
    rubric: Annotated[
        str, typer.Option(help="What it judges by: creative (stories and poems), joke, or a .toml file.")
    ] = "creative",
    verdicts: Annotated[
        Path | None, typer.Option(help="The ledger of the verdicts. Default: RESPONSES.verdicts.sqlite.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling, and of the judge's order.")] = 0,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap and of the test.")] = 10_000,
    every: Annotated[bool, typer.Option("--all", help="Show every comparison, and published figures.")] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Measure diversity, coverage and divergence of recorded responses, and compare the methods in them.

    Example: outspoken measure responses.parquet --reference counts.json
    """
    from outspoken.cli.measure_tables import show, working
    from outspoken.measure import measure as measured

    if judge is not None and verdicts is None:
        if str(responses[0]) == "-":
            raise UsageError("name a file for the judge's verdicts: --verdicts verdicts.sqlite")
        verdicts = responses[0].with_name(responses[0].name + ".verdicts.sqlite")
    with working() as progress:
        analysis = measured(
            responses,
            reference=reference,
            embedder=None if embedder == "none" else embedder,
            by=tuple(by or ()),
            per_prompt=per_prompt,
            ledger=ledger,
            judge=judge,
            rubric=rubric,
            verdicts=verdicts,
            seed=seed,
            resamples=resamples,
            progress=progress,
        )
    if json:
        print_json(analysis.to_dict())
        for warning in analysis.warnings:
            note(f"note: {warning}")
    else:
        show(analysis, every=every)
