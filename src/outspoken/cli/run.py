"""`outspoken run`: a file of prompts into a file of responses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.batch.settings import RunSettings
from outspoken.cli.common import (
    PARTLY,
    check_engine,
    command,
    console,
    note,
    note_default,
    print_json,
    show_estimate,
)
from outspoken.cli.interrupts import run_interruptibly
from outspoken.cli.options import Address, DryRun, Engine, Json, ModelName, Overwrite, Workers
from outspoken.io.signals import INTERRUPTED
from outspoken.io.text import plural, read_json
from outspoken.report.format import dollars, duration
from outspoken.settings import Settings
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.batch.file import FileRun, FileRunSummary
    from outspoken.batch.ray.driver import RayRun

__all__ = ["run"]


@command(RunSettings, Settings, quiet=True, offline=True)
def run(
    options: dict[str, Any],
    prompts: Annotated[
        str,
        typer.Argument(
            help="Prompts: a .jsonl, .csv, .tsv, .parquet or .json file, or text, one per line; - is stdin."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The output: .parquet, .jsonl, .csv, or a folder of Parquet files.")],
    model: ModelName = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Keep every reply in this file. Default: OUT.ledger.sqlite.")
    ] = None,
    overwrite: Overwrite = False,
    prompt_column: Annotated[
        str | None, typer.Option(help="Column of prompts. Default: prompt, else messages.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of ids. Default: id, else the row number.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A JSON schema for the value of each response.")] = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Ask many prompts, and keep every reply. The same command continues where it stopped.

    A stored reply is never asked for again; replies that were under way when a run was killed are.

    Example: outspoken run prompts.jsonl --out responses.parquet --n 10
    """
    from outspoken.batch.file import BatchJob, FileRun
    from outspoken.batch.plan import RunPlan

    plan = RunPlan.make(model, None if schema is None else read_json(schema, "schema"), options)
    job = BatchJob(prompts, out, plan, ledger, overwrite, prompt_column, id_column)
    if dry_run:
        from outspoken.batch.estimate import estimate

        expected = estimate(job)
        units = plural(expected.prompts, "prompt")
        show_estimate(expected, units, "price unknown (--prices FILE)", as_json=json)
        if expected.bad_rows:
            note(f"{plural(expected.bad_rows, 'row')} cannot be used; the first: {expected.first_bad_row}")
        return
    if model is None:
        note_default()
    check_engine(engine, address, workers)
    running: FileRun | RayRun
    if engine == "ray":
        from outspoken.batch.ray.driver import RayRun

        running = RayRun(job, address=address, workers=workers, note=note)
    else:
        running = FileRun(job, note=note)
    try:
        summary, interrupted = _run(running)
    finally:
        running.close()
    if json:
        print_json(summary.to_dict())
    else:
        _show(summary)
    raise typer.Exit(INTERRUPTED if interrupted else _exit_code(summary))


def _run(running: FileRun | RayRun) -> tuple[FileRunSummary, bool]:
    """The summary, and whether the run was interrupted."""
    from outspoken.cli.progress import show

    def stop() -> bool:
        running.stop("interrupted")
        return True

    summary, interrupted = run_interruptibly(running.run, stop, lambda: show(running))
    return summary or replace(running.summary(), stopped="interrupted", out=None), interrupted


def _exit_code(summary: FileRunSummary) -> int:
    if not (summary.failures or summary.bad_rows or summary.stopped):
        return 0
    return PARTLY if summary.responses else 1


def _show(summary: FileRunSummary) -> None:
    """The summary, the failures by cause, and what to do about them."""
    screen = console()
    responses = f"{plural(summary.responses, 'response')} to {plural(summary.prompts, 'prompt')}"
    where = summary.out or f"the ledger {summary.ledger}; no output has been written"
    figures = [
        f"{summary.distinct:,} distinct",
        plural(summary.requests, "request"),
        *([plural(summary.attempts_failed, "failed attempt")] if summary.attempts_failed else []),
        f"{summary.from_ledger:,} from the ledger",
        plural(summary.tokens, "token"),
        *([] if summary.usd is None else [dollars(summary.usd)]),
        duration(summary.seconds),
    ]
    screen.print(f"{responses} in {where}", soft_wrap=True)
    screen.print(" · ".join(figures), style="dim", soft_wrap=True)
    if summary.unmetered:
        note(f"{plural(summary.unmetered, 'reply')} had no token count: tokens are estimated")
    if summary.superseded:
        note(f"{plural(summary.superseded, 'reply')} not used: another run had stored one to the same request")
    if summary.short:
        short = plural(summary.short, "prompt has", "prompts have")
        note(f"{short} fewer responses than wanted: raise --max-calls")
    causes = dict(summary.causes)
    if summary.bad_rows:
        causes["bad row in the input"] = summary.bad_rows
    if causes:
        table = TextTable("prompts", "failure")
        for cause, count in causes.items():
            table.add_row(f"{count:,}", cause)
        console(stderr=True).print(table)
    for failure in summary.first_failures:
        note(f"  {failure.where}: {failure.message}", error=True)
    if summary.failures_file:
        note(f"all failures are in {summary.failures_file}")
    if summary.stopped:
        note(f"stopped: {summary.stopped}", error=True)
    if summary.stopped or summary.failures:
        note("finished work is kept; the same command continues")
