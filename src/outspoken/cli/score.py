"""`outspoken score`: how likely given texts are under a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outspoken.cli.common import as_json, command, console, note, print_json, typed
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Json, Overwrite
from outspoken.cli.theory_output import read_answers
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.report.format import percent
from outspoken.terminal import TextTable

__all__ = ["score"]

_TOP = 20


@command(quiet=True, offline=True)
def score(
    prompt: Annotated[str, typer.Argument(help="The text before the scored text, unchanged.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to score after it, unchanged.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="local/FILE.gguf, transformers/NAME, or the URL of a vLLM server.")
    ] = "local/gemma3-270m",
    answers: Annotated[Path | None, typer.Option(help="Score the answers in a file {answer: count}.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Use the chat template, for aligned models.")] = False,
    out: Annotated[Path | None, typer.Option(help="A file for the distribution {text: probability}.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute the log-likelihood of texts after a prompt, and the model's distribution over these texts.

    Example: outspoken score "The capital of France is" " Paris" " Lyon" --model local/gemma3-270m
    """
    from outspoken.cli.progress import step_progress
    from outspoken.io.atomic import write_bytes
    from outspoken.models import get_model
    from outspoken.theory.answer_likelihoods import likelihoods

    if bool(texts) == (answers is not None):
        raise UsageError("give either texts after the prompt or a file of answers with --answers")
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out} exists: name another file with --out, or replace it with --overwrite")
    # Each answer of a file follows a space, like a word after a prompt.
    prompt, texts = typed(prompt), list(map(typed, texts or []))
    scored = texts if answers is None else [f" {answer}" for answer in read_answers(answers).reference or {}]
    with step_progress() as progress:
        result = run_or_exit(
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
    if json:
        print_json({"model": model, "prompt": prompt, "chat": chat, **document})
    else:
        _show(document)
    if out is not None:
        write_bytes(out, as_json({entry["text"].strip(): entry["share"] for entry in document["texts"]}))
        note(f"the distribution: {out}")


def _show(document: dict[str, Any]) -> None:
    screen = console()
    table = TextTable("text", "log-likelihood", "tokens", "per token", "share", right=True)
    entries = sorted(document["texts"], key=lambda entry: -entry["total"])
    for entry in entries[:_TOP]:
        table.add_row(
            entry["text"],
            f"{entry['total']:.3f}",
            f"{entry['tokens']:,}",
            f"{entry['mean']:.3f}",
            percent(entry["share"]),
        )
    screen.print(table)
    if others := entries[_TOP:]:
        screen.print(
            f"and {plural(len(others), 'other')} with {percent(sum(other['share'] for other in others))}",
            style="dim",
        )
    if len(entries) == 1:
        tokens = zip(entries[0]["pieces"], entries[0]["logprobs"], strict=True)
        screen.print("  ".join(f"{piece!r} {value:.3f}" for piece, value in tokens), style="dim")
