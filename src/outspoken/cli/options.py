"""The options that several commands share, each declared once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from outspoken.errors import UsageError

__all__ = [
    "DEBUG",
    "QUIET",
    "Address",
    "Debug",
    "DryRun",
    "Embedder",
    "Engine",
    "Json",
    "LedgerFile",
    "Methods",
    "ModelName",
    "Offline",
    "Overwrite",
    "Quiet",
    "Responses",
    "Seed",
    "Workers",
    "several",
]

DEBUG, QUIET = "OUTSPOKEN_DEBUG", "OUTSPOKEN_QUIET"


def _set_debug(value: bool) -> None:
    if value:
        os.environ[DEBUG] = "1"


def _set_quiet(value: bool) -> None:
    if value:
        os.environ[QUIET] = "1"
    else:
        os.environ.pop(QUIET, None)


def _set_offline(value: bool) -> None:
    if value:
        os.environ["OUTSPOKEN_OFFLINE"] = "1"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", callback=_set_quiet, help="No progress and no notes; errors and results only.")
]
Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")]
Offline = Annotated[bool, typer.Option("--offline", callback=_set_offline, help="Never download a model.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output. What the ledger holds is not asked again.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate requests, tokens and cost; ask nothing, write nothing.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn at random.")]
Responses = Annotated[int | None, typer.Option("--n", "-n", min=1, help="Responses per prompt.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--methods", help="Methods to compare: repeat the option, or separate them by commas."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="provider/name, or the URL of a server. Default: $OUTSPOKEN_MODEL, else local/smollm2."
    ),
]
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", help="Keep every reply in this file, and ask nothing that is in it.")
]
Embedder = Annotated[
    str, typer.Option("--embedder", help="Embedding model: minilm, wordllama, a model's name or URL, or none.")
]
Engine = Annotated[str, typer.Option("--engine", help="local: this machine; ray: a Ray cluster (a shared disk).")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="The Ray cluster's address. Default: $RAY_ADDRESS, else one on this machine."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Workers on the Ray cluster. Default: one for each of its machines."),
]


def several(values: Iterable[str] | None, name: str = "") -> tuple[str, ...]:
    """The values of an option that may be repeated, each of which may hold several, separated by commas.

    Raises `UsageError` where the option `name` was given and holds none.
    """
    found = tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
    if values and not found:
        raise UsageError(f"{name or 'the option'} names nothing: give one or several values, separated by commas")
    return found
