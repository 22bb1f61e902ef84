"""`outspoken score`: how likely a model finds a given text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Debug, Json, Offline
from outspoken.cli.theory_output import right_aligned
from outspoken.errors import UsageError

__all__ = ["score"]

_TOP = 20


@command
def score(
    prompt: Annotated[str, typer.Argument(help="What stands before the text, as it is.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to score behind it, as it is.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="local/FILE.gguf, transformers/NAME, or the URL of a vLLM server.")
    ] = "local/gemma3-270m",
    answers: Annotated[
        Path | None, typer.Option(help="Score these answers: a JSON object whose names they are, {answer: count}.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template: for aligned models.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the distribution over the texts here, as {text: probability}.")
    ] = None,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Tell the log-likelihood of given texts behind a prompt, and the distribution that the model has over them.

    Example: outspoken score "The capital of France is" " Paris" " Lyon" --model local/gemma3-270m
    """
    from outspoken.cli.measure_tables import working
    from outspoken.engine import run
    from outspoken.models import get_model
    from outspoken.theory.answer_likelihoods import likelihoods

    if bool(texts) == (answers is not None):
        raise UsageError("give either texts behind the prompt or a file of answers with --answers, one of the two")
    listed = texts or [] if answers is None else _names(answers)
    with working() as progress:
        found = run(
            likelihoods(
                get_model(model),
                prompt,
                listed,
                chat=chat,
                progress=lambda done, total: progress("scoring", done, total),
            )
        )
    document = {"model": model, "prompt": prompt, "chat": chat, **found.to_dict()}
    if out is not None:
        _write(out, {entry["text"].strip(): entry["share"] for entry in document["texts"]})
    if json:
        print_json(document)
    else:
        _show(document)


def _names(path: Path) -> list[str]:
    """The answers of a file, each behind a space, as a word stands behind a prompt."""
    from outspoken.measure.answer_sets import Answers, load

    answers = load(path)
    if not isinstance(answers, Answers) or answers.known is None:
        raise UsageError(f"{path} holds questions with their answers: give one question's, {{answer: count}}")
    return [f" {answer}" for answer in answers.known]


def _write(path: Path, shares: Mapping[str, float]) -> None:
    import json

    from outspoken.io import atomic

    with atomic.output_errors(path):
        atomic.write_file(path, lambda file: file.write(json.dumps(shares, ensure_ascii=False, indent=1).encode()))
    note(f"the distribution: {path}")


def _show(document: Mapping[str, Any]) -> None:
    from rich.text import Text

    screen = console()
    table = right_aligned("text", "log-likelihood", "tokens", "a token", "share")
    entries = sorted(document["texts"], key=lambda entry: -entry["total"])
    for entry in entries[:_TOP]:
        table.add_row(
            Text(entry["text"]),
            f"{entry['total']:.3f}",
            f"{entry['tokens']:,}",
            f"{entry['mean']:.3f}",
            f"{entry['share']:.1%}",
        )
    screen.print(table)
    if rest := entries[_TOP:]:
        screen.print(f"and {len(rest):,} others with {sum(entry['share'] for entry in rest):.1%}", style="dim")
    if len(entries) == 1:
        tokens = zip(entries[0]["pieces"], entries[0]["logprobs"], strict=True)
        screen.print("  ".join(f"{piece!r} {value:.3f}" for piece, value in tokens), style="dim")
