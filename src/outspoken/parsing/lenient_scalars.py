"""The strings, numbers and words of almost-JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from outspoken.parsing.calls import Fields
from outspoken.parsing.json_escapes import unescape
from outspoken.parsing.json_signs import BLANK, CLOSERS, CLOSING_QUOTES, COMMAS, is_known, key_at, weight_name
from outspoken.parsing.string_context import Place
from outspoken.parsing.string_ends import StringEnds

__all__ = ["BARE", "NOTHING", "LenientValue", "ScalarReader"]

_SKIP = re.compile(
    rf"(?:[{BLANK}]++|(//[^\n]*+|\#(?!\w+\s*=>)[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)|--\s[^\n]*+"
    r"|<!--(?:[^-]++|-(?!->))*+(?:-->|\Z)|\.{3}|…))*+"
)
_END_OF_WORD = rf"(?=[{BLANK}]*+(?:[{COMMAS}}}\]）)｝］+\#]|//|/\*|\Z)|[{BLANK}]++[\"'“{{\[]|[^\S\n]*+\n)"
BARE = re.compile(
    r"(?P<prefix>[rbfuRBFU]{1,2}(?=[\"']))"
    r"|(?P<call>(?:new\s{1,9})?[^\W\d][\w.:]{0,60}+\()"
    r"|(?P<number>[-+]?(?:0[xX][\da-fA-F]{1,12}"
    r"|(?:\d{1,16}+(?:_\d{1,9}+){0,5}+(?:\.\d{0,400}+)?|\.\d{1,400}+)(?:[eE][-+]?\d{1,4}+)?)[fFdDL]?)"
    + _END_OF_WORD
    + r"|(?P<constant>true|false|null|True|False|None|TRUE|FALSE|NULL|undefined|nil)(?!\w)"
    + _END_OF_WORD
)
"""A value without quotes or brackets of its own: the beginning of a string or a call, a number, a constant."""

_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_CONSTANTS |= {"TRUE": True, "FALSE": False, "NULL": None, "undefined": None, "nil": None}
_STRICT_NUMBER = re.compile(r"-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d++)?")
_WORDS = re.compile(rf"[^{COMMAS}}}\]｝］\n]++")
_WEIGHT = re.compile(r"(?:[^,，،;}\]｝］\n]++|[,，،](?=\d))++")
_STRAY_BEFORE_STRING = re.compile(
    r"[^\s\"'“”‘’`«»,;:{}\[\]()](?=[\"“「『])|[^\w\s\"'“”‘’`«»,;:{}\[\]()](?=')|\d(?=')"
)
_END_OF_KEY = re.compile(r"[\"”]\s*+[:：]")
# The rest of a string whose first quote is missing.
_REST_OF_STRING = re.compile(r"(?:[^\"“”'\[\]{}\n]|'(?=\w)){1,400}+[\"”'](?=\s*+[,，)\]}])")
_OPENING = re.compile(r"[({\[]\s*+[\"']")
_DECIMAL_COMMA = re.compile(r"[,，]\d")
_JUNK = re.compile(rf"[^{COMMAS}{{}}\[\]｛｝［］()（）\n\"'“”„«»「」『』]*+")
_JOINT = re.compile(rf"[{BLANK}]*+(\+|\.\.)?[{BLANK}]*+([rbfuRBFU]{{0,2}})(?=[\"'`“])")
_CONTROL = re.compile(r"[\x00-\x1f]")
_PARTIAL_ESCAPE = re.compile(r"\\(?:u[\da-fA-F]{0,3})?\Z")


@dataclass(slots=True)
class LenientValue:
    """A value, the position after it, the repairs, and where the text was cut off.

    `cut` is "" for a complete value, "string" if the text ended inside a string, "object" inside an object after
    its last string, "list" between the entries of a list. `partial` is the string that was cut. The repairs of one
    object are in its `Fields`. `texts` are the spans of strings that had no clear end.
    """

    value: Any
    end: int
    repairs: list[str] = field(default_factory=list)
    cut: str = ""
    partial: str | None = None
    texts: list[tuple[int, int]] = field(default_factory=list)


class _Nothing:
    """No value: there are only signs that belong to none."""


NOTHING = _Nothing()


class ScalarReader:
    """A position in a text, what was repaired before it, and the values that are no containers.

    `closers` are the signs that end the containers around the position, `inner` the objects among them.
    """

    def __init__(self, text: str, start: int, ends: StringEnds) -> None:
        self.text, self.at = text, start
        self.ends = ends
        self.closers: list[str] = []
        self.inner: list[Fields] = []
        self.result = LenientValue(None, start)

    @property
    def repairs(self) -> list[str]:
        """Where repairs at this position are recorded: with the object around it."""
        return self.inner[-1].repairs if self.inner else self.result.repairs

    def note(self, repair: str) -> None:
        repairs = self.repairs
        if repair not in repairs:
            repairs.append(repair)

    def skip(self) -> str:
        """Pass over blanks and comments; returns the next sign, or "" at the end of the text or its fence."""
        match = _SKIP.match(self.text, self.at)
        assert match is not None
        self.ends.work -= 2 + (match.end() - self.at) // 100
        if match[1] is not None:
            self.note("skipped" if match[1] in ("...", "…") else "comment")
        self.at = match.end()
        sign = self.text[self.at : self.at + 1]
        if self.ends.work < 0 or (sign == "`" and self.text.startswith("```", self.at)):
            return ""
        return sign

    def after_blanks(self, at: int) -> int:
        """The position after blanks and comments."""
        match = _SKIP.match(self.text, at)
        assert match is not None
        self.ends.work -= (match.end() - at) // 100
        return match.end()

    def cut(self, kind: str) -> None:
        if not self.result.cut:
            unread = self.ends.work < 0
            self.result.cut = "list" if unread else kind
            self.result.repairs.append("unread" if unread else "truncated")

    def junk(self) -> None:
        """Pass over what cannot be read, up to the next sign that may begin or end something."""
        match = _JUNK.match(self.text, self.at)
        assert match is not None
        self.ends.work -= 4 + (match.end() - self.at) // 100
        self.at = max(match.end(), self.at + 1)
        self.note("skipped")

    def bare(self, match: re.Match[str], role: str, key: str) -> Any:
        """A number, a constant, or a string after its prefix."""
        self.ends.work -= 3
        kind, token = match.lastgroup, match[0]
        self.at = match.end()
        if kind == "prefix":
            self.note("python-literal")
            return self.string(role, key, raw="r" in token.lower())
        if self.at == len(self.text):
            # The text was cut here: the digits or the word may be incomplete.
            self.cut("list" if role == "item" else "object")
            return NOTHING
        if kind == "constant":
            if token not in ("true", "false", "null"):
                self.note("python-literal")
            return _CONSTANTS[token]
        if role == "value" and _DECIMAL_COMMA.match(self.text, self.at):
            self.at = match.start()
            return self.words(role, "probability")
        return self.number(token)

    def number(self, token: str) -> int | float | str:
        if token.strip("0+-") == ".":
            # A number that was cut: 0.
            return token
        if not _STRICT_NUMBER.fullmatch(token):
            self.note("unquoted")
        if "x" in token or "X" in token:
            return int(token, 16)
        token = token.rstrip("fFdDL")
        return float(token) if set(token) & set(".eE") else int(token)

    def words(self, role: str, key: str) -> Any:
        """Unquoted words up to the end of the field: 12%, about 0.1, 1/4, Paris."""
        text, start = self.text, self.at
        if (stray := _STRAY_BEFORE_STRING.match(text, start)) is not None:
            self.at = stray.end()
            self.note("skipped")
            return self.string(role, key)
        match = (_WEIGHT if weight_name(key) is not None else _WORDS).match(text, start)
        if match is None:
            return NOTHING
        end = match.end()
        self.ends.work -= (end - start) // 40
        if (
            role != "value"
            and (opening := _OPENING.search(text, start, end)) is not None
            and opening.start() > start
        ):
            end = opening.start()
        elif (
            role != "value" and text[start].isalpha() and (rest := _REST_OF_STRING.match(text, start)) is not None
        ):
            end = rest.end()
            self.note("missing-quote")
        while role == "value" and weight_name(key) is None and text[end : end + 1] in tuple(COMMAS):
            after = self.after_blanks(end + 1)
            if after >= len(text) or text[after] in CLOSERS or self.continues(after):
                break
            if text[after] in CLOSING_QUOTES and text[start].isdigit():
                break
            more = _WORDS.match(text, end + 1)
            self.ends.work -= 2 + (more.end() - end) // 40 if more is not None else 2
            end = more.end() if more is not None else end + 1
        self.at = end
        if end == len(text):
            self.cut("object" if role == "value" else "list")
            return NOTHING
        self.note("unquoted")
        if _OPENING.search(text, start, end) is not None:
            self.note("guessed")
        if _END_OF_KEY.search(text, start, end) is not None:
            self.note("missing-quote")
        word = text[start:end].strip()
        if word[-1:] in ('"', "”", "'") and word[:1] not in CLOSING_QUOTES:
            word = word[:-1].rstrip()
        return word or NOTHING

    def continues(self, at: int) -> bool:
        """Whether the next field begins at a position, and not a part of unquoted words with a colon in it."""
        key = key_at(self.text, at)
        return key is not None and (not key.bare or is_known(key.name) or "unquoted" in self.repairs)

    def string(self, role: str, key: str = "", *, raw: bool = False) -> Any:
        """A string, and those that are joined to it."""
        value = self.one_string(role, key, raw=raw)
        while isinstance(value, str) and not self.result.cut and self.ends.work > 0:
            match = _JOINT.match(self.text, self.at)
            in_call = bool(self.closers) and self.closers[-1] == ")"
            if match is None or not (match[1] or in_call or ("\n" in match[0] and role == "value")):
                break
            if key_at(self.text, match.end()):
                break
            self.at = match.end()
            more = self.one_string(role, key, raw="r" in match[2].lower())
            self.note("python-literal")
            if not isinstance(more, str):
                break
            value += more
        return value

    def one_string(self, role: str, key: str, *, raw: bool = False) -> Any:
        text, quote = self.text, self.text[self.at]
        self.ends.work -= 8
        if quote in "\"'`" and (triple := self.triple_quoted(quote * 3)) is not None:
            start, end, repair = triple
        else:
            start = self.at + 1
            inner = self.inner[-1] if self.inner else Fields()
            place = Place(role, self.closers, next(iter(inner), key or None), inner)
            end, self.at, repair = self.ends.find(start, CLOSING_QUOTES[quote], place)
            if quote in "'`":
                self.note("python-literal")
            elif quote != '"':
                self.note("smart-quotes")
            elif _CONTROL.search(text, start, end):
                self.note("raw-newline")
        body = text[start:end]
        if repair == "truncated":
            self.cut("string")
            body = _PARTIAL_ESCAPE.sub("", body)
        elif repair:
            self.note(repair)
            self.result.texts.append((start, end))
        value = body if raw else unescape(body, self.repairs)
        if repair == "truncated":
            self.result.partial = value
            if weight_name(key) is not None:
                return NOTHING
        return value

    def triple_quoted(self, quote: str) -> tuple[int, int, str] | None:
        """The inside of a string in triple quotes at the position, or None."""
        text, start = self.text, self.at + 3
        if not text.startswith(quote, self.at) or text[start : start + 1] in tuple(",:}]"):
            return None
        end = text.find(quote, start)
        if end < 0 and quote[0] == '"' and text.find('"', start) >= 0:
            return None
        while end >= 0 and text[end + 3 : end + 4] == quote[0]:
            end += 1
        self.note("python-literal")
        self.at = len(text) if end < 0 else end + 3
        return (start, len(text), "truncated") if end < 0 else (start, end, "")
