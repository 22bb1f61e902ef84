"""All commands, in the groups that `outspoken --help` shows."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Annotated

import typer

from outspoken._version import __version__
from outspoken.cli import streams
from outspoken.cli.ask import ask
from outspoken.cli.common import errors_in_one_line, print_text
from outspoken.cli.compare import compare
from outspoken.cli.doctor import doctor
from outspoken.cli.evaluate import evaluate
from outspoken.cli.experiment import experiment
from outspoken.cli.gamma import gamma
from outspoken.cli.help import HelpCommand, HelpGroup
from outspoken.cli.ledger import ledger
from outspoken.cli.levels import levels
from outspoken.cli.measure import measure
from outspoken.cli.methods import methods
from outspoken.cli.models import models
from outspoken.cli.parse import parse
from outspoken.cli.run import run
from outspoken.cli.score import score
from outspoken.cli.serve import client_key, serve
from outspoken.cli.sharpen import sharpen
from outspoken.cli.synth import synth
from outspoken.cli.templates import templates
from outspoken.cli.train import train
from outspoken.cli.typicality import typicality
from outspoken.io.signals import leave_on_interrupt

__all__ = ["app", "main"]

app = typer.Typer(
    name="outspoken",
    cls=HelpGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask a language model for a distribution of answers, and draw from it.",
    epilog='Example: outspoken ask "Tell me a joke about coffee"',
)

for group, commands in {
    "Ask": (ask, run, compare, parse),
    "Serve": (serve, client_key),
    "Measure": (measure, experiment),
    "Data and students": (synth, train, evaluate),
    "Theory": (typicality, sharpen, gamma, levels, score),
    "Look up": (methods, templates, doctor),
}.items():
    for command in commands:
        app.command(command.__name__.replace("_", "-"), cls=HelpCommand, rich_help_panel=group)(command)
app.add_typer(models, name="models", rich_help_panel="Look up")
app.add_typer(ledger, name="ledger", rich_help_panel="Look up")


def _version(value: bool) -> None:
    if value:
        print_text(f"outspoken {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    streams.prepare()
    try:
        with errors_in_one_line():
            try:
                app()
            finally:
                sys.stdout.flush()
    except (SystemExit, typer.Exit) as leaving:
        leave_on_interrupt()
        code = leaving.code if isinstance(leaving, SystemExit) else leaving.exit_code
        if "torch" in sys.modules:
            _leave(code)
        sys.exit(code)


def _leave(code: object) -> None:
    """End the process without C++ destructors.

    Those of torch sometimes meet a thread that is still ending, and abort the process after all work is done.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
