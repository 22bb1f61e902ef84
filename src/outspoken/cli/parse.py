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
    method: Annotated[
        str | None,
        typer.Option(
            "-m", "--method", help="The method that asked; direct and direct-cot have one answer. Default: detect."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read the candidates from the text of a model's reply, even if it is damaged.

    Example: pbpaste | outspoken parse --json
    """
    from outspoken.distribution import Distribution
    from outspoken.methods.table import find
    from outspoken.parsing import parse as parse_reply
    from outspoken.reply_shape import ReplyShape
    from outspoken.templates import load

    raw = sys.stdin.buffer.read() if file == "-" else read_bytes(Path(file), "reply")
    shape = None
    if method is not None:
        wording = load("standard").wording(find(method).name)
        shape = ReplyShape(wording.reply, weight=wording.weight_key, scale=wording.scale)
    parsed = parse_reply(decoded(raw, "the reply", errors="replace"), shape)
    distribution = Distribution.from_verbalized(
        parsed.candidates, reasoning=[parsed.reasoning] if parsed.reasoning else []
    )
    if json:
        print_json(
            {
                "candidates": [candidate.to_dict() for candidate in distribution],
                "mass": distribution.mass,
                "warnings": list(distribution.warnings),
                "repairs": list(parsed.repairs),
                "reasoning": parsed.reasoning,
            }
        )
        return
    console().print(distribution)
    if parsed.repairs:
        note(f"repaired: {', '.join(parsed.repairs)}")
