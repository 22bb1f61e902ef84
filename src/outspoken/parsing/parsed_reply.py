"""What is read from a reply, and the names of what was mended on the way."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from outspoken.distribution import Verbalized

__all__ = ["REPAIRS", "ParsedReply"]

REPAIRS: Mapping[str, str] = MappingProxyType(
    {
        "as-list": "the candidates were lines of text, numbered, bulleted or labelled",
        "as-mapping": "the candidates were the keys of one object",
        "as-pairs": "the candidates were pairs of text and probability",
        "as-columns": "texts and probabilities stood in two lists",
        "as-table": "the candidates were rows of a table",
        "as-xml": "the candidates were XML elements",
        "bad-escape": "a backslash that begins no valid escape",
        "comment": "comments inside JSON",
        "decoded": "JSON inside a string",
        "empty": "a candidate without text was left out",
        "fenced": "a Markdown code fence around the candidates",
        "guessed": "broken JSON was mended by guessing",
        "inner-quotes": "quotes inside a text were not escaped",
        "missing-brace": "an opening or closing bracket was missing",
        "missing-comma": "a comma was missing",
        "percent": "the probability was a percentage",
        "prefixed": "text before the candidates",
        "python-literal": "Python's quotes, constants or tuples in place of JSON",
        "raw-newline": "a line break or other control character inside a string",
        "several": "the candidates came in several parts",
        "smart-quotes": "typographic quotes as delimiters",
        "suffixed": "text after the candidates",
        "surrogate": "half a surrogate pair, replaced by U+FFFD",
        "text-probability": "the probability was written as text",
        "think-block": "a block of thoughts was taken off",
        "trailing-comma": "a comma too many",
        "truncated": "the reply was cut off; on a candidate: its text was",
        "unclosed-think": "a block of thoughts that never ends",
        "unclosed": "the reply was cut off behind the candidate's text",
        "unquoted": "a key or value without quotes",
        "unreadable-probability": "the stated probability could not be read and counts as missing",
        "weights": "the numbers were weights, divided by their sum",
        "wrong-key": "the candidate's text or probability stood under another key than asked for",
    }
)
"""Every repair that can be recorded, on a reading or on a candidate, and what it means."""


class ParsedReply(NamedTuple):
    """The candidates of one reply in their order, the reasoning before them, and repairs of the reply as a whole.

    What was mended in one candidate stands on that candidate. `REPAIRS` explains every name.
    """

    candidates: tuple[Verbalized, ...]
    reasoning: str = ""
    repairs: tuple[str, ...] = ()
