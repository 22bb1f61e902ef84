"""Reading a reply: candidates with their stated probabilities out of whatever the model wrote."""

from __future__ import annotations

from outspoken.parsing.parsed_reply import REPAIRS, ParsedReply
from outspoken.parsing.reply_parser import ReplyParser, parse

__all__ = ["REPAIRS", "ParsedReply", "ReplyParser", "parse"]
