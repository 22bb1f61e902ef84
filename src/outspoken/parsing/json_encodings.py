"""JSON that is encoded as a whole: its quotes have backslashes, or are entities of HTML or codes of a URL."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote, unquote_plus

from outspoken.parsing.json_escapes import unescape

__all__ = ["encoded_opening", "plain_json"]

_MOST_LEVELS = 3
_FEW = "{1,8}+"
"""Brackets in a row: each position of a text is searched only so far."""
_BLANK = r"(?:\s|\\[nrt])*+"
_BACKSLASHES = re.compile(rf"(?:[\[{{]{_BLANK}){_FEW}\\+(?:\"|u0022)|(?<!\\)\\+u00(?:7[bB]|5[bB]){_BLANK}\\+u00")
_ENTITIES = re.compile(rf"(?:[\[{{]\s*+){_FEW}[\"'“”`]?&(?:quot|apos|#0*34|#0*39|#[xX]22|ldquo|amp;quot);")
_PERCENT = re.compile(r"%(?:7[bB]|5[bB])(?:%0[aAdD]|%20|\+|%7[bB]){0,40}+%22")
_STRING = re.compile(r"(?:[^\"\\]++|\\.)*+", re.DOTALL)
_URL = re.compile(r"[^\s\"'<>`]++")


def encoded_opening(text: str, before: int) -> int:
    """The position at which encoded JSON begins, if that is not after `before` (-1 for the end); or -1."""
    end = before if before >= 0 else len(text)
    patterns = [_BACKSLASHES] if "\\" in text else []
    patterns += [_ENTITIES] if "&" in text else []
    patterns += [_PERCENT] if "%" in text else []
    found = [match.start() for pattern in patterns if (match := pattern.search(text)) is not None]
    first = min(found, default=-1)
    return first if 0 <= first <= end else -1


def plain_json(text: str, start: int) -> tuple[str, int]:
    """The JSON without its encoding, and the position after it in the text."""
    end = len(text)
    if text[start] == "%":
        match = _URL.match(text, start)
        end = match.end() if match is not None else end
        decode = unquote_plus if "%20" not in text[start:end] and "+" in text[start:end] else unquote
        return decode(text[start:end]), end
    if _ENTITIES.match(text, start):
        plain = text[start:]
        for _ in range(_MOST_LEVELS):
            plain = html.unescape(plain)
            if not _ENTITIES.match(plain):
                break
        return plain, end
    match = _STRING.match(text, start)
    end = match.end() if match is not None else end
    plain = text[start:end]
    for _ in range(_MOST_LEVELS):
        plain = unescape(plain, [])
        if not _BACKSLASHES.match(plain):
            break
    return plain, end
