"""What the commands share: errors in one line, options made from settings, output."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from outspoken._imports import missing_extra
from outspoken.cli.options import DEBUG, QUIET
from outspoken.errors import OutspokenError, ReplyError, UnknownNameError, UsageError
from outspoken.io.text import json_bytes, one_line
from outspoken.methods.table import METHODS
from outspoken.templates import names

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "as_json",
    "check_engine",
    "command",
    "console",
    "note",
    "note_default",
    "print_json",
    "read_json",
    "with_settings",
]


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors of the package into one line on standard error and the documented exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            try:
                function(*args, **kwargs)
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
            note("please report it, with what --debug prints", error=True)
            raise typer.Exit(1) from error

    return guarded


def with_settings(
    *classes: type[Any], without: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each field of these settings classes, `without` some.

    The command receives the options that the user gave, and no others, as its argument `options`: the defaults
    stay in the settings.
    """
    return functools.partial(_with_settings, classes, without)


def _with_settings(
    classes: Iterable[type[Any]], without: Collection[str], function: Callable[..., Any]
) -> Callable[..., Any]:
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    types = {name: kind for each in classes for name, kind in get_type_hints(each).items()}
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    made = []
    for entry in [entry for each in classes for entry in fields(each)]:
        if entry.name in without or not entry.metadata.get("cli", True):
            continue
        flags = entry.metadata.get("flags") or ("--" + entry.name.replace("_", "-"),)
        default = entry.default if entry.default is not MISSING else None
        shown = "" if default is None or default is False else f" (default: {default})"
        kind = {"int": int, "float": float, "bool": bool}.get(_plain(types[entry.name]), str)
        option = typer.Option(
            *flags,
            help=entry.metadata["help"] + shown,
            show_default=False,
            autocompletion=_COMPLETIONS.get(entry.name),
        )
        hints[entry.name] = Annotated[kind | None, option]
        made.append(inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None))

    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in made}
        return function(**kwargs, options={name: value for name, value in given.items() if value is not None})

    hints.pop("options")
    wrapper.__annotations__ = hints
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            for parameter in (*own, *made)
        ]
    )
    return wrapper


def _methods(incomplete: str) -> list[str]:
    return [name for name in METHODS if name.startswith(incomplete)]


def _templates(incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


_COMPLETIONS: dict[str, Callable[[str], list[str]]] = {"method": _methods, "template": _templates}


def _plain(kind: Any) -> str:
    """The name of the type inside an optional one."""
    inner = [part for part in getattr(kind, "__args__", (kind,)) if part is not type(None)]
    return getattr(inner[0], "__name__", "str")


def console(*, stderr: bool = False) -> Console:
    """A rich console; without colours and live display if the stream is not a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


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
