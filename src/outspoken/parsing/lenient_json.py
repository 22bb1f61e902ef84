"""One pass over almost-JSON: Python literals, missing and surplus commas, comments, odd quotes, a missing end.

Text that needs a guess (such as unescaped quotes inside a string) is rejected here, and repaired by `json_text`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from outspoken.parsing.field_names import WEIGHTS, plain

__all__ = ["LenientValue", "relax", "unescape"]

_MAX_DEPTH = 100
_TOKEN = re.compile(
    r"""(?P<blank>\s++)
    |(?P<comment>//[^\n]*+|\#[^\n]*+|/\*)
    |(?P<string>\"\"\"|'''|["'“”„«＂])
    |(?P<sign>[{}\[\](),，:：])
    |(?P<bare>[^\s"'“”„«＂{}\[\](),，:：]++)""",
    re.VERBOSE,
)
_BODY = {
    '"': re.compile(r'((?:[^"\\]++|\\.)*+)("|\\?\Z)', re.DOTALL),
    "'": re.compile(r"((?:[^'\\]++|\\.)*+)('|\\?\Z)", re.DOTALL),
    "“": re.compile(r"((?:[^“”\\]++|\\.)*+)([“”]|\\?\Z)", re.DOTALL),
    "«": re.compile(r"((?:[^»\\]++|\\.)*+)(»|\\?\Z)", re.DOTALL),
    "＂": re.compile(r"((?:[^＂\\]++|\\.)*+)(＂|\\?\Z)", re.DOTALL),
}
_BODY |= {"”": _BODY["“"], "„": _BODY["“"]}
_HEX = r"[\da-fA-F]"
_ESCAPE = re.compile(
    rf"\\(u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}|u{_HEX}{{4}}|U{_HEX}{{8}}|x{_HEX}{{2}}|.)", re.DOTALL
)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "", **{sign: sign for sign in "\"'\\/`"}}
_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_CONSTANTS |= {"TRUE": True, "FALSE": False, "NULL": None, "undefined": None}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,400})?(?:[eE][-+]?\d{1,4})?")
_DECIMAL_COMMA = re.compile(r"(-?\d{1,3},\d{1,20}%?)\s*+(?=[}\n]|,?\s*+\Z|,\s*+[\"'“])")
_CLOSER = {"{": "}", "[": "]", "(": ")"}
_MAX_WORDS_LENGTH = 60


@dataclass(slots=True)
class LenientValue:
    """A value, the position after it, the repairs, and where the text was cut off.

    `cut` is "" for a complete value, "string" if the text ended inside a string, "object" inside an object after
    its last string, "list" between the entries of a list. `partial` is the string that was cut.
    """

    value: Any
    end: int
    repairs: list[str] = field(default_factory=list)
    cut: str = ""
    partial: str | None = None


class _RejectedError(Exception):
    """The text is not almost-JSON."""


def relax(text: str, start: int = 0, *, cut: bool = False) -> LenientValue | None:
    """Read the object, list or tuple that opens at `start`; None if it is not almost-JSON.

    With `cut` the text may end before the value does. Linear in the length of the text.
    """
    try:
        return _Builder(text, start, cut).run()
    except _RejectedError:
        return None


def unescape(body: str, repairs: list[str]) -> str:
    """Decode the escapes of JSON and Python; an unknown escape is left as it is."""
    if "\\" not in body:
        return body

    def decoded(match: re.Match[str]) -> str:
        code = match[1]
        if "\\" in code[1:]:
            return chr(0x10000 + ((int(code[1:5], 16) & 0x3FF) << 10) + (int(code[7:], 16) & 0x3FF))
        if len(code) > 1:
            point = int(code[1:], 16)
            if 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
                repairs.append("surrogate")
                return "\ufffd"
            return chr(point)
        if code in _SIMPLE:
            return _SIMPLE[code]
        repairs.append("bad-escape")
        return match[0]

    return _ESCAPE.sub(decoded, body)


