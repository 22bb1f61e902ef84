"""`outspoken synth`: a spec into records that were generated, cleaned, answered, verified and exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import check_engine, command, console, note, note_default, print_json
from outspoken.cli.interrupts import signals
from outspoken.cli.options import Address, Debug, Json, ModelName, Offline, Workers
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.synth.pipeline import Pipeline

__all__ = ["synth"]

_PARTLY, _INTERRUPTED = 3, 130


@command
def synth(
    spec: Annotated[
        str | None, typer.Argument(help="A file: ./mine.toml, or the name of a shipped one. Without: list them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of it all. Default: ./NAME-synth.")] = None,
    model: ModelName = None,
    count: Annotated[
        int | None, typer.Option(help="How many records to generate, in place of the spec's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The pipeline's seed, in place of the spec's.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="Do this step and those after it anew, by name or number.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Do this step alone, on what the one before it left.")] = None,
    engine: Annotated[
        str, typer.Option(help="local: this machine; ray: a Ray cluster, whose machines share the folder.")
    ] = "local",
    address: Address = None,
    workers: Workers = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the spec, to begin your own with; do nothing.")
    ] = False,
    steps: Annotated[bool, typer.Option("--steps", help="List what each step takes; do nothing.")] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Make diverse synthetic data in steps; the same command goes on where it stopped.

    Example: outspoken synth questions --count 10
    """
    from outspoken.synth import spec as specs

    if steps:
        _list_steps(as_json=json)
        return
    if spec is None:
        _list(as_json=json)
        return
    planned = specs.load(spec)
    if show:
        typer.echo(planned.source, nl=False)
        return
    check_engine(engine, address, workers)
    if first and only:
        raise UsageError("--from and --only exclude each other: say one of them")
    planned = planned.changed(model=model, count=count, seed=seed)
    from outspoken.models import default_name
    from outspoken.synth.pipeline import Pipeline
    from outspoken.synth.steps.base import ExecutionEngine

    if planned.model is None:
        note_default()
        planned = planned.changed(model=default_name())
    folder = out or Path(f"{planned.name}-synth")
    kind = ExecutionEngine("ray" if engine == "ray" else "local", address, workers)
    running = Pipeline(planned, folder, engine=kind)
    try:
        summary, code = _in_loop(running, first, only)
    finally:
        running.close()
    if summary is None:
        note(f"stopped: what was done is kept in {folder}; the same command goes on from there")
    elif json:
        print_json(summary)
    else:
        _show(summary)
    raise typer.Exit(code)


def _in_loop(running: Pipeline, first: str | None, only: str | None) -> tuple[dict[str, Any] | None, int]:
    """The summary and the exit code. The first Ctrl-C while a model is asked ends that in good order, any other
    ends all at once."""
    import asyncio

    async def watched() -> tuple[dict[str, Any] | None, int]:
        work = asyncio.ensure_future(running.run(first=first, only=only, told=_told))
        presses = 0

        def interrupt() -> None:
            nonlocal presses
            presses += 1
            if presses == 1 and running.watch.running is not None:
                running.stop("interrupted")
                note("finishing what is under way; Ctrl-C again stops at once (nothing that came back is lost)")
            else:
                work.cancel()

        with signals(interrupt):
            from outspoken.cli.progress import live

            showing = asyncio.create_task(live(lambda: _line(running)))
            try:
                summary = await work
            except asyncio.CancelledError:
                return None, _INTERRUPTED
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
        return (None, _INTERRUPTED) if presses else (summary, _PARTLY if summary["partly"] else 0)

    return asyncio.run(watched())


def _line(running: Pipeline) -> str:
    watch, at = running.watch, running.at
    where = "" if at is None else f"step {at.number}/{len(running.spec.steps)} {at.name.partition('-')[2]}"
    done = f" {watch.done:,}" + (f"/{watch.total:,}" if watch.total else "") if watch.done or watch.total else ""
    parts = [where, f"{watch.what}{done}"]
    if watch.running is not None:
        meter = watch.running.meter
        parts += [
            f"{meter.requests:,} requests",
            f"{meter.usage.total_tokens:,} tokens",
            *([f"{meter.from_ledger:,} from the ledger"] if meter.from_ledger else []),
            *([f"{meter.failed:,} failed"] if meter.failed else []),
        ]
    return " · ".join(part for part in parts if part)


def _told(done: Mapping[str, Any], now: bool) -> None:
    """A line for each step as it is done."""
    removed = "; ".join(f"{count:,} {reason}" for reason, count in done["removed"].items())
    line = f"{done['step']}: {done['kept']:,} records" + (f" (removed: {removed})" if removed else "")
    note(line + (f" · {done['seconds']:,.1f} s" if now else " · done before"), style=None if now else "dim")
    for warning in done["warnings"]:
        note(f"  {warning}")
    if done["partly"]:
        note(f"  not finished: {done['partly']}")


def _show(summary: dict[str, Any]) -> None:
    screen = console()
    screen.print(f"{summary['records']:,} records in {summary['out']}", soft_wrap=True)
    requests = sum(step["figures"].get("requests", 0) for step in summary["steps"])
    tokens = sum(step["figures"].get("tokens", 0) for step in summary["steps"])
    screen.print(f"{requests:,} requests · {tokens:,} tokens · {summary['seconds']:,.1f} s", style="dim")
    if summary["report"]:
        screen.print(f"report: {summary['report']}", soft_wrap=True)
    if summary["partly"]:
        note("what was done is kept; the same command asks again for what is missing")


def _list(*, as_json: bool) -> None:
    from rich.table import Table

    from outspoken.synth.spec import load, names

    found = [load(name) for name in names()]
    if as_json:
        print_json(
            {"pipelines": [{"name": s.name, "about": s.about, "steps": [p.do for p in s.steps]} for s in found]}
        )
        return
    table = Table("pipeline", "steps", "about", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for each in found:
        table.add_row(each.name, ", ".join(planned.do for planned in each.steps), each.about)
    console().print(table)
    note("outspoken synth NAME --show > mine.toml begins your own", style="dim")


def _list_steps(*, as_json: bool) -> None:
    from dataclasses import fields

    from outspoken.synth.spec import STEPS, options_of

    kinds = {do: options_of(do) for do in STEPS}
    if as_json:
        told = {
            do: {entry.name: entry.metadata["help"] for entry in fields(kind) if entry.name != "asking"}
            for do, kind in kinds.items()
        }
        print_json({"steps": told, "asking": [do for do, kind in kinds.items() if hasattr(kind, "ASKING")]})
        return
    screen = console()
    for do, kind in kinds.items():
        screen.print(do, style="bold")
        for entry in fields(kind):
            if entry.name != "asking":
                default = "" if entry.default in ("", None, ()) else f" (default: {entry.default})"
                screen.print(f"  {entry.name}: {entry.metadata['help']}{default}", soft_wrap=True)
        if hasattr(kind, "ASKING"):
            screen.print("  and the settings of a run: method, temperature, concurrency, … (outspoken run -h)")
    screen.print("mine.py:function", style="bold")
    screen.print(
        "  your own: takes an iterator of records (dicts with id and text), gives records", soft_wrap=True
    )
