"""`outspoken parse`: a raw reply to candidates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Debug, Json
from outspoken.errors import UsageError

__all__ = ["parse"]


@command
def parse(
    file: Annotated[str, typer.Argument(help="A file that holds a model's reply; - is standard input.")] = "-",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read the candidates out of a model's reply, however damaged.

    Example: pbpaste | outspoken parse --json
    """
    from outspoken.distribution import Distribution
    from outspoken.parsing import parse as read

    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    reading = read(raw.decode("utf-8", errors="replace"))
    distribution = Distribution.from_verbalized(
        reading.candidates, reasoning=[reading.reasoning] if reading.reasoning else []
    )
    if json:
        print_json(
            {
                "candidates": [candidate.to_dict() for candidate in distribution],
                "mass": distribution.mass,
                "repairs": list(reading.repairs),
                "reasoning": reading.reasoning,
            }
        )
        return
    console().print(distribution)
    if reading.repairs:
        note(f"repaired: {', '.join(reading.repairs)}")
