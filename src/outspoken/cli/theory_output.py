"""What the commands of theory share: where a distribution is read, and where a document goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import as_json, note, print_json, read_json
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from outspoken.distribution import Distribution

__all__ = ["Out", "Seed", "claim", "deliver", "interval", "read_distribution", "right_aligned"]

Out = Annotated[
    Path | None,
    typer.Option(help="A folder for results.json, report.html and the charts.", file_okay=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")]


def claim(out: Path | None, kind: str, source: str) -> None:
    """Raise `UsageError` where the folder holds the results of something else, which would be lost."""
    if out is None or not (out / "results.json").exists():
        return
    found = read_json(out / "results.json")
    told = found.get("settings") if isinstance(found, dict) else None
    owner = (found.get("kind"), told.get("source")) if isinstance(told, dict) else None
    if owner != (kind, source):
        what = f"{owner[0]} of {owner[1]}" if owner and owner[1] is not None else "another"
        raise UsageError(f"{out} holds the results of {what}: name another folder with --out")


def deliver(
    result: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    out: Path | None,
    json: bool,
    show: Callable[[Mapping[str, Any]], None],
) -> None:
    """Complete a result's dictionary to a document, write it into `out` with its report, and print or show it."""
    import shlex
    from datetime import UTC, datetime

    from outspoken._version import __version__

    document = {
        "kind": result["kind"],
        "version": __version__,
        "command": shlex.join(["outspoken", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        **result,
    }
    if json:
        print_json(document)
    else:
        show(document)
    for warning in document["warnings"]:
        note(f"note: {warning}", style="yellow")
    if out is not None:
        from outspoken.io.atomic import write_bytes
        from outspoken.theory.report import write

        write_bytes(out / "results.json", as_json(document))
        note(f"the report: {write(document, out)}")


def read_distribution(source: Path) -> Distribution:
    """What a file holds: a distribution, as `outspoken ask --json` prints it, or counts of answers; - is standard
    input."""
    from outspoken.distribution import Candidate, Distribution
    from outspoken.measure.answer_sets import Answers, load

    document = _piped() if str(source) == "-" else read_json(source)
    if isinstance(document, dict) and isinstance(document.get("candidates"), list):
        try:
            return Distribution.from_dict(document)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
    if str(source) != "-":
        answers = load(source)
    elif isinstance(document, dict) and document:
        answers = Answers.counts(document)
    else:
        raise UsageError("standard input must hold counts ({answer: count}) or what `outspoken ask --json` prints")
    if not isinstance(answers, Answers) or answers.reference is None:
        raise UsageError(f"{source} holds questions with their answers: give counts, {{answer: count}}")
    return Distribution(tuple(Candidate(answer, share) for answer, share in answers.reference.items()))


def _piped() -> Any:
    import json

    if not (read := sys.stdin.buffer.read()):
        raise UsageError("standard input is empty: pipe counts or what `outspoken ask --json` prints into it")
    try:
        return json.loads(read)
    except ValueError as error:
        raise UsageError(f"standard input is not JSON: {error}") from error


def interval(figure: Mapping[str, Any], form: str = ".2f") -> str:
    """A figure with its interval, as far as there is one."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return f"{value:{form}}" + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


def right_aligned(first: str, *columns: str) -> Table:
    """A table of numbers with what they belong to in the first column."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
