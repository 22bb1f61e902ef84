"""`outspoken synth`: carry out a spec that generates, cleans, answers, verifies and exports records."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import (
    PARTLY,
    check_engine,
    command,
    console,
    note,
    note_default,
    print_json,
    print_source,
)
from outspoken.cli.interrupts import run_interruptibly
from outspoken.cli.options import Address, Engine, Json, ModelName, Overwrite, Seed, Workers
from outspoken.errors import UsageError
from outspoken.io.signals import INTERRUPTED
from outspoken.report.format import count as number_of
from outspoken.report.format import duration
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.synth.manifest import StepManifest
    from outspoken.synth.pipeline import Pipeline, PipelineSummary

__all__ = ["synth"]


@command(quiet=True, offline=True)
def synth(
    spec: Annotated[str | None, typer.Argument(help="A spec by name, or ./mine.toml. Without: list them.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for all files. Default: ./NAME-synth.")] = None,
    model: ModelName = None,
    count: Annotated[int | None, typer.Option(help="Records to generate, instead of the spec's number.")] = None,
    seed: Seed = None,
    first: Annotated[str | None, typer.Option("--from", help="Repeat from this step, by name or number.")] = None,
    only: Annotated[str | None, typer.Option(help="Do only this step, on the previous step's records.")] = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    show: Annotated[bool, typer.Option("--show", help="Only print the spec, as a start for your own.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Only list the options of each step.")] = False,
    json: Json = False,
) -> None:
    """Generate diverse synthetic data in steps; the same command continues where it stopped.

    Example: outspoken synth questions --count 10
    """
    if steps:
        _list_steps(as_json=json)
        return
    if spec is None:
        _list_specs(as_json=json)
        return
    from outspoken.synth.spec import load

    loaded = load(spec)
    if show:
        print_source(loaded.source)
        return
    check_engine(engine, address, workers)
    if sum(map(bool, (first, only, overwrite))) > 1:
        raise UsageError("--from, --only and --overwrite exclude each other: give one of them")
    planned = loaded.changed(model=model, count=count, seed=seed)
    from outspoken.models import default_name
    from outspoken.synth.pipeline import Pipeline
    from outspoken.synth.steps.base import ExecutionEngine

    if planned.model is None:
        note_default()
        planned = planned.changed(model=default_name())
    folder = out or Path(f"{planned.name}-synth")
    where = ExecutionEngine("ray" if engine == "ray" else "local", address, workers)
    pipeline = Pipeline(planned, folder, engine=where)
    try:
        summary, interrupted = _run(pipeline, planned.steps[0].name if overwrite else first, only)
    finally:
        pipeline.close()
    if summary is None or interrupted:
        note(f"stopped: finished work is kept in {folder}; the same command continues from there")
        raise typer.Exit(INTERRUPTED)
    if json:
        print_json(summary.to_dict())
    else:
        _show(summary)
    raise typer.Exit(PARTLY if summary.partly else 0)


def _run(pipeline: Pipeline, first: str | None, only: str | None) -> tuple[PipelineSummary | None, bool]:
    """The summary, and whether the run was interrupted.

    The first Ctrl-C while a model is asked lets running requests finish; any other stops everything at once.
    """
    from outspoken.cli.progress import live

    if functions := pipeline.spec.functions:
        note(f"the spec runs code with your rights: {', '.join(functions)} (read it first if it is not yours)")
    if pipeline.continued and first is None:
        finished, total = pipeline.finished_steps(), len(pipeline.spec.steps)
        note(f"continuing in {pipeline.folder}: finished steps: {finished} of {total}")
    return run_interruptibly(
        lambda: pipeline.run(first=first, only=only, on_step=_note_step),
        lambda: pipeline.stop("interrupted"),
        lambda: live(lambda: _progress_line(pipeline)),
    )


def _progress_line(pipeline: Pipeline) -> str:
    from outspoken.cli.progress import figures

    progress, current = pipeline.progress, pipeline.current
    total = len(pipeline.spec.steps)
    step = "" if current is None else f"step {current.number}/{total} {current.name.partition('-')[2]}"
    done = number_of(progress.done) + (f"/{number_of(progress.total)}" if progress.total else "")
    parts = [step, f"{progress.stage} {done}" if progress.done or progress.total else progress.stage]
    if progress.running is not None:
        parts += figures(progress.running.metrics)
    return " · ".join(part for part in parts if part)


def _note_step(done: StepManifest, just_now: bool) -> None:
    """A line for a step that is done."""
    removed = "; ".join(f"{number_of(lost)} {reason}" for reason, lost in done.removed.items())
    line = f"{done.step}: {number_of(done.kept)} records" + (f" (removed: {removed})" if removed else "")
    when = duration(done.seconds) if just_now else "done before"
    note(f"{line} · {when}", style=None if just_now else "dim")
    for warning in done.warnings:
        note(f"  {warning}")
    if done.partly:
        note(f"  not finished: {done.partly}")


def _show(summary: PipelineSummary) -> None:
    screen = console()
    screen.print(f"{number_of(summary.records)} records in {summary.out}", soft_wrap=True)
    costs = [cost for done in summary.steps if (cost := done.spent)]
    requests, tokens = (number_of(sum(getattr(cost, name) for cost in costs)) for name in ("requests", "tokens"))
    screen.print(f"{requests} requests · {tokens} tokens · {duration(summary.seconds)}", style="dim")
    if summary.report:
        screen.print(f"report: {summary.report}", soft_wrap=True)
    if summary.partly:
        note("finished work is kept; the same command asks for the missing replies")


def _list_specs(*, as_json: bool) -> None:
    from outspoken.synth.spec import load, names

    specs = map(load, names())
    rows: list[dict[str, Any]] = [
        {"name": each.name, "about": each.about, "steps": [step.do for step in each.steps]} for each in specs
    ]
    if as_json:
        print_json({"pipelines": rows})
        return
    table = TextTable("pipeline", "steps", "about")
    for row in rows:
        table.add_row(row["name"], ", ".join(row["steps"]), row["about"])
    console().print(table)
    note("start your own from one of these: outspoken synth NAME --show > mine.toml", style="dim")


def _list_steps(*, as_json: bool) -> None:
    from outspoken.synth.spec import STEPS

    options = {
        name: [entry for entry in fields(kind.options) if entry.name != "asking"] for name, kind in STEPS.items()
    }
    if as_json:
        steps = {name: {entry.name: entry.metadata["help"] for entry in own} for name, own in options.items()}
        print_json({"steps": steps, "asking": [name for name, kind in STEPS.items() if kind.options.ASKING]})
        return
    screen = console()
    for name, kind in STEPS.items():
        screen.print(name, style="bold")
        for entry in options[name]:
            default = "" if entry.default in ("", None, ()) else f" (default: {entry.default})"
            screen.print(f"  {entry.name}: {entry.metadata['help']}{default}", soft_wrap=True)
        if kind.options.ASKING:
            screen.print("  and the settings of a run: method, temperature, concurrency, … (outspoken run -h)")
    screen.print("mine.py:function", style="bold")
    screen.print(
        "  a custom step: takes an iterator of records (dicts with id and text), returns records", soft_wrap=True
    )
