"""What the commands share: the decorator that makes a function a command, and output."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken._imports import missing_extra
from outspoken.cli.options import COMMON, DEBUG, QUIET
from outspoken.cli.streams import ReaderGoneError
from outspoken.errors import OutspokenError, ReplyError, UnknownNameError, UsageError
from outspoken.io.atomic import reason_of
from outspoken.io.open_files import raise_file_limit
from outspoken.io.signals import INTERRUPTED, leave_on_interrupt
from outspoken.io.text import decoded, json_bytes, one_line, plural
from outspoken.methods.table import METHODS
from outspoken.templates import names
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.batch.estimate import JobEstimate
    from outspoken.cli.screen import Screen
    from outspoken.experiment.runner import GridEstimate

__all__ = [
    "PARTLY",
    "as_json",
    "check_engine",
    "command",
    "command_line",
    "console",
    "errors_in_one_line",
    "note",
    "note_default",
    "print_json",
    "print_source",
    "print_text",
    "read_standard_input",
    "show_estimate",
    "show_list",
    "typed",
    "write_json",
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
            with errors_in_one_line():
                if os.environ.get(DEBUG):
                    _log_requests()
                raise_file_limit()
                function(*args, **kwargs)

        parameters = [*own, *declared, *common]
        guarded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        guarded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return guarded

    return decorate


def _log_requests() -> None:
    """Show on standard error what is sent to models and what comes back."""
    import logging

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("outspoken").setLevel(logging.DEBUG)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Show an error in the block as one line, and exit with the documented code."""
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
        leave_on_interrupt()  # the note may take a moment
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except ReaderGoneError:
        raise typer.Exit(0) from None
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if isinstance(error, OSError) and error.filename is not None:
            note(f"error: {error.filename} cannot be used: {reason_of(error)}; name another file", error=True)
            raise typer.Exit(1) from error
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


def console(*, stderr: bool = False) -> Screen:
    """The screen on which a command shows its results, or with `stderr` its notes."""
    from outspoken.cli.screen import Screen

    return Screen(stderr=stderr)


def note(text: str, style: str | None = None, *, error: bool = False) -> None:
    """A line for the user on standard error; with --quiet only an `error` is shown."""
    if error or not os.environ.get(QUIET):
        console(stderr=True).print(text, style=style, soft_wrap=True)


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
    screen, table = console(), TextTable("", "")
    for row in rows:
        text = f"{row['title']}: {row['about']}" if "title" in row else str(row["about"])
        table.add_row(str(row["name"]), text)
        if not screen.is_terminal:  # a program that reads the list finds each row on a line
            screen.print(f"{row['name']:<12} {text}", soft_wrap=True)
    if screen.is_terminal:
        screen.print(table)


def show_estimate(estimate: JobEstimate | GridEstimate, units: str, unpriced: str, *, as_json: bool) -> None:
    """The estimate for `units` ("20 prompts"); the text `unpriced` takes the place of an unknown price."""
    from outspoken.report.format import dollars

    if as_json:
        print_json(estimate.to_dict())
        return
    cost = unpriced if estimate.usd is None else dollars(estimate.usd)
    console().print(
        f"{units} · about {plural(estimate.requests, 'request')} ({estimate.from_ledger:,} more in the ledger) · "
        f"about {plural(estimate.tokens, 'token')} · {cost}",
        soft_wrap=True,
    )
    for line in estimate.assumptions:
        console().print(f"  {line}", style="dim", soft_wrap=True)


def command_line() -> str:
    """The command that the user gave, for a shell."""
    return shlex.join(["outspoken", *sys.argv[1:]])


def read_standard_input() -> str:
    """The text that is piped in, with line feeds as its line ends. Raises `UsageError` for what is no text."""
    text = decoded(sys.stdin.buffer.read(), "standard input")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def typed(text: str) -> str:
    """A text that was given as an argument. A locale without UTF-8 leaves halves of surrogate pairs in it.

    Raises `UsageError` for what is not UTF-8.
    """
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        return decoded(os.fsencode(text), f"the argument {text}")


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    write_json(as_json(document))


def write_json(document: bytes) -> None:
    """Write a JSON document in UTF-8 on standard output, with JSON's escapes if that has another encoding."""
    text = document.decode()
    if not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        text = re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_text(text: str, *, end: str = "\n") -> None:
    """Print a text: as it is, except that what could change a terminal is escaped on one."""
    if sys.stdout.isatty():
        console().print(text, soft_wrap=True, end=end)
    else:
        sys.stdout.write(text + end)
        sys.stdout.flush()


def print_source(text: str) -> None:
    """Print the text of a file: in UTF-8, as files are, unless it is shown on a terminal."""
    if sys.stdout.isatty():
        print_text(text, end="")
    else:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def as_json(document: Any) -> bytes:
    """A JSON document in UTF-8, without escaping Unicode."""
    return json_bytes(document, indent=2, allow_nan=False)
