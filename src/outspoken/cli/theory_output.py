"""What the commands of theory share: reading a distribution, scoring, and writing a document."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from outspoken.cli.common import as_json, console, note, print_json, read_json
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from outspoken.distribution import Distribution

__all__ = ["Out", "claim", "deliver", "read_distribution", "right_aligned", "run_scoring"]

Out = Annotated[
    Path | None,
    typer.Option("--out", help="A folder for results.json, report.html and the charts.", file_okay=False),
]

T = TypeVar("T")


def claim(out: Path | None, kind: str, source: str) -> None:
    """Raise `UsageError` if the folder holds other results than those of this command for this source."""
    if out is None or not (out / "results.json").exists():
        return
    results = read_json(out / "results.json")
    settings = results.get("settings") if isinstance(results, dict) else None
    owner = (results.get("kind"), settings.get("source")) if isinstance(settings, dict) else None
    if owner != (kind, source):
        what = f"the results of {owner[0]} for {owner[1]}" if owner and owner[1] is not None else "other results"
        raise UsageError(f"{out} holds {what}, which would be lost: name another folder with --out")


def run_scoring(work: Callable[[], Awaitable[T]], *, stopped: str) -> T:
    """Run `work` in an event loop. Ctrl-C cancels it, shows the message `stopped` and exits with 130."""
    from outspoken.cli.interrupts import INTERRUPTED, run_interruptibly

    result, interrupted = run_interruptibly(work, lambda: False)
    if interrupted or result is None:
        note(stopped)
        raise typer.Exit(INTERRUPTED)
    return result


def deliver(
    result: dict[str, Any],
    settings: Mapping[str, object],
    *,
    out: Path | None,
    json: bool,
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Add to a result how it was made, write it into `out` with its report, and print or show it."""
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
        if sentences := document.get("sentences"):
            console().print("", *sentences, sep="\n")
    for warning in document["warnings"]:
        note(f"note: {warning}", style="yellow")
    if out is not None:
        from outspoken.io.atomic import write_bytes
        from outspoken.theory.report import write

        write_bytes(out / "results.json", as_json(document))
        note(f"the report: {write(document, out)}")


def read_distribution(source: Path) -> Distribution:
    """The distribution in a file: what `outspoken ask --json` prints, or counts of answers; - is standard
    input."""
    from outspoken.distribution import Candidate, Distribution
    from outspoken.measure.answer_sets import Answers, load

    piped = str(source) == "-"
    document = _read_standard_input() if piped else read_json(source)
    if isinstance(document, dict) and isinstance(document.get("candidates"), list):
        try:
            return Distribution.from_dict(document)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
    if not piped:
        answers = load(source)
    elif isinstance(document, dict) and document:
        answers = Answers.counts(document)
    else:
        raise UsageError("standard input must hold counts ({answer: count}) or what `outspoken ask --json` prints")
    if not isinstance(answers, Answers) or answers.reference is None:
        raise UsageError(f"{source} holds questions with their answers: give counts, {{answer: count}}")
    return Distribution(tuple(Candidate(answer, share) for answer, share in answers.reference.items()))


def _read_standard_input() -> object:
    import json

    if not (content := sys.stdin.buffer.read()):
        raise UsageError("standard input is empty: pipe counts or what `outspoken ask --json` prints into it")
    try:
        return json.loads(content)
    except ValueError as error:
        raise UsageError(f"standard input is not JSON: {error}") from error


def right_aligned(first: str, *columns: str) -> Table:
    """A table of numbers; the first column, left-aligned, names the rows."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
