"""`outspoken ask`: one prompt, one distribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import (
    command,
    console,
    note,
    note_default,
    print_json,
    print_text,
    read_standard_input,
    typed,
)
from outspoken.cli.options import Json, ModelName
from outspoken.errors import UsageError
from outspoken.io.text import read_json
from outspoken.settings import RequestLimits, Settings

if TYPE_CHECKING:
    from outspoken.api import Stream
    from outspoken.distribution import Distribution
    from outspoken.models import Model

__all__ = ["ask"]


@command(Settings, RequestLimits, quiet=True, offline=True)
def ask(
    options: dict[str, Any],
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from standard input.")] = None,
    messages: Annotated[Path | None, typer.Option(help="A chat as JSON messages, instead of a prompt.")] = None,
    model: ModelName = None,
    draw: Annotated[int | None, typer.Option(help="Draw this many responses and print only them.")] = None,
    distinct: Annotated[bool, typer.Option("--distinct", help="Draw without replacement.")] = False,
    schema: Annotated[Path | None, typer.Option(help="A JSON schema for the value of each candidate.")] = None,
    record: Annotated[Path | None, typer.Option(help="Append replies to FILE, for --model replay/FILE.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep replies in this ledger; an equal command gets the replies in it.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask one prompt, and show the candidates with their probabilities as the model writes them.

    Example: outspoken ask "Tell me a joke about coffee" -k 5 --draw 1
    """
    if draw is not None and draw < 1:
        raise UsageError(f"--draw must be at least 1, not {draw}")
    if distinct and draw is None:
        raise UsageError("--distinct belongs to --draw N")
    from outspoken.api import stream

    json_schema = None if schema is None else read_json(schema, "schema")
    chat = _chat(prompt, messages)
    running = stream(chat, model=_model(model, record), schema=json_schema, cache=cache, **options)
    if model is None:
        note_default()
    shown = not json and draw is None
    distribution = _watch(running, live=shown)
    if distribution.missing:
        note(f"{distribution.missing} of the requested candidates are missing{_why(distribution)}")
    if not shown:  # the table has them
        for warning in distribution.warnings:
            note(warning)
    drawn = [] if draw is None else distribution.draw(draw, seed=options.get("seed"), replace=not distinct)
    if json:
        extra = {} if draw is None else {"draws": [candidate.to_dict() for candidate in drawn]}
        print_json({**distribution.to_dict(), **extra})
    else:
        for candidate in drawn:
            print_text(candidate.text)


def _why(distribution: Distribution) -> str:
    counts = {"refused": distribution.refused, "cut off": distribution.cut_off}
    replies = [
        f"{count} of {distribution.provenance.requests} replies {what}" for what, count in counts.items() if count
    ]
    reasons = [*replies, *filter(None, [distribution.stopped])]
    return f": {'; '.join(reasons)}" if reasons else ""


def _chat(prompt: str | None, messages: Path | None) -> Any:
    if messages is not None and prompt is None:
        return read_json(messages, "file of messages")
    if prompt is None or messages is not None:
        raise UsageError('give one prompt: outspoken ask "…", - for standard input, or --messages chat.json')
    return read_standard_input().removesuffix("\n") if prompt == "-" else typed(prompt)


def _model(name: str | None, record: Path | None) -> Model:
    from outspoken.models import default_name, get_model

    model = get_model(name or default_name())
    if record is None:
        return model
    from outspoken.models.replay import Recorder

    return Recorder(model, str(record))


def _watch(running: Stream, *, live: bool) -> Distribution:
    """Show the table while candidates arrive, if the output is a terminal."""
    screen = console()
    try:
        if not (live and screen.is_live):
            for _ in running:
                pass
            if live:
                screen.print(running.distribution)
            return running.distribution
        from rich.live import Live
        from rich.spinner import Spinner

        from outspoken.display import rows

        waiting = Spinner("dots" if screen.safe("⠋") == "⠋" else "line", screen.safe("asking…"), style="dim")
        with Live(waiting, console=screen, refresh_per_second=12, vertical_overflow="visible") as view:
            for _ in running:
                view.update(rows(running.so_far.candidates))
            view.update(running.distribution)
        return running.distribution
    finally:
        running.close()
