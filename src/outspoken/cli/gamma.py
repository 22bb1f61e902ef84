"""`outspoken gamma`: how much sharper an aligned model is than its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, typed
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Json, Overwrite, Seed
from outspoken.cli.theory_output import Out, claim, deliver, read_answers
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.report.format import number, p_value, percent, with_interval
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.theory.gamma_result import Gamma

__all__ = ["gamma"]

_TOP = 10


@command(quiet=True, offline=True)
def gamma(
    source: Annotated[
        Path,
        typer.Argument(
            help="With --reference: recorded answers of the aligned model, as `outspoken measure` reads them. "
            "With --base and --aligned: equally right answers, as counts or as questions with answers. "
            "Otherwise: rows of prompt, answer, base and aligned, the natural log-probabilities of both models."
        ),
    ],
    reference: Annotated[Path | None, typer.Option(help="Base distribution: a JSON file {answer: count}.")] = None,
    method: Annotated[str | None, typer.Option(help="Use the responses of this method.")] = None,
    model: Annotated[str | None, typer.Option(help="Use the responses of this model.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model, which scores the answers of SOURCE.")] = None,
    aligned: Annotated[str | None, typer.Option(help="The aligned model, with its chat template.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The question, if SOURCE does not contain it.")] = None,
    prompt_format: Annotated[
        str, typer.Option(help="Text before an answer for the base model, with {prompt} in it.")
    ] = "{prompt}\nAnswer: ",
    plain: Annotated[bool, typer.Option("--plain", help="Leave out the aligned model's chat template.")] = False,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure gamma, the power to which alignment raised the base's distribution over equally right answers.

    Example: outspoken gamma responses.jsonl --reference counts.json
    """
    warnings: list[str] = []
    seed = seed or 0
    claim(out, "gamma", str(source), overwrite=overwrite)
    if (base is None) != (aligned is None) or (base is not None and reference is not None):
        raise UsageError("give --base and --aligned together, or --reference with recorded answers")
    if base is not None and aligned is not None:
        result = _from_models(source, prompt, base, aligned, prompt_format, plain)
    elif reference is None:
        if method is not None or model is not None:
            raise UsageError("--method and --model select responses: give them with --reference COUNTS")
        result = _from_points(source)
    else:
        result, warnings = _from_responses(source, reference, method, model, seed)
    document = result.to_dict()
    document["warnings"] = [*warnings, *document["warnings"]]
    settings = {
        "source": str(source),
        "reference": None if reference is None else str(reference),
        "method": method,
        "model": model,
        "base": base,
        "aligned": aligned,
        "prompt": prompt,
        "prompt_format": prompt_format,
        "plain": plain,
        "seed": seed,
    }
    deliver(document, settings, out=out, json=json, show=_show)


def _from_models(
    source: Path, prompt: str | None, base: str, aligned: str, prompt_format: str, plain: bool
) -> Gamma:
    from outspoken.cli.progress import step_progress
    from outspoken.models import get_model
    from outspoken.theory.gamma_sources import read_questions, score_points
    from outspoken.theory.sharpening_exponent import gamma_from_logprobs

    questions = read_questions(source, prompt and typed(prompt))
    models = get_model(base), get_model(aligned)
    with step_progress() as progress:
        points = run_or_exit(
            lambda: score_points(
                questions, *models, prompt_format=prompt_format, chat=not plain, progress=progress
            ),
            stopped="stopped: nothing was written",
        )
    return gamma_from_logprobs(points)


def _from_points(source: Path) -> Gamma:
    from outspoken.theory.gamma_sources import read_points
    from outspoken.theory.sharpening_exponent import gamma_from_logprobs

    try:
        points = read_points(source)
    except UsageError as error:
        raise UsageError(f"{error} (for recorded answers, give --reference COUNTS)") from error
    return gamma_from_logprobs(points)


def _from_responses(
    source: Path, reference: Path, method: str | None, model: str | None, seed: int
) -> tuple[Gamma, list[str]]:
    from outspoken.measure import response_files
    from outspoken.theory.gamma_sources import count_draws, single_group, stated_shares, states_shares
    from outspoken.theory.sharpening_exponent import gamma_from_counts, gamma_from_shares

    answers = read_answers(reference)
    recorded = response_files.read(source)
    group = single_group(recorded.groups, method, model)
    warnings = list(recorded.problems)
    if states_shares(group):
        if len(group.prompts) > 1:
            warnings.append(f"{len(group.prompts):,} prompts are treated as wordings of one question")
        return gamma_from_shares(stated_shares(group, answers.label), answers.reference or {}), warnings
    trials, unit = count_draws(group, answers.label)
    if unit == "prompt":
        warnings.append(f"{len(trials):,} prompts are treated as wordings of one question, with one reference")
    return gamma_from_counts(trials, answers.reference or {}, unit=unit, seed=seed), warnings


def _show(document: dict[str, Any]) -> None:
    from outspoken.theory.report_text import ends

    screen = console()
    gamma, fit = document["gamma"], document["fit"]
    figures = TextTable("", "")
    figures.add_row("gamma", with_interval(*ends(gamma)), style="bold")
    figures.add_row(
        "standard error", f"{number(gamma['se'] or 0)}, over {plural(document['units'], document['unit'])}"
    )
    figures.add_row("p (gamma = 1)", p_value(gamma["p"]))
    for name, title in _FIT.items():
        if name in fit:
            figures.add_row(title, p_value(fit[name]) if name == "p" else number(fit[name]))
    screen.print(figures)
    screen.print()
    counted = document["how"] != "logprobs"
    write = percent if counted else number
    columns = ("answer", *(("reference", "observed") if counted else ("base", "aligned")), "fitted")
    table = TextTable(*columns, right=True)
    points = sorted(document["points"], key=lambda point: -abs(point["aligned"] - point["fitted"]))
    for point in points[:_TOP]:
        table.add_row(point["answer"], *map(write, (point["base"], point["aligned"], point["fitted"])))
    screen.print(f"The {min(_TOP, len(points))} answers with the worst fit:", style="dim")
    screen.print(table)


_FIT = {
    "tv": "total variation, fitted",
    "tv_base": "total variation, gamma = 1",
    "deviance": "deviance",
    "df": "degrees of freedom",
    "p": "p (a pure power)",
    "r2": "R² within prompts",
    "residual_sd": "residual, nats",
}
