"""`outspoken train`: fit a student to data."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.interrupts import exit_when_stopped
from outspoken.cli.options import Json, Overwrite
from outspoken.io.text import plural, read_text
from outspoken.models import DEFAULT
from outspoken.report.format import count, duration, number
from outspoken.training.settings import TrainSettings

if TYPE_CHECKING:
    from outspoken.training.fitting import TrainedStudent
    from outspoken.training.training_data import DataSummary

__all__ = ["train"]


@command(TrainSettings, quiet=True, offline=True)
def train(
    options: dict[str, Any],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="JSON lines or Parquet, or a folder that synth exported. Rows are messages, prompt and "
            "completion, or question and answer; for dpo prompt, chosen and rejected.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="A folder for the model, the loss curve and training.json.", file_okay=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Model to train: local/smollm2, a GGUF file, a folder that transformers reads, a name of the hub."
        ),
    ] = DEFAULT,
    chat_template: Annotated[
        Path | None, typer.Option(help="A file with a chat template, for a model that has none.", dir_okay=False)
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fine-tune a language model on data; the same command continues where it stopped.

    The loss is computed on the answers only. --out gets model/ (weights and tokenizer, adapters merged),
    training.json, loss.html and loss.png.

    Example: outspoken train questions.jsonl --out student --epochs 3
    """
    from outspoken import training
    from outspoken.cli.progress import step_progress

    # A library that prints must not spoil the JSON document.
    with exit_when_stopped(), step_progress() as progress, redirect_stdout(sys.stderr):

        def report(step: int, steps: int, loss: float | None) -> None:
            if loss is None and step:
                note(f"continuing from step {step:,} of {steps:,}")
            progress("training", step, steps, "" if loss is None else f"loss {number(loss)}")

        trained = training.train(
            data,
            out=out,
            model=model,
            chat_template=None if chat_template is None else read_text(chat_template, "chat template"),
            overwrite=overwrite,
            progress=report,
            **options,
        )
    if json:
        print_json({**trained.to_dict(), "model": str(trained.model)})
    else:
        _show(trained)


def _show(trained: TrainedStudent) -> None:
    record, losses = trained.record, trained.losses
    screen = console()
    if trained.trained_before:
        note(f"{trained.model.parent} was trained already: nothing to do (start over with --overwrite)")
    _note_skipped(record.data)
    screen.print(f"{trained.model}", style="bold", soft_wrap=True)
    screen.print(
        f"{plural(record.data.examples, 'example')} · {count(record.steps)} steps · loss {number(losses[0])} to "
        f"{number(losses[-1])} · {count(record.tokens)} tokens · {duration(record.seconds)}",
        style="dim",
        soft_wrap=True,
    )
    note(f"the loss curve: {trained.model.parent / 'loss.html'}")


def _note_skipped(data: DataSummary) -> None:
    if not data.skipped:
        return
    note(f"{sum(data.skipped.values()):,} of {plural(data.rows, 'row')} left out:", style="yellow")
    for reason, number_of_rows in data.skipped.items():
        note(f"  {number_of_rows:,} {reason}")
    first = data.first_skipped[0]
    note(f"  the first: {first.where}: {first.reason}")
