"""Parsing: from the text of a reply to candidates with stated probabilities.

`reply_parser` decides how a reply is read, whole or while it streams. The other files read one thing each: JSON
values (`json_values`), JSON in text (`json_text`), almost-JSON (`lenient_json`), lists and tables (`lists`), tags
(`markup`), stated probabilities (`candidates`), and the names that models use (`field_names`). It may import
`distribution` and the layers below. A new way of writing candidates gets a file with a reader and a place in
`reply_parser`; a new repair a row in `candidates.REPAIRS`.
"""

from __future__ import annotations

from outspoken.parsing.candidates import REPAIRS, ParsedReply
from outspoken.parsing.reply_parser import ReplyParser, parse

__all__ = ["REPAIRS", "ParsedReply", "ReplyParser", "parse"]
