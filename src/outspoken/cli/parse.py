"""`outspoken parse`: the candidates in the text of a reply."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Json
from outspoken.io.text import decoded, read_bytes

__all__ = ["parse"]


@command(quiet=True)
def parse(
    file: Annotated[str, typer.Argument(help="File with the text of a model's reply; - is standard input.")] = "-",
    json: Json = False,
) -> None:
    """Read the candidates from the text of a model's reply, even if it is damaged.

    Example: pbpaste | outspoken parse --json
    """
    from outspoken.distribution import Distribution
    from outspoken.parsing import parse as parse_reply

    raw = sys.stdin.buffer.read() if file == "-" else read_bytes(Path(file), "reply")
    parsed = parse_reply(decoded(raw, "the reply", errors="replace"))
    distribution = Distribution.from_verbalized(
        parsed.candidates, reasoning=[parsed.reasoning] if parsed.reasoning else []
    )
    if json:
        print_json(
            {
                "candidates": [candidate.to_dict() for candidate in distribution],
                "mass": distribution.mass,
                "repairs": list(parsed.repairs),
                "reasoning": parsed.reasoning,
            }
        )
        return
    console().print(distribution)
    if parsed.repairs:
        note(f"repaired: {', '.join(parsed.repairs)}")
