"""How a response becomes an answer: the table `[normalise]` of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.same_text import text_key

__all__ = ["Normalise"]


@dataclass(frozen=True, slots=True)
class Normalise:
    """A response's text into its answer.

    With `first_line` only the first line that is not blank counts; with `pattern` the first thing in it that the
    regular expression finds (its one group); of what is left the characters in `strip` go from both ends. A text
    in which `pattern` finds nothing stays as it is: it is another answer, and none of the expected ones.
    """

    first_line: bool = False
    pattern: str = ""
    strip: str = ""

    @classmethod
    def read(cls, where: str, table: Mapping[str, Any]) -> Normalise:
        """Raises `UsageError` for an unknown key, a value of the wrong kind, and a pattern without one group."""
        for key, value in table.items():
            if key not in cls.__dataclass_fields__:
                raise UnknownNameError(f"key in [normalise] of {where}:", key, cls.__dataclass_fields__)
            wanted = bool if key == "first_line" else str
            if not isinstance(value, wanted):
                raise UsageError(f"{where}: {key} in [normalise] must be a {wanted.__name__}, not {value!r}")
        made = cls(**table)
        if made.pattern:
            try:
                groups = re.compile(made.pattern).groups
            except re.error as error:
                raise UsageError(
                    f"{where}: the pattern in [normalise] is no regular expression: {error}"
                ) from error
            if groups != 1:
                raise UsageError(f"{where}: the pattern in [normalise] needs exactly one group, and has {groups}")
        return made

    def key(self, text: str) -> str:
        """What two responses must share to be the same answer."""
        return text_key(self(text))

    def __call__(self, text: str) -> str:
        """The answer in a response."""
        if self.first_line:
            text = next((line for line in text.splitlines() if line.strip()), "")
        if self.pattern and (found := re.search(self.pattern, text)) and found[1] is not None:
            text = found[1]
        return text.strip(self.strip + " \t\n\r") if self.strip else text.strip()
