"""What the commands of the group Theory share: reading answers and distributions, and writing results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import as_json, command_line, console, note, print_json, read_standard_input
from outspoken.errors import UsageError, errors_at
from outspoken.io.text import parse_json, read_json

if TYPE_CHECKING:
    from outspoken.distribution import Distribution
    from outspoken.measure.answer_sets import Answers

__all__ = ["DistributionFile", "Out", "claim", "deliver", "read_answers", "read_distribution"]

DistributionFile = Annotated[
    Path,
    typer.Argument(
        metavar="DIST.json",
        help="The base model's distribution: counts {answer: count}, or output of `outspoken ask --json`; - is "
        "standard input.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="A folder for results.json, report.html and the charts.", file_okay=False),
]

_KINDS = ("gamma", "levels", "sharpen", "typicality")


def claim(out: Path | None, kind: str, source: str, *, overwrite: bool) -> None:
    """Raise `UsageError` if the folder holds other results than those of this command for this source, or if it
    cannot be written.

    `overwrite` allows replacing the results of another command or source, but not a foreign results.json.
    """
    if out is None:
        return
    above = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "it cannot be written" if above.is_dir() else "it is a file"
        raise UsageError(
            f"the results cannot be put into {out}, because of {above}: {reason}; name another folder"
        )
    if not (out / "results.json").exists():
        return
    results = read_json(out / "results.json", "file of results")
    settings = results.get("settings") if isinstance(results, dict) else None
    if not isinstance(settings, dict) or "source" not in settings or results.get("kind") not in _KINDS:
        raise UsageError(f"{out} holds a results.json of something else: name another folder with --out")
    if not overwrite and (results["kind"], settings["source"]) != (kind, source):
        raise UsageError(
            f"{out} holds the results of {results['kind']} for {settings['source']}: name another folder with "
            "--out, or replace them with --overwrite"
        )


def deliver(
    result: dict[str, Any],
    settings: Mapping[str, object],
    *,
    out: Path | None,
    json: bool,
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Add version, command, time and settings to a result, write it into `out` with its report, and show it."""
    from datetime import UTC, datetime

    from outspoken._version import __version__

    document = {
        "kind": result["kind"],
        "version": __version__,
        "command": command_line(),
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


def read_answers(path: Path) -> Answers:
    """The answers in a file of counts. Raises `UsageError` for a file of questions."""
    from outspoken.measure.answer_sets import Answers, load

    answers = load(path)
    if not isinstance(answers, Answers) or answers.reference is None:
        raise UsageError(f"{path} holds questions with their answers: give counts, {{answer: count}}")
    return answers


def read_distribution(source: Path) -> Distribution:
    """The distribution in a file: output of `outspoken ask --json`, or counts of answers; - is standard input."""
    from outspoken.candidate import Candidate
    from outspoken.distribution import Distribution
    from outspoken.measure.answer_sets import Answers

    piped = str(source) == "-"
    document = _read_standard_input() if piped else read_json(source, "distribution")
    if isinstance(document, dict) and isinstance(document.get("candidates"), list):
        with errors_at(str(source)):
            return Distribution.from_dict(document)
    if not piped:
        answers = read_answers(source)
    elif isinstance(document, dict) and document:
        answers = Answers.counts(document)
    else:
        raise UsageError("standard input must hold counts ({answer: count}) or output of `outspoken ask --json`")
    shares = answers.reference or {}
    return Distribution(tuple(Candidate(answer, share) for answer, share in shares.items()))


def _read_standard_input() -> object:
    if not (content := read_standard_input()):
        raise UsageError("standard input is empty: pipe counts or the output of `outspoken ask --json` into it")
    return parse_json(content, "standard input")
