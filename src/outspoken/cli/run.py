"""`outspoken run`: a file of prompts into a file of responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.batch.settings import RunSettings
from outspoken.cli.common import (
    check_engine,
    command,
    console,
    note,
    note_default,
    print_json,
    read_json,
    with_settings,
)
from outspoken.cli.interrupts import signals
from outspoken.cli.options import Address, Debug, Json, ModelName, Offline, Workers
from outspoken.settings import Settings

if TYPE_CHECKING:
    from outspoken.batch.file import BatchJob, FileRun
    from outspoken.batch.ray.driver import RayRun

__all__ = ["run"]

_PARTLY, _INTERRUPTED = 3, 130


@command
@with_settings(RunSettings, Settings)
def run(
    options: dict[str, Any],
    prompts: Annotated[
        str,
        typer.Argument(help="A file of prompts: .jsonl, .csv, .tsv, .parquet, .json, or a line each; - is stdin."),
    ],
    out: Annotated[Path, typer.Option(help="Where the responses go: .parquet or .jsonl, or a folder of Parquet.")],
    model: ModelName = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Where every reply is kept. Default: OUT.ledger.sqlite.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run stopped (or begin, where there is none).")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output. What the ledger holds is not asked again.")
    ] = False,
    prompt_column: Annotated[
        str | None, typer.Option(help="The column of the prompts. Default: prompt, else messages.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="The column of the ids. Default: id, else the number of the row.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="A JSON schema that the value of each response must match.")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help="local: this machine; ray: a Ray cluster, whose machines share the output's folder."),
    ] = "local",
    address: Address = None,
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate requests, tokens and cost; ask nothing, write nothing.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Ask many prompts, keep every reply, and go on where it stopped.

    Example: outspoken run prompts.jsonl --out responses.parquet --n 10 --resume
    """
    from outspoken.batch.file import BatchJob, FileRun
    from outspoken.batch.plan import RunPlan

    plan = RunPlan.make(model, None if schema is None else read_json(schema), options)
    job = BatchJob(prompts, out, plan, ledger, resume, overwrite, prompt_column, id_column)
    if dry_run:
        _estimate(job, as_json=json)
        return
    if model is None:
        note_default()
    check_engine(engine, address, workers)
    import asyncio

    running: FileRun | RayRun
    if engine == "ray":
        from outspoken.batch.ray.driver import RayRun

        running = RayRun(job, address=address, workers=workers)
    else:
        running = FileRun(job)
    try:
        summary, code = asyncio.run(_watched(running))
    finally:
        running.close()
    if json:
        print_json(summary)
    else:
        _show(summary)
    raise typer.Exit(code)


async def _watched(running: FileRun | RayRun) -> tuple[dict[str, Any], int]:
    """The summary and the exit code. The first Ctrl-C ends the run in good order, the second at once."""
    import asyncio

    work = asyncio.ensure_future(running.run())
    presses = 0

    def interrupt() -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            running.stop("interrupted")
            note("finishing what is under way; Ctrl-C again stops at once (nothing that came back is lost)")
        else:
            work.cancel()

    with signals(interrupt):
        from outspoken.cli.progress import show

        showing = asyncio.create_task(show(running))
        try:
            summary = await work
        except asyncio.CancelledError:
            summary = {**running.summary(), "stopped": "interrupted", "out": None}
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    return summary, _INTERRUPTED if presses else _exit_code(summary)


def _exit_code(summary: dict[str, Any]) -> int:
    if not (summary["failures"] or summary["bad_rows"] or summary["stopped"]):
        return 0
    return _PARTLY if summary["responses"] else 1


def _show(summary: dict[str, Any]) -> None:
    """The summary, the failures by cause, and what to do about them."""
    from rich.table import Table

    screen = console()
    done = f"{summary['responses']:,} responses to {summary['prompts']:,} prompts"
    where = summary["out"] or f"the ledger {summary['ledger']}; no output has been written"
    figures = [
        f"{summary['distinct']:,} distinct",
        f"{summary['requests']:,} requests",
        f"{summary['from_ledger']:,} from the ledger",
        f"{summary['tokens']:,} tokens",
        *([] if summary["usd"] is None else [f"${summary['usd']:,.2f}"]),
        f"{summary['seconds']:,.1f} s",
    ]
    screen.print(f"{done} in {where}", soft_wrap=True)
    screen.print(" · ".join(figures), style="dim", soft_wrap=True)
    if summary["unmetered"]:
        note(f"{summary['unmetered']:,} replies came without a token count; estimates stand for them")
    if summary["short"]:
        note(f"{summary['short']:,} prompts have fewer responses than were wanted: raise --max-calls")
    causes = dict(summary["causes"])
    if summary["bad_rows"]:
        causes["bad row in the input"] = summary["bad_rows"]
    if causes:
        table = Table("prompts", "failure", box=None, header_style="bold", padding=(0, 2, 0, 0))
        for cause, count in causes.items():
            table.add_row(f"{count:,}", cause)
        console(stderr=True).print(table)
    for failure in summary["first_failures"]:
        note(f"  {failure['where']}: {failure['message']}")
    if summary["failures_file"]:
        note(f"all of them are in {summary['failures_file']}")
    if summary["stopped"]:
        note(f"stopped: {summary['stopped']}")
    if summary["stopped"] or summary["failures"]:
        note("what was done is kept; go on with the same command and --resume")


def _estimate(job: BatchJob, *, as_json: bool) -> None:
    from outspoken.batch.estimate import estimate

    found = estimate(job)
    if as_json:
        print_json(found)
        return
    screen = console()
    cost = "price unknown (--prices FILE)" if found["usd"] is None else f"${found['usd']:,.2f}"
    screen.print(
        f"{found['prompts']:,} prompts · about {found['requests']:,} requests "
        f"({found['from_ledger']:,} more are in the ledger) · about {found['tokens']:,} tokens · {cost}",
        soft_wrap=True,
    )
    for line in found["assumptions"]:
        screen.print(f"  {line}", style="dim", soft_wrap=True)
    if found["bad_rows"]:
        note(f"{found['bad_rows']:,} rows cannot be asked; the first: {found['first_bad_row']}")
