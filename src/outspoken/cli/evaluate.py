"""`outspoken evaluate`: students answer questions, and what they know is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json, with_settings
from outspoken.cli.options import Debug, Json, Offline
from outspoken.errors import StoppedError, UsageError
from outspoken.training.settings import EvalSettings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["evaluate"]

_PARTLY, _INTERRUPTED = 3, 130


@command
@with_settings(EvalSettings)
def evaluate(
    options: dict[str, Any],
    questions: Annotated[
        list[Path],
        typer.Argument(
            metavar="QUESTIONS...",
            help='Files in the shape of GSM8K, of MATH, or {"prompt", "answer"}, as JSON lines or Parquet.',
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder for results.json and the answers.", file_okay=False)],
    student: Annotated[
        list[str] | None,
        typer.Option(
            "--student",
            help="Whom to ask, or NAME=whom: what `outspoken train` wrote, local/smollm2, a folder that "
            "transformers reads, a name of the hub, or any model that answers; may be given several times.",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="NAME=dir1,dir2,…: students that differ by their seed alone, taken together."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Ask the bare question, without the chat template.")
    ] = False,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help=r"A text at which an answer ends; \n is a line's end.")
    ] = None,
    draw: Annotated[
        bool, typer.Option("--draw", help="With --limit, draw the questions at random by --seed.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Ask students the questions of files: how many each answers right, how sure that is, and who is better.

    Answers are kept in --out as they come; the same command goes on where it was stopped.

    Example: outspoken evaluate test.jsonl --student local/smollm2 --student trained=student --out results
    """
    from outspoken import training
    from outspoken.cli.measure_tables import working

    given = {**options, **({"plain": True} if plain else {}), **({"draw": True} if draw else {})}
    if stop:
        given["stop"] = tuple(text.replace("\\n", "\n") for text in stop)
    if "template" in given:
        given["template"] = given["template"].replace("\\n", "\n")
    try:
        with working() as progress:
            document = training.evaluate(
                questions,
                students=_students(student or []),
                arms=dict(map(_arm, arm or [])),
                out=out,
                offline=offline,
                progress=progress,
                **given,
            )
    except StoppedError as error:
        note(str(error))
        raise typer.Exit(_INTERRUPTED) from error
    if json:
        print_json(document)
    else:
        _show(document)
        note(f"all figures: {out / 'results.json'}; the answers: {out / 'answers'}")
    for warning in document["warnings"]:
        note(f"note: {warning}", style="yellow")
    if document["unanswered"]:
        raise typer.Exit(_PARTLY)


def _students(given: Sequence[str]) -> dict[str, str] | list[str]:
    """As they are, or by the names that they were given."""
    pairs = [_named(each) for each in given]
    if all(name is None for name, _ in pairs):
        return [source for _, source in pairs]
    named = {source if name is None else name: source for name, source in pairs}
    if len(named) < len(pairs):
        raise UsageError("two students have one name: name each NAME=SOURCE otherwise")
    return named


def _named(given: str) -> tuple[str | None, str]:
    """NAME=SOURCE; a folder or an address may hold a = of its own."""
    name, equals, source = given.partition("=")
    if not equals or Path(given).exists() or "/" in name or ":" in name:
        return None, given
    return name, source


def _arm(given: str) -> tuple[str, list[str]]:
    name, _, members = given.partition("=")
    sources = [member for member in members.split(",") if member]
    if not name or not sources:
        raise UsageError(f"--arm {given!r} must read NAME=dir1,dir2,…")
    return name, sources


def _show(document: Mapping[str, Any]) -> None:
    screen = console()
    for paper in document["papers"]:
        screen.print(f"{paper['name']}: {paper['questions']:,} of {paper['of']:,} questions", style="bold")
        _accuracies(screen, document, paper["name"])
        _differences(screen, [each for each in document["comparisons"] if each["paper"] == paper["name"]])
        screen.print()
    screen.print(
        "In brackets, 95 % intervals: of a student's greedy answers Wilson's, else from resampling questions; of "
        "an arm, for other seeds and other questions. p is corrected by Holm's method.",
        style="dim",
    )


def _accuracies(screen: Console, document: Mapping[str, Any], paper: str) -> None:
    from rich.table import Table

    samples = document["settings"]["samples"]
    columns = [
        "",
        "greedy",
        *(["sampled", f"pass@{samples}", "majority"] if samples else []),
        "no answer",
        "cut off",
    ]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", overflow="fold")
    for entry in document["students"]:
        found = entry["results"][paper]
        greedy, sampled = found.get("greedy"), found.get("sampled")
        cells = [_percent(greedy and greedy["accuracy"])]
        if samples:
            cells += [_percent(sampled and sampled[name]) for name in ("accuracy", f"pass@{samples}", "majority")]
        both = [part for part in (greedy, sampled) if part]
        cells += [f"{sum(part[name] for part in both):,}" for name in ("without_final", "cut_off")]
        table.add_row(entry["name"], *cells)
    for entry in document["arms"]:
        found = entry["results"].get(paper, {})
        cells = [_percent(found.get("greedy")), *([_percent(found.get("sampled")), "", ""] if samples else [])]
        table.add_row(f"{entry['name']} ({len(entry['students'])} seeds)", *cells, "", "", style="bold")
    screen.print(table)
    for text in dict.fromkeys(_notes(document["arms"], paper)):
        note(f"note: {text}", style="yellow")


def _notes(arms: Sequence[Mapping[str, Any]], paper: str) -> Iterator[str]:
    for entry in arms:
        for score in entry["results"].get(paper, {}).values():
            if score["note"]:
                yield f"{entry['name']}: {score['note']}"


def _differences(screen: Console, comparisons: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    if not comparisons:
        return
    table = Table("", "difference, points", "p (Holm)", "test", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for each in comparisons:
        p = each["p_holm"]
        table.add_row(
            f"{each['a']} − {each['b']}" + (", sampled" if each["measure"] == "sampled" else ""),
            _points(each),
            "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
            each["test"],
        )
    screen.print(table)


def _percent(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value = f"{100 * figure['value']:.1f} %"
    if figure["low"] is None:
        return value
    return f"{value} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _points(each: Mapping[str, Any]) -> str:
    value = f"{100 * each['difference']:+.1f}"
    return value if each["low"] is None else f"{value} [{100 * each['low']:+.1f}, {100 * each['high']:+.1f}]"
