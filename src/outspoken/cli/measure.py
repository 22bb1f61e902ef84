"""`outspoken measure`: the measures of recorded responses, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outspoken.cli.common import command, note, print_json
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Embedder, Format, Json, Same, Seed, read_limits, several
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.measure.gate import GateResult

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
    law: Annotated[
        str | None,
        typer.Option(
            help="Known law that the responses should follow: uniform:1:6, normal:100:15, binomial:10:0.3, "
            "poisson:4, exponential:2, or a JSON file of counts."
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
    score: Annotated[
        str | None,
        typer.Option(
            help="Model that scores the responses, as `outspoken score` does: compares stated probabilities with "
            "its log-probabilities."
        ),
    ] = None,
    seed: Seed = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap and of the test.")] = 10_000,
    every: Annotated[bool, typer.Option("--all", help="Show every comparison, and published figures.")] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            help="MEASURE=LIMIT: exit with 1 if a figure lies below the limit with its whole interval; repeat the "
            "option or use commas."
        ),
    ] = None,
    fail_over: Annotated[
        list[str] | None, typer.Option(help="MEASURE=LIMIT: the same for figures above the limit.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --fail-under and --fail-over: if any of the interval does.")
    ] = False,
    form: Format = None,
    json: Json = False,
) -> None:
    """Measure diversity, coverage and divergence of recorded responses, and compare their methods.

    Example: outspoken measure responses.parquet --reference counts.json
    """
    from outspoken.cli.measure_tables import check_format, show
    from outspoken.cli.progress import step_progress
    from outspoken.measure.api import ameasure
    from outspoken.measure.gate import check, limits

    wanted = limits(read_limits(fail_under, "--fail-under"), read_limits(fail_over, "--fail-over"))
    if strict and not wanted:
        raise UsageError("--strict goes with --fail-under and --fail-over: name a limit")
    check_format(form, json=json)
    if judge is not None and verdicts is None:
        if str(responses[0]) == "-":
            raise UsageError("name a file for the judge's verdicts: --verdicts verdicts.sqlite")
        verdicts = responses[0].with_name(responses[0].name + ".verdicts.sqlite")
    with step_progress() as progress:
        analysis = run_or_exit(
            lambda: ameasure(
                responses,
                reference=reference,
                law=law,
                embedder=None if embedder == "none" else embedder,
                by=several(by, "--by"),
                per_prompt=per_prompt,
                ledger=ledger,
                judge=judge,
                rubric=rubric,
                verdicts=verdicts,
                same=same,
                score=score,
                seed=seed or 0,
                resamples=resamples,
                progress=progress,
            )
        )
    gate = check(analysis, wanted, strict=strict) if wanted else None
    if json:
        print_json({**analysis.to_dict(), **({} if gate is None else {"gate": gate.to_dict()})})
        for warning in analysis.warnings:
            note(f"note: {warning}")
    else:
        show(analysis, every=every, form=form)
    if gate is not None:
        _report(gate)


def _report(gate: GateResult) -> None:
    """A line for each failure; exits with 1 if there is one, and with 2 if something could not be checked."""
    for line in gate.lines:
        note(line, style="red", error=True)
    if not gate.passed:
        raise typer.Exit(1 if gate.failures else 2)