class _Builder:
    """The state of one pass: `open` are the containers around the position, `keys` the current key of each.

    `last` is the kind of the last token: "open", "key", "colon", "value" or "comma". `gap` is true after blanks.
    """

    def __init__(self, text: str, start: int, cut: bool) -> None:
        self.text, self.at, self.may_cut = text, start, cut
        self.open: list[tuple[str, Any]] = []
        self.keys: list[str | None] = []
        self.last = "open"
        self.value: Any = None
        self.gap = False
        self.result = LenientValue(None, start)

    def note(self, repair: str) -> None:
        self.result.repairs.append(repair)

    def run(self) -> LenientValue:
        text, length = self.text, len(self.text)
        while self.at < length:
            match = _TOKEN.match(text, self.at)
            if match is None:
                raise _RejectedError
            kind, token, self.at = match.lastgroup, match[0], match.end()
            if kind == "blank":
                self.gap = True
                continue
            if kind == "comment":
                self.note("comment")
                if token == "/*":
                    end = text.find("*/", self.at)
                    self.at = length if end < 0 else end + 2
                continue
            if kind == "sign":
                self.sign(token)
            elif kind == "string":
                self.string(token)
            else:
                self.bare(token)
            self.gap = False
            if not self.open:
                return self.finish()
        if not self.may_cut or not self.open:
            raise _RejectedError
        if not self.result.cut:
            self.result.cut = "list" if self.open[-1][0] != "{" else "object"
        self.note("truncated")
        return self.finish()

    def finish(self) -> LenientValue:
        result = self.result
        result.value, result.end = self.value, self.at
        result.repairs = list(dict.fromkeys(result.repairs))
        return result

    def sign(self, token: str) -> None:
        if token in "{[(":
            self.before_value()
            self.push(token)
        elif token in "}])":
            self.close(token)
        elif token in ",，":
            self.comma()
        elif self.last == "key":
            self.last = "colon"
        else:
            raise _RejectedError

    def comma(self) -> None:
        if self.last == "key":
            raise _RejectedError
        if self.last == "colon":
            self.put(None)
        if self.last in ("comma", "open"):
            self.note("trailing-comma")
        self.last = "comma" if self.last != "open" else "open"

    def push(self, token: str) -> None:
        if len(self.open) >= _MAX_DEPTH:
            raise _RejectedError
        container: Any = {} if token == "{" else []
        if token == "(":
            self.note("python-literal")
        if self.open:
            self.put(container)
        else:
            self.value = container
        self.open.append((token, container))
        self.keys.append(None)
        self.last = "open"

    def close(self, token: str) -> None:
        if self.last == "comma":
            self.note("trailing-comma")
        if self.last in ("key", "colon") and self.open[-1][0] == "{":
            if self.last == "key":
                raise _RejectedError
            self.put(None)
        closers = [_CLOSER[entry[0]] for entry in self.open[-3:]]
        if token not in closers:
            raise _RejectedError
        while True:
            top = self.open.pop()
            self.keys.pop()
            if _CLOSER[top[0]] == token:
                break
            self.note("missing-brace")
        self.last = "value"

    def before_value(self) -> None:
        if not self.open:
            return
        if self.last == "value":
            self.note("missing-comma")
        if self.open[-1][0] == "{":
            if self.last != "colon":
                raise _RejectedError
        elif self.last == "value" and not self.gap:
            raise _RejectedError

    def put(self, value: Any) -> None:
        kind, container = self.open[-1]
        if kind == "{":
            container[self.keys[-1]] = value
        else:
            container.append(value)
        self.last = "value"

    def string(self, quote: str) -> None:
        if not self.open:
            raise _RejectedError
        if len(quote) == 3:
            body, closed = self.triple_quoted(quote)
        else:
            match = _BODY[quote].match(self.text, self.at)
            if match is None:
                raise _RejectedError
            body, closed, self.at = match[1], bool(match[2]) and match[2] != "\\", match.end()
        if quote[0] == "'" or len(quote) == 3:
            self.note("python-literal")
        elif quote != '"':
            self.note("smart-quotes")
        elif any(sign < " " for sign in body):
            self.note("raw-newline")
        if not closed:
            if not self.may_cut:
                raise _RejectedError
            body = re.sub(r"\\(?:u[\da-fA-F]{0,3})?\Z", "", body)
        value = unescape(body, self.result.repairs)
        if self.open[-1][0] == "{" and self.last != "colon":
            if closed:
                self.key(value)
        else:
            self.before_value()
            if not closed:
                self.result.cut, self.result.partial = "string", value
                if plain(self.keys[-1] or "") in WEIGHTS:
                    return
            self.put(value)

    def triple_quoted(self, quote: str) -> tuple[str, bool]:
        if self.text.startswith((",", ":", "}", "]", " ", "\n"), self.at) and quote[0] == '"':
            raise _RejectedError
        end = self.text.find(quote, self.at)
        start, self.at = self.at, len(self.text) if end < 0 else end + 3
        return self.text[start : end if end >= 0 else None], end >= 0

    def key(self, name: str) -> None:
        if self.last == "key":
            raise _RejectedError
        if self.last == "value":
            self.note("missing-comma")
        container = self.open[-1][1]
        if name == next(iter(container), None):
            self.next_object()
        self.keys[-1] = name
        self.last = "key"

    def next_object(self) -> None:
        """The first key, repeated, begins the next object of a list whose braces are missing."""
        if len(self.open) < 2 or self.open[-2][0] == "{":
            raise _RejectedError
        new: dict[str, object] = {}
        self.open[-2][1].append(new)
        self.open[-1] = ("{", new)
        self.note("missing-brace")

    def bare(self, token: str) -> None:
        if not self.open:
            raise _RejectedError
        if self.open[-1][0] == "{" and self.last != "colon":
            if not self.text[self.at : self.at + 3].lstrip().startswith((":", "：")):
                raise _RejectedError
            self.note("unquoted")
            self.key(token)
            return
        at = self.at - len(token)
        comma = _DECIMAL_COMMA.match(self.text, at) if self.open[-1][0] == "{" else None
        if comma is not None:
            token, self.at = comma[1], comma.end(1)
        self.before_value()
        if self.at == len(self.text):
            # The text was cut here: the digits or the word may be incomplete.
            if self.open[-1][0] == "{":
                self.last = "colon"
            return
        if _NUMBER.fullmatch(token):
            self.put(float(token) if set(token) & set(".eE") else int(token))
        elif token in _CONSTANTS:
            if token not in ("true", "false", "null"):
                self.note("python-literal")
            self.put(_CONSTANTS[token])
        else:
            self.words(at)

    def words(self, start: int) -> None:
        """Unquoted words up to the end of the field: "12%", "about 0.1", "1/4"."""
        stop = re.compile(r"[,}\]\n]").search(self.text, max(self.at, start), start + _MAX_WORDS_LENGTH)
        if stop is None or self.open[-1][0] != "{":
            raise _RejectedError
        word = self.text[max(start, 0) : max(stop.start(), self.at)].strip()
        if any(sign in word for sign in "\"'“”{[("):
            raise _RejectedError
        self.note("unquoted")
        self.put(word)
        self.at = max(stop.start(), self.at)
