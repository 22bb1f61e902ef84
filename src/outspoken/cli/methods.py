"""`outspoken methods`: list the methods."""

from __future__ import annotations

from outspoken.cli.common import command, console, print_json
from outspoken.cli.options import Debug, Json

__all__ = ["methods"]


@command
def methods(json: Json = False, debug: Debug = False) -> None:
    """List the methods.

    Example: outspoken methods
    """
    from outspoken.methods.table import METHODS, load_plugins

    load_plugins()
    if json:
        print_json([{"name": name, "about": method.about} for name, method in METHODS.items()])
        return
    for name, method in METHODS.items():
        console().print(f"{name:<12} {method.about}", soft_wrap=True)
