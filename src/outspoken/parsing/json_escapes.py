"""Backslashes in the strings of JSON: which begin an escape, and which were meant as they are written.

Models write `"$\\frac{1}{2}$"` and `"C:\\new"` with one backslash. As JSON that is a form feed or a newline, which
was never meant: such a backslash stays in the text. `\\b`, `\\f` and `\\r` directly before a letter are always
literal, `\\t` and `\\n` where they begin a command of LaTeX or stand in a path of Windows.
"""

from __future__ import annotations

import re

__all__ = ["has_doubtful_escapes", "literal_backslashes", "unescape"]

_HEX = r"[\da-fA-F]"
_NO_LETTER = "(?![A-Za-z])"
# Commands without their first letter that are no words: a tab or a newline before them was not meant.
_SURE = {
    "t": r"(?:heta|imes|ext(?:bf|it|rm|tt|sf|sc|up|normal|style|color|superscript|subscript)|ext(?=\s?\{)|frac"
    r"|binom|herefore|hick(?:sim|approx)|riangle(?:q|left|right|down|lefteq|righteq)?|wohead\w{0,20}|ilde|dplot)",
    "n": r"(?:eq|abla|otin|atural|ewline|ewcommand|onumber|oindent|olimits|ormalsize|earrow|warrow|leq|geq"
    r"|leqslant|geqslant|cong|subset(?:eq)?|supset(?:eq)?|leftarrow|rightarrow|leftrightarrow|triangle(?:left|right)"
    r"|vdash|vDash)",
}
# Commands whose remainder may be a word: they count only among mathematics.
_PERHAPS = {
    "t": "(?:an|anh|au|o|op|ag|t|iny|ext)",
    "n": "(?:e|eg|i|u|ot|mid|less|gtr|exists|parallel|sim|prec|succ|orm|obreak)",
}
_ANY = {letter: rf"(?:{_SURE[letter]}|{_PERHAPS[letter]}){_NO_LETTER}" for letter in "nt"}
_ONLY_SURE = {letter: _SURE[letter] + _NO_LETTER for letter in "nt"}
# Quick: most replies have no such backslash, and many thousands of others.
_PERHAPS_DOUBTFUL = re.compile(
    r"\\(?:[bfrt]|n(?:[eiu][^a-z]|eq|abla|ot|at|e[wag]|o[nilrb]|war|[lg]e|cong|su[bpc]|left|right|tri|v[dD]|mid|less"
    r"|gtr|exi|par|sim|pre|(?<=[:.~]\\n)))"
)
_DOUBTFUL = re.compile(
    rf"\\(?=[bfnrt][A-Za-z])(?<!\\\\)(?:[bfr]|n{_ANY['n']}|t{_ANY['t']}|(?<=[A-Za-z]:\\)[bfnrt]|(?<=[.~]\\)[nt][a-z])"
)


def _proper(commands: dict[str, str], *, never: str = "", pair: str = r"\\") -> re.Pattern[str]:
    """Text up to the first backslash that begins no escape: one before `commands` or the letters `never`."""
    controls = "".join(f"|{letter}{_NO_LETTER}" for letter in "bfr" if letter not in never)
    line = rf"n(?!{commands['n']})|n(?<=\\n\\n)(?!{_ONLY_SURE['n']})"
    tab = rf"t(?!{commands['t']})|t(?<=\\[nt]\\t)(?!{_ONLY_SURE['t']})"
    code = rf"u{_HEX}{{4}}|U{_HEX}{{8}}|x{_HEX}{{2}}|u\{{{_HEX}{{1,6}}\}}"
    return re.compile(rf"((?:[^\\]++|\\(?:[\"'/`\n”“]|{pair}|{code}{controls}|{line}|{tab}))*+)(\\|\Z)")


