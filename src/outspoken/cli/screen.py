"""A rich console that shows only what the terminal can: no control characters, only what its encoding has."""

from __future__ import annotations

import os
import shutil
from typing import Any

from rich.console import Console
from rich.text import Text

from outspoken.terminal import visible, writable

__all__ = ["Screen"]


class Screen(Console):
    """Standard output, or standard error; without colours and live display if it is not a terminal.

    Texts are shown as they are, without markup, except that what `visible` escapes is escaped.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # For a dumb terminal rich does not look at the size.
        width, height = shutil.get_terminal_size() if os.environ.get("TERM") == "dumb" else (None, None)
        super().__init__(stderr=stderr, width=width, height=height, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self.safe(text), **options)

    def safe(self, text: str) -> str:
        """The text as it is shown."""
        return writable(visible(text), self.encoding)

    @property
    def is_live(self) -> bool:
        """Whether text on it can be replaced."""
        return self.is_terminal and not self.is_dumb_terminal
