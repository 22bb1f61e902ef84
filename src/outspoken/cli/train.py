"""`outspoken train`: a student is fitted to data."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json, with_settings
from outspoken.cli.options import Debug, Json, Offline
from outspoken.errors import StoppedError, UsageError
from outspoken.models import DEFAULT
from outspoken.training.settings import TrainSettings

if TYPE_CHECKING:
    from outspoken.training.fitting import Progress, TrainedStudent

__all__ = ["train"]

_INTERRUPTED = 130
_PLAIN_SECONDS = 10.0


@command
@with_settings(TrainSettings)
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
            help="What to start from: local/smollm2, a GGUF file, a folder that transformers reads, or a name of "
            "the hub."
        ),
    ] = DEFAULT,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="sft: learn the answers; dpo: learn which of two is preferred. Default: sft."
        ),
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train low-rank adapters and not all weights.")] = False,
    chat_template: Annotated[
        Path | None, typer.Option(help="A file with a chat template, for a model that has none.", dir_okay=False)
    ] = None,
    packing: Annotated[
        bool, typer.Option("--packing", help="Put several short examples into one row (GPUs with FlashAttention).")
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations twice, to need less memory.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over: what an earlier training wrote into --out is removed.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Fine-tune a language model on data; the same command goes on where it was stopped.

    The loss is on the answers alone. --out gets model/ (weights and tokenizer, adapters merged), training.json,
    loss.html and loss.png.

    Example: outspoken train questions.jsonl --out student --epochs 3
    """
    from outspoken import training

    given = {**options, **({"method": method} if method else {})}
    given |= {name: True for name, on in (("lora", lora), ("packing", packing), ("recompute", recompute)) if on}
    try:
        # The libraries are many, and one that prints must not spoil the document.
        with _shown() as progress, redirect_stdout(sys.stderr):
            trained = training.train(
                data,
                out=out,
                model=model,
                chat_template=None if chat_template is None else _text(chat_template),
                overwrite=overwrite,
                offline=offline,
                progress=progress,
                **given,
            )
    except StoppedError as error:
        note(str(error))
        raise typer.Exit(_INTERRUPTED) from error
    if json:
        print_json({**trained.to_dict(), "model": str(trained.model)})
    else:
        _show(trained)


def _show(trained: TrainedStudent) -> None:
    document = trained.document
    losses = trained.losses
    screen = console()
    if trained.before:
        note(f"{trained.model.parent} was trained already: nothing to do (start over with --overwrite)")
    _tell_skipped(document["data"])
    screen.print(f"{trained.model}", style="bold", soft_wrap=True)
    screen.print(
        f"{document['data']['examples']:,} examples · {document['steps']:,} steps · loss {losses[0]:.3f} to "
        f"{losses[-1]:.3f} · {document['tokens']:,} tokens · {document['seconds']:,.1f} s",
        style="dim",
        soft_wrap=True,
    )
    note(f"the loss curve: {trained.model.parent / 'loss.html'}")


def _tell_skipped(data: Mapping[str, Any]) -> None:
    if not data["skipped"]:
        return
    note(f"{sum(data['skipped'].values()):,} of {data['rows']:,} rows were left out:", style="yellow")
    for reason, count in data["skipped"].items():
        note(f"  {count:,} {reason}")
    first = data["first_skipped"][0]
    note(f"  the first: {first['where']}: {first['reason']}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the chat template {path}: {error}") from error


@contextmanager
def _shown() -> Iterator[Progress]:
    """Steps and loss: a bar in a terminal, elsewhere a line now and then."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    screen = console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("", total=None, loss="")
        told = time.monotonic()

        def update(step: int, steps: int, loss: float | None) -> None:
            nonlocal told
            words = "" if loss is None else f"loss {loss:.3f}"
            bars.update(task, completed=step, total=steps, loss=words)
            if not screen.is_terminal and time.monotonic() - told > _PLAIN_SECONDS:
                told = time.monotonic()
                note(f"step {step:,}/{steps:,} {words}")

        yield update
