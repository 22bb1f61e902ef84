"""Parsing: from the text of a reply to candidates with stated probabilities.

`reply_parser` decides how a whole reply is read, and `stream` what may be handed out before its end. The other
files read one thing each: JSON (`json_*`, `lenient_*`, `string_ends`, `calls`), tags (`markup`), reasoning and
special tokens (`reasoning`), YAML and TOML (`records`), tables (`tables`, `separated`), running text (`lists` and
what it uses), numbers (`numbers`). The words of many languages are in `words.toml` and `field_names`. This package
may import `distribution` and the layers below. A new way of writing candidates gets a file with a reader and a
place in `reply_parser`; a new repair a row in `candidates.REPAIRS`.
"""

from __future__ import annotations

from outspoken.parsing.candidates import REPAIRS, ParsedReply
from outspoken.parsing.reply_parser import ReplyParser, parse

__all__ = ["REPAIRS", "ParsedReply", "ReplyParser", "parse"]
