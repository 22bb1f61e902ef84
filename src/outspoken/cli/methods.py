"""`outspoken methods`: what there is to ask with."""

from __future__ import annotations

from outspoken.cli.common import command, console, print_json
from outspoken.cli.options import Debug, Json

__all__ = ["methods"]


@command
def methods(json: Json = False, debug: Debug = False) -> None:
    """List the methods.

    Example: outspoken methods
    """
    from outspoken.methods.steps import ABOUT

    if json:
        print_json([{"name": name, "about": about} for name, about in ABOUT.items()])
        return
    for name, about in ABOUT.items():
        console().print(f"{name:<12} {about}", soft_wrap=True)
