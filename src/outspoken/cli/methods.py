"""`outspoken methods`: list the methods."""

from __future__ import annotations

from outspoken.cli.common import command, show_list
from outspoken.cli.options import Json

__all__ = ["methods"]


@command()
def methods(json: Json = False) -> None:
    """List the methods.

    Example: outspoken methods
    """
    from outspoken.methods.table import METHODS, load_plugins

    load_plugins()
    show_list([{"name": name, "about": method.about} for name, method in METHODS.items()], as_json=json)
