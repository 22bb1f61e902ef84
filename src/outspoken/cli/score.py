"""`outspoken score`: how likely a model finds a given text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import as_json, command, console, note, print_json
from outspoken.cli.options import Debug, Json, Offline, Quiet
from outspoken.cli.theory_output import right_aligned, run_scoring
from outspoken.errors import UsageError
from outspoken.report.format import percent

__all__ = ["score"]

_TOP = 20


@command
def score(
    prompt: Annotated[str, typer.Argument(help="The text before the scored text, unchanged.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to score after the prompt, unchanged.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="local/FILE.gguf, transformers/NAME, or the URL of a vLLM server.")
    ] = "local/gemma3-270m",
    answers: Annotated[
        Path | None, typer.Option(help="Score the answers in this file: a JSON object {answer: count}.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template: for aligned models.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A file for the distribution over the texts, {text: probability}."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Show the log-likelihood of given texts after a prompt, and the model's distribution over them.

    Example: outspoken score "The capital of France is" " Paris" " Lyon" --model local/gemma3-270m
    """
    from outspoken.cli.progress import step_progress
    from outspoken.io.atomic import write_bytes
    from outspoken.models import get_model
    from outspoken.theory.answer_likelihoods import likelihoods

    if bool(texts) == (answers is not None):
        raise UsageError("give either texts after the prompt or a file of answers with --answers")
    scored = texts or [] if answers is None else _read_answers(answers)
    with step_progress() as progress:
        result = run_scoring(
            lambda: likelihoods(
                get_model(model),
                prompt,
                scored,
                chat=chat,
                progress=lambda done, total: progress("scoring", done, total),
            ),
            stopped="stopped: nothing was written",
        )
    document = result.to_dict()
    if out is not None:
        write_bytes(out, as_json({entry["text"].strip(): entry["share"] for entry in document["texts"]}))
        note(f"the distribution: {out}")
    if json:
        print_json({"model": model, "prompt": prompt, "chat": chat, **document})
    else:
        _show(document)


def _read_answers(path: Path) -> list[str]:
    """The answers of a file, each after a space, like a word that follows a prompt."""
    from outspoken.measure.answer_sets import Answers, load

    answers = load(path)
    if not isinstance(answers, Answers) or answers.known is None:
        raise UsageError(f"{path} holds questions with their answers: give one question's, {{answer: count}}")
    return [f" {answer}" for answer in answers.known]


def _show(document: dict[str, Any]) -> None:
    from rich.text import Text

    screen = console()
    table = right_aligned("text", "log-likelihood", "tokens", "per token", "share")
    entries = sorted(document["texts"], key=lambda entry: -entry["total"])
    for entry in entries[:_TOP]:
        table.add_row(
            Text(entry["text"]),
            f"{entry['total']:.3f}",
            f"{entry['tokens']:,}",
            f"{entry['mean']:.3f}",
            percent(entry["share"]),
        )
    screen.print(table)
    if others := entries[_TOP:]:
        screen.print(
            f"and {len(others):,} others with {percent(sum(entry['share'] for entry in others))}", style="dim"
        )
    if len(entries) == 1:
        tokens = zip(entries[0]["pieces"], entries[0]["logprobs"], strict=True)
        screen.print("  ".join(f"{piece!r} {value:.3f}" for piece, value in tokens), style="dim")
