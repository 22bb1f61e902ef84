"""Help pages: typer's on a wide terminal, one column on a narrow one, where its tables would be unreadable."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from outspoken.terminal import writable

__all__ = ["HelpCommand", "HelpGroup"]

_WIDE = 80
_INDENT = " " * 6


class HelpCommand(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperCommand if _narrow(formatter) else HelpCommand, self).format_help(ctx, formatter)

    def get_help(self, ctx: Any) -> str:
        return writable(super().get_help(ctx), sys.stdout.encoding)


class HelpGroup(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperGroup if _narrow(formatter) else HelpGroup, self).format_help(ctx, formatter)

    def get_help(self, ctx: Any) -> str:
        return writable(super().get_help(ctx), sys.stdout.encoding)


def _narrow(formatter: Any) -> bool:
    """Whether the terminal is narrow; then `formatter` is made to write in one column."""
    width = shutil.get_terminal_size().columns
    if width >= _WIDE:
        return False

    def write_list(rows: Iterable[tuple[str, str]], **_: object) -> None:
        for name, about in rows:
            formatter.write(f"  {name}\n")
            lines = textwrap.wrap(about, max(1, width - len(_INDENT)), break_on_hyphens=False)
            formatter.write("".join(f"{_INDENT}{line}\n" for line in lines))

    formatter.width, formatter.write_dl = width, write_list
    return True
