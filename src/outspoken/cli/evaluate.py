"""`outspoken evaluate`: students answer questions, and their accuracies are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import PARTLY, command, console, note, print_json
from outspoken.cli.interrupts import exit_when_stopped
from outspoken.cli.options import Json, Overwrite, several
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.report.format import NONE, p_value, percent, with_interval
from outspoken.terminal import TextTable
from outspoken.training.settings import EvalSettings

if TYPE_CHECKING:
    from outspoken.cli.screen import Screen
    from outspoken.measure.estimates import Estimate
    from outspoken.training.evaluation_result import ArmScore, Evaluation, StudentComparison

__all__ = ["evaluate"]


@command(EvalSettings, quiet=True, offline=True)
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
            help="Model to evaluate, or NAME=model: a folder of `outspoken train`, local/smollm2, a folder that "
            "transformers reads, a name of the hub, or any other model. For several, repeat the option, or "
            "separate them by commas.",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="NAME=dir1,dir2,…: students that differ only by their seed, as one group."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help=r"A text at which an answer ends; \n is a line break. Repeat it for several."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure how many questions each student answers right, with intervals, and compare the students.

    Answers are kept in --out as they arrive; the same command continues where it stopped.

    Example: outspoken evaluate test.jsonl --student local/smollm2 --student trained=student --out results
    """
    from outspoken import training
    from outspoken.cli.progress import step_progress

    if stop:
        options["stop"] = tuple(text.replace("\\n", "\n") for text in stop)
    if "question_format" in options:
        options["question_format"] = options["question_format"].replace("\\n", "\n")
    with exit_when_stopped(), step_progress() as progress:
        result = training.evaluate(
            questions,
            students=_students(several(student, "--student")),
            arms=dict(map(_arm, arm or [])),
            out=out,
            overwrite=overwrite,
            progress=_noting_earlier_answers(progress, out),
            **options,
        )
    if json:
        print_json(result.to_dict())
    else:
        _show(result)
        note(f"all figures: {out / 'results.json'}; the answers: {out / 'answers'}")
    for warning in result.warnings:
        note(f"note: {warning}", style="yellow")
    if result.unanswered:
        raise typer.Exit(PARTLY)


def _noting_earlier_answers(progress: Callable[..., None], out: Path) -> Callable[[str, int, int], None]:
    """`progress`, with a note when a student already has answers from an earlier call."""
    started: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        if what.startswith("asking ") and what not in started:
            started.add(what)
            if done:
                of = what.removeprefix("asking ")
                note(f"continuing: {out} has {done:,} of {plural(total, 'answer')} of {of}")
        progress(what, done, total)

    return report


def _students(values: Sequence[str]) -> dict[str, str] | list[str]:
    """The sources as a list, or by name if any has a name."""
    pairs = [_named(value) for value in values]
    if all(name is None for name, _ in pairs):
        return [source for _, source in pairs]
    named = {source if name is None else name: source for name, source in pairs}
    if len(named) < len(pairs):
        raise UsageError("two students have one name: rename one of them with NAME=SOURCE")
    return named


def _named(value: str) -> tuple[str | None, str]:
    """The name and source of NAME=SOURCE. A folder or a URL may contain an equals sign too."""
    name, equals, source = value.partition("=")
    if not equals or Path(value).exists() or "/" in name or ":" in name:
        return None, value
    return name, source


def _arm(value: str) -> tuple[str, list[str]]:
    name, _, members = value.partition("=")
    sources = [member for member in members.split(",") if member]
    if not name or not sources:
        raise UsageError(f"--arm {value!r} must read NAME=dir1,dir2,…")
    return name, sources


def _show(result: Evaluation) -> None:
    screen = console()
    for file in result.files:
        screen.print(f"{file.name}: {file.questions:,} of {plural(file.of, 'question')}", style="bold")
        _show_accuracies(screen, result, file.name)
        _show_differences(screen, [each for each in result.comparisons if each.file == file.name])
        screen.print()
    screen.print(
        "In brackets, 95 % intervals: Wilson's for a student's greedy answers, otherwise by resampling questions; "
        "for an arm, over other seeds and other questions. p is corrected by Holm's method.",
        style="dim",
    )


def _show_accuracies(screen: Screen, result: Evaluation, file: str) -> None:
    samples = result.settings["samples"]
    sampled_columns = ("sampled", f"pass@{samples}", "majority") if samples else ()
    table = TextTable("", "greedy", *sampled_columns, "no answer", "cut off", right=True)
    for student in result.students:
        score = student.results[file]
        greedy, sampled = score.greedy, score.sampled
        cells = [_percent(None if greedy is None else greedy.accuracy)]
        if samples:
            figures = sampled and (sampled.accuracy, sampled.pass_at_n, sampled.majority)
            cells += map(_percent, figures or (None, None, None))
        counts = [part.counts for part in (greedy, sampled) if part]
        cells += [f"{sum(each.without_final for each in counts):,}", f"{sum(each.cut_off for each in counts):,}"]
        table.add_row(student.name, *cells)
    for arm in result.arms:
        scores = arm.results.get(file, {})
        cells = [_percent(scores.get("greedy")), *([_percent(scores.get("sampled")), "", ""] if samples else [])]
        table.add_row(f"{arm.name} ({plural(len(arm.students), 'seed')})", *cells, "", "", style="bold")
    screen.print(table)
    of_arms = ((arm.name, score) for arm in result.arms for score in arm.results.get(file, {}).values())
    for text in dict.fromkeys(f"note: {name}: {score.note}" for name, score in of_arms if score.note):
        note(text, style="yellow")


def _show_differences(screen: Screen, comparisons: Sequence[StudentComparison]) -> None:
    if not comparisons:
        return
    table = TextTable("", "difference, points", "p (Holm)", "test", style="dim")
    for each in comparisons:
        points = (None if value is None else 100 * value for value in (each.difference, each.low, each.high))
        table.add_row(
            f"{each.a} − {each.b}" + (", sampled" if each.measure == "sampled" else ""),
            with_interval(*points, plus=True),
            p_value(each.p_holm),
            each.test,
        )
    screen.print(table)


def _percent(figure: Estimate | ArmScore | None) -> str:
    if figure is None:
        return NONE
    if figure.low is None or figure.high is None:
        return percent(figure.value)
    return f"{percent(figure.value)} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
