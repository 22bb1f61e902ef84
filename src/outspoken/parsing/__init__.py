"""Parsing: from the text of a reply to candidates with stated probabilities.

`reply_parser` decides how a reply is read, whole or while it streams. One file for each thing that is read: JSON
values (`json_values`), JSON in text (`json_text`), almost-JSON (`lenient_json`), lists and tables (`lists`), tags
(`markup`), candidates with their stated probabilities (`candidates`; `outspoken.distribution` turns these into
weights), and the names that models use (`field_names`). It may import `distribution` and what lies below it. A new
way of writing candidates gets a file with a reader and a place in `reply_parser`; a new repair a row in
`candidates.REPAIRS`.
"""

from __future__ import annotations

from outspoken.parsing.candidates import REPAIRS, ParsedReply
from outspoken.parsing.reply_parser import ReplyParser, parse

__all__ = ["REPAIRS", "ParsedReply", "ReplyParser", "parse"]
