"""Reading a reply: candidates with their stated probabilities out of whatever the model wrote."""

from __future__ import annotations

from outspoken.parsing.reading import REPAIRS, Reading
from outspoken.parsing.stream import Reader
from outspoken.parsing.whole import parse

__all__ = ["REPAIRS", "Reader", "Reading", "parse"]
