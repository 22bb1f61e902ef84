"""The options that several commands share, each declared once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from outspoken.errors import UsageError

__all__ = [
    "COMMON",
    "DEBUG",
    "QUIET",
    "Address",
    "DryRun",
    "Embedder",
    "Engine",
    "Format",
    "Json",
    "LedgerFile",
    "Methods",
    "ModelName",
    "Overwrite",
    "Responses",
    "Same",
    "Seed",
    "TableFormat",
    "Workers",
    "read_limits",
    "several",
]

DEBUG, QUIET = "OUTSPOKEN_DEBUG", "OUTSPOKEN_QUIET"


def _sets(variable: str) -> Callable[[bool], None]:
    """A callback that sets the environment variable."""

    def callback(value: bool) -> None:
        if value:
            os.environ[variable] = "1"

    return callback


def _set_quiet(value: bool) -> None:
    os.environ.pop(QUIET, None)
    _sets(QUIET)(value)


COMMON = {
    "quiet": Annotated[
        bool,
        typer.Option("--quiet", callback=_set_quiet, help="No progress and no notes; errors and results only."),
    ],
    "offline": Annotated[
        bool,
        typer.Option("--offline", callback=_sets("OUTSPOKEN_OFFLINE"), help="Never download a model."),
    ],
    "debug": Annotated[
        bool,
        typer.Option(
            "--debug", callback=_sets(DEBUG), help="Show what is sent and received, and the traceback of an error."
        ),
    ],
}
"""The options that the decorator `command` adds."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output. Replies in the ledger are not asked for again.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate requests, tokens and cost; ask nothing, write nothing.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random draws.")]
Responses = Annotated[int | None, typer.Option("--n", "-n", min=1, help="Responses per prompt.")]
Methods = Annotated[
    list[str] | None, typer.Option("--methods", help="Methods to compare; repeat the option or use commas.")
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="provider/name, or the URL of a server. Default: $OUTSPOKEN_MODEL, else local/smollm2."
    ),
]
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", help="Keep every reply in this file, and use the replies in it.")
]
Embedder = Annotated[
    str, typer.Option("--embedder", help="Embedding model: minilm, wordllama, a model's name or URL, or none.")
]
TableFormat = Literal["markdown", "csv", "latex"]
Format = Annotated[
    TableFormat | None,
    typer.Option("--format", help="Print the figures as a table to paste, and nothing else."),
]
Same = Annotated[
    Literal["exact", "meaning"],
    typer.Option(help="When two responses are one answer: by their exact texts, or by their meaning."),
]
Engine = Annotated[
    str, typer.Option("--engine", help="local: this machine; ray: a Ray cluster with a shared disk.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="The Ray cluster's address. Default: $RAY_ADDRESS, else one on this machine."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Workers on the Ray cluster. Default: one for each of its machines."),
]


def several(values: Iterable[str] | None, name: str) -> tuple[str, ...]:
    """The values of an option that may be repeated, each of which may hold several, separated by commas.

    Raises `UsageError` if the option `name` was given and holds none.
    """
    parts = tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
    if values and not parts:
        raise UsageError(f"{name} has no value: give one or several, separated by commas")
    return parts


def read_limits(values: list[str] | None, option: str) -> dict[str, float]:
    """The limits by measure of an option with MEASURE=LIMIT. Raises `UsageError` for anything else."""
    limits: dict[str, float] = {}
    for value in several(values, option):
        number = 0.0
        name, equals, limit = value.partition("=")
        try:
            number = float(limit)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"{option} needs MEASURE=LIMIT, such as distinct_answers=5, not {value!r}")
        if name.strip() in limits:
            raise UsageError(f"{option} names {name.strip()} twice: give it one limit")
        limits[name.strip()] = number
    return limits
