"""What the commands share: the decorator that makes a function a command, and output."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken._imports import missing_extra
from outspoken.cli.options import COMMON, DEBUG, QUIET
from outspoken.display import visible
from outspoken.errors import OutspokenError, ReplyError, UnknownNameError, UsageError
from outspoken.io.text import json_bytes, one_line
from outspoken.methods.table import METHODS
from outspoken.templates import names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from outspoken.batch.estimate import JobEstimate
    from outspoken.experiment.runner import GridEstimate

__all__ = [
    "PARTLY",
    "as_json",
    "check_engine",
    "command",
    "command_line",
    "console",
    "make_table",
    "note",
    "note_default",
    "print_json",
    "read_json",
    "show_estimate",
    "show_list",
]

PARTLY = 3
"""The exit code of a command that did a part of its work."""


def command(
    *settings: type[Any], without: Collection[str] = (), quiet: bool = False, offline: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a command, whose errors are one line on standard error and the documented exit code.

    It gets an option for each field of the `settings` classes except those in `without`, the options --quiet and
    --offline if they are True here, and --debug. The function receives the options of settings that the user gave,
    and no others, as its argument `options`: the defaults stay in the settings.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        declared = [
            _parameter(entry)
            for kind in settings
            for entry in fields(kind)
            if entry.name not in without and entry.metadata.get("cli", True)
        ]
        added = {"quiet": quiet, "offline": offline, "debug": True}
        common = [_keyword(name, COMMON[name], False) for name, wanted in added.items() if wanted]

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            for name in added:
                kwargs.pop(name, None)  # their callbacks have set the environment
            if settings:
                given = {parameter.name: kwargs.pop(parameter.name, None) for parameter in declared}
                kwargs["options"] = {name: value for name, value in given.items() if value is not None}
            with _errors_in_one_line():
                function(*args, **kwargs)

        parameters = [*own, *declared, *common]
        guarded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        guarded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return guarded

    return decorate


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        try:
            yield
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error
    except OutspokenError as error:
        if os.environ.get(DEBUG):
            raise
        note(f"error: {one_line(str(error), 1000)}", style="red", error=True)
        if isinstance(error, ReplyError) and error.text.strip():
            note(f"the model wrote: {one_line(error.text, 300)}", error=True)
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader has gone (| head): end quietly, and keep the interpreter from flushing into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        cause = f"{type(error).__name__}: {one_line(str(error), 1000)}"
        note(f"error: this is a fault in outspoken itself ({cause})", error=True)
        note("please report it, with the output of --debug", error=True)
        raise typer.Exit(1) from error


def _keyword(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameter(entry: Field[Any]) -> inspect.Parameter:
    """The option for a field of a settings class; None if the user does not give it."""
    unset = entry.default is MISSING or entry.default is None or entry.default is False
    option = typer.Option(
        *(entry.metadata.get("flags") or ("--" + entry.name.replace("_", "-"),)),
        help=entry.metadata["help"] + ("" if unset else f" (default: {entry.default})"),
        show_default=False,
        autocompletion=_COMPLETIONS.get(entry.name),
    )
    kind = {"int": int, "float": float, "bool": bool}.get(str(entry.type).split(" ")[0], str)
    return _keyword(entry.name, Annotated[kind | None, option], None)


_COMPLETIONS: dict[str, Callable[[str], list[str]]] = {
    "method": lambda incomplete: [name for name in METHODS if name.startswith(incomplete)],
    "template": lambda incomplete: [name for name in names() if name.startswith(incomplete)],
}


def console(*, stderr: bool = False) -> Console:
    """A rich console; without colours and live display if the stream is not a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def make_table(*columns: str, style: str = "bold", right: bool = False) -> Table:
    """A table without lines. With `right`, all columns but the first are numbers, aligned on the right."""
    from rich.table import Table

    table = Table(box=None, header_style=style, padding=(0, 2, 0, 0))
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if right and at else "left", overflow="fold")
    return table


def note(text: str, style: str | None = None, *, error: bool = False) -> None:
    """A line for the user on standard error; with --quiet only an `error` is shown."""
    if error or not os.environ.get(QUIET):
        console(stderr=True).print(visible(text), style=style, soft_wrap=True)


def note_default() -> None:
    """Note that the embedded model is used if no other was named."""
    from outspoken.models import DEFAULT, default_name

    if default_name() == DEFAULT:
        note(f"using {DEFAULT}, a tiny model; name a better one with --model or $OUTSPOKEN_MODEL", style="dim")


def check_engine(engine: str, address: str | None, workers: int | None) -> None:
    """Raise `UsageError` for an unknown engine, and for options of a cluster without --engine ray."""
    if engine not in ("local", "ray"):
        raise UnknownNameError("engine", engine, ("local", "ray"))
    if engine == "local" and (address or workers):
        raise UsageError("--address and --workers belong to --engine ray")


def show_list(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Rows with a name and a text about it: a line for each, or all of their keys as JSON."""
    if as_json:
        print_json(rows)
        return
    for row in rows:
        text = f"{row['title']}: {row['about']}" if "title" in row else row["about"]
        console().print(f"{row['name']:<12} {text}", soft_wrap=True)


def show_estimate(estimate: JobEstimate | GridEstimate, units: str, unpriced: str, *, as_json: bool) -> None:
    """The estimate for `units` ("20 prompts"); the text `unpriced` takes the place of an unknown price."""
    from outspoken.report.format import dollars

    if as_json:
        print_json(estimate.to_dict())
        return
    cost = unpriced if estimate.usd is None else dollars(estimate.usd)
    console().print(
        f"{units} · about {estimate.requests:,} requests ({estimate.from_ledger:,} more are in the ledger) · "
        f"about {estimate.tokens:,} tokens · {cost}",
        soft_wrap=True,
    )
    for line in estimate.assumptions:
        console().print(f"  {line}", style="dim", soft_wrap=True)


def command_line() -> str:
    """The command that the user gave, for a shell."""
    return shlex.join(["outspoken", *sys.argv[1:]])


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, without escaping Unicode."""
    sys.stdout.buffer.write(as_json(document) + b"\n")
    sys.stdout.buffer.flush()


def as_json(document: Any) -> bytes:
    """A JSON document in UTF-8, without escaping Unicode."""
    return json_bytes(document, indent=2, allow_nan=False)


def read_json(path: Path) -> Any:
    """The JSON in a file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
