"""Turning a response into an answer: the table `[normalise]` of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from outspoken.errors import UnknownNameError, UsageError
from outspoken.same_text import text_key

__all__ = ["Normalise"]


@dataclass(frozen=True, slots=True)
class Normalise:
    """Turns the text of a response into its answer.

    With `first_line` only the first line that is not blank is used. `pattern` is a regular expression with one
    group: the group of its first match is the answer. The characters in `strip` are removed from both ends. A text
    without a match is not changed: it is an answer of its own, and none of the expected ones.
    """

    first_line: bool = False
    pattern: str = ""
    strip: str = ""

    @classmethod
    def read(cls, where: str, table: Mapping[str, object]) -> Normalise:
        """Raises `UsageError` for an unknown key, a value of the wrong kind, and a pattern without one group."""
        for key, value in table.items():
            if key not in cls.__dataclass_fields__:
                raise UnknownNameError(f"key in [normalise] of {where}:", key, cls.__dataclass_fields__)
            kind = bool if key == "first_line" else str
            if not isinstance(value, kind):
                raise UsageError(f"{where}: {key} in [normalise] must be a {kind.__name__}, not {value!r}")
        normalise = cls(**table)  # type: ignore[arg-type]  # the values are checked above
        if normalise.pattern:
            try:
                groups = re.compile(normalise.pattern).groups
            except re.error as error:
                raise UsageError(
                    f"{where}: the pattern in [normalise] is not a regular expression: {error}"
                ) from error
            if groups != 1:
                raise UsageError(f"{where}: the pattern in [normalise] needs exactly one group, and has {groups}")
        return normalise

    def key(self, text: str) -> str:
        """The key of the answer in a response; responses with equal keys are the same answer."""
        return text_key(self(text))

    def __call__(self, text: str) -> str:
        """The answer in a response."""
        if self.first_line:
            text = next((line for line in text.splitlines() if line.strip()), "")
        if self.pattern and (match := re.search(self.pattern, text)) and match[1] is not None:
            text = match[1]
        return text.strip(self.strip + " \t\n\r") if self.strip else text.strip()
