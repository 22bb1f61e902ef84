"""`outspoken gamma`: how much sharper a real model is than its base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console
from outspoken.cli.options import Debug, Json
from outspoken.cli.theory_output import Out, Seed, claim, deliver, interval, right_aligned
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.theory.gamma_result import Gamma

__all__ = ["gamma"]

_TOP = 10


@command
def gamma(
    source: Annotated[
        Path,
        typer.Argument(
            help="With --reference: recorded answers of the aligned model, all that `outspoken measure` reads. "
            "With --base and --aligned: answers that are equally right: counts, or questions with answers. "
            "Else: rows of prompt, answer, base and aligned, the natural log-probabilities of both models."
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(help="What the base gives: a JSON file of counts, {answer: count}.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Take the responses of this method.")] = None,
    model: Annotated[str | None, typer.Option(help="Take the responses of this model.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model: it scores the answers of SOURCE.")] = None,
    aligned: Annotated[
        str | None, typer.Option(help="The aligned model: it scores them too, behind its chat template.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The question that the answers of SOURCE are to, where it does not say.")
    ] = None,
    text_format: Annotated[
        str, typer.Option("--format", help="How the base model is asked; the answer follows.")
    ] = "{prompt}\nAnswer: ",
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Ask the aligned model as the base model, without its template."),
    ] = False,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the power that leads from a base to an aligned model, where all answers are equally right.

    Example: outspoken gamma responses.jsonl --reference counts.json
    """
    told: list[str] = []
    claim(out, "gamma", str(source))
    if (base is None) != (aligned is None) or (base is not None and reference is not None):
        raise UsageError("give --base and --aligned together, or --reference with recorded answers")
    if base is not None and aligned is not None:
        result = _of_models(source, prompt, base, aligned, text_format, plain)
    elif reference is None:
        if method is not None or model is not None:
            raise UsageError("--method and --model choose among responses: give them with --reference COUNTS")
        result = _of_points(source)
    else:
        result, told = _of_responses(source, reference, method, model, seed)
    document = result.to_dict()
    document["warnings"] = [*told, *document["warnings"]]
    settings = {
        "source": str(source),
        "reference": None if reference is None else str(reference),
        "method": method,
        "model": model,
        "base": base,
        "aligned": aligned,
        "prompt": prompt,
        "format": text_format,
        "plain": plain,
        "seed": seed,
    }
    deliver(document, settings, out=out, json=json, show=_show)


def _of_models(source: Path, prompt: str | None, base: str, aligned: str, text_format: str, plain: bool) -> Gamma:
    from outspoken.cli.measure_tables import working
    from outspoken.engine import run
    from outspoken.models import get_model
    from outspoken.theory.gamma_sources import questions_of, score_points
    from outspoken.theory.sharpening_exponent import gamma_from_logprobs

    questions = questions_of(source, prompt)
    with working() as progress:
        points = run(
            score_points(
                questions,
                get_model(base),
                get_model(aligned),
                text_format=text_format,
                chat=not plain,
                progress=progress,
            )
        )
    return gamma_from_logprobs(points)


def _of_points(source: Path) -> Gamma:
    from outspoken.theory.gamma_sources import read_points
    from outspoken.theory.sharpening_exponent import gamma_from_logprobs

    try:
        points = read_points(source)
    except UsageError as error:
        raise UsageError(f"{error} (for recorded answers, give --reference COUNTS)") from error
    return gamma_from_logprobs(points)


def _of_responses(
    source: Path, reference: Path, method: str | None, model: str | None, seed: int
) -> tuple[Gamma, list[str]]:
    from outspoken.measure import response_files
    from outspoken.measure.answer_sets import Answers, load
    from outspoken.theory.gamma_sources import draws_of, one_group
    from outspoken.theory.sharpening_exponent import gamma_from_counts

    answers = load(reference)
    if not isinstance(answers, Answers) or answers.reference is None:
        raise UsageError(f"{reference} holds questions with their answers: give counts, {{answer: count}}")
    recorded = response_files.read(source)
    trials, unit = draws_of(one_group(recorded.groups, method, model), answers.label)
    told = list(recorded.problems)
    if unit == "prompt":
        told.append(f"{len(trials):,} prompts are taken for wordings of one question, with one reference")
    return gamma_from_counts(trials, answers.reference, unit=unit, seed=seed), told


def _show(document: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    found, fit = document["gamma"], document["fit"]
    figures = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    figures.add_row("gamma", interval(found), style="bold")
    figures.add_row("standard error", f"{found['se']:.3g}, over {document['units']:,} {document['unit']}s")
    figures.add_row("p (gamma = 1)", "–" if found["p"] is None else f"{found['p']:.2g}")
    for name, title in _FIT.items():
        if name in fit:
            figures.add_row(title, f"{fit[name]:,.0f}" if fit[name] >= 100 else f"{fit[name]:.3g}")
    screen.print(figures)
    screen.print()
    counted = document["how"] == "counts"
    form = ".1%" if counted else ".2f"
    columns = ("answer", *(("reference", "observed") if counted else ("base", "aligned")), "fitted")
    table = right_aligned(*columns)
    points = sorted(document["points"], key=lambda point: -abs(point["aligned"] - point["fitted"]))
    for point in points[:_TOP]:
        numbers = (f"{point[name]:{form}}" for name in ("base", "aligned", "fitted"))
        table.add_row(Text(point["answer"]), *numbers)
    screen.print(f"The {min(_TOP, len(points))} answers that the power fits worst:", style="dim")
    screen.print(table)
    screen.print()
    for sentence in document["sentences"]:
        screen.print(sentence)


_FIT = {
    "tv": "total variation, fitted",
    "tv_base": "total variation, gamma = 1",
    "deviance": "deviance",
    "df": "degrees of freedom",
    "p": "p (a pure power)",
    "r2": "R² within prompts",
    "residual_sd": "residual, nats",
}
