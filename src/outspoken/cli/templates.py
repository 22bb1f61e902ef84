"""`outspoken templates`: list the templates, or print one."""

from __future__ import annotations

from typing import Annotated

import typer

from outspoken.cli.common import command, print_json, print_source, show_list
from outspoken.cli.options import Json

__all__ = ["templates"]


@command()
def templates(
    name: Annotated[str | None, typer.Argument(help="Print the file of this template.")] = None,
    json: Json = False,
) -> None:
    """List the templates, or print one as a starting point for your own (--template ./mine.toml).

    Example: outspoken templates standard > mine.toml
    """
    from outspoken.templates import load, names, source

    if name is not None:
        text = source(name)
        template = load(name)
        if json:
            print_json({"name": name, "about": template.about, "hash": template.hash, "source": text})
        else:
            print_source(text)
        return
    shipped = map(load, names())
    show_list([{"name": each.name, "about": each.about, "hash": each.hash} for each in shipped], as_json=json)
