"""Reading a reply: candidates with their stated probabilities out of whatever the model wrote."""

from __future__ import annotations

from outspoken.parsing.parsed_reply import REPAIRS, Reading
from outspoken.parsing.reply_parser import Reader, parse

__all__ = ["REPAIRS", "Reader", "Reading", "parse"]