_CERTAIN = _proper(_ANY)
_ALONE = _proper(_ONLY_SURE)
_AMONG_COMMANDS = _proper(_ANY, never="bf")
_IN_MATRIX = _proper(_ANY, never="bf", pair=r"\\(?=[A-Za-z])")
_DOLLARS = re.compile(r"((?<!\\)\$++)")
_PATH = re.compile(
    r"(?:(?<![A-Za-z0-9])[A-Za-z]:|(?<![^\s\"'(=])(?:~|%\w{1,30}%|\.{1,2}(?=\\(?![xuU][\da-fA-F])[\w.-]{1,80}+(?:\\|\.\w))))(?=\\(?![\\\"]))"
    r"(?:[^\s\\\"<>|*?]|(?<=Program) (?=Files)|(?<=Files) (?=\(x86\)|\(x64\))|\\(?![\\\"]))++"
)
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ESCAPE = re.compile(
    rf"\\(?:(u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}})"
    rf"|(u{_HEX}{{4}}|U{_HEX}{{8}}|x{_HEX}{{2}}|u\{{{_HEX}{{1,6}}\}})|[bfnrt\n\"'\\/`”“])"
)
_SIMPLE = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\b": "\b", "\\f": "\f", "\\\n": ""}
_SIMPLE |= {"\\" + sign: sign for sign in "\"'\\/`”“"}


def has_doubtful_escapes(text: str) -> bool:
    """Whether valid JSON may hold an escape that was meant as a backslash: cheap, and true a little too often."""
    return _PERHAPS_DOUBTFUL.search(text) is not None and _DOUBTFUL.search(text) is not None


def literal_backslashes(text: str) -> str:
    """JSON with a second backslash before each one that begins no escape; its strings are in double quotes."""
    return _STRING.sub(lambda match: _doubled(match[0]), text)


def unescape(body: str, repairs: list[str]) -> str:
    """Decode the escapes of JSON, Python and JavaScript in the inside of a string; what is no escape stays."""
    if "\\" not in body:
        return body
    doubled = _doubled(body)
    if doubled is not body:
        repairs.append("bad-escape")

    def decoded(match: re.Match[str]) -> str:
        simple = _SIMPLE.get(match[0])
        return simple if simple is not None else _character(match[1], match[2], repairs)

    return _ESCAPE.sub(decoded, doubled)


def _character(pair: str | None, code: str, repairs: list[str]) -> str:
    if pair:
        return chr(0x10000 + ((int(pair[1:5], 16) & 0x3FF) << 10) + (int(pair[7:], 16) & 0x3FF))
    point = int(code[1:].strip("{}"), 16)
    if 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
        repairs.append("surrogate")
        return "\ufffd"
    return chr(point)


def _doubled(body: str) -> str:
    """A string with a second backslash before each one that begins no escape; the same object if there is none."""
    if "\\" not in body:
        return body
    written = _PATH.sub(lambda path: path[0].replace("\\", "\\\\"), body)
    if _CERTAIN.match(written).end(1) == len(written):  # type: ignore[union-attr]
        return written if len(written) > len(body) else body
    if _ALONE.match(written).end(1) < len(written):  # type: ignore[union-attr]
        pattern = _IN_MATRIX if "\\begin{" in written else _AMONG_COMMANDS
        return pattern.sub(r"\1\2\2", written)
    if "\\\\" in body:
        # Elsewhere in this text backslashes are escaped as they should be.
        return written if len(written) > len(body) else body
    parts = _DOLLARS.split(written)
    for index in range(2, len(parts) - 2, 4):
        inside, displayed = parts[index], len(parts[index - 1]) > 1
        # A line of displayed mathematics begins with a newline, and its last one ends with one.
        start = 2 if displayed and inside.startswith("\\n") and inside.endswith("\\n") else 0
        parts[index] = inside[:start] + _AMONG_COMMANDS.sub(r"\1\2\2", inside[start:])
    doubled = "".join(parts)
    return doubled if len(doubled) > len(body) else body
