"""What begins an entry in running text: a label ("Response 1:"), a number, a heading, a bullet, a field."""

from __future__ import annotations

import re
from typing import NamedTuple

from outspoken.parsing.field_names import ANY_WEIGHT_LABEL, LISTS, QUESTIONS, REASONING, TEXTS, plain
from outspoken.parsing.words import pattern

__all__ = [
    "FIELD",
    "KINDS",
    "Marker",
    "begins_entry",
    "heading_level",
    "is_rule",
    "marker_of",
    "strip_ornaments",
    "without_quote",
]

_NAME = f"(?:{pattern('labels', grouped=True)})"
_ORDINALS = pattern("ordinals")
_CJK_NUMERAL = "[一二三四五六七八九十〇两壹贰叁]{1,3}"
_STARS = r"[*_]{0,3}"
_LEAD = (
    r"[ \t]{0,12}[\])}>,;:'`´”’\\/|.]{0,2}(?:>[ \t]?){0,2}(?:[-*+•‣▪◦·–—][ \t]+)?"
    r"(?:#{1,6}[ \t]*)?[*_\"'`]{0,3}[ \t]?"
)
_EMOJI = r"(?:[\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]\ufe0f?[ \t]*){0,3}"
_AFTER_LABEL = rf"[\])】〕」』>＞}}]?{_STARS}"
_LABEL = re.compile(
    rf"{_LEAD}{_EMOJI}[*_]{{0,3}}[\[(【〔「『<＜{{]?[*_]{{0,2}}(?:{_NAME}s?)[\s_]{{0,2}}(?:no\.|nr\.|n[°ºo]\.?|№|number)?\s?[#＃(（]?"
    rf"(?:(?P<digits>\d{{1,4}})(?![\w%])(?![.,]\d)|(?<=[\s_#])(?P<letter>(?-i:[A-Z]))(?=[\s:：.)）(（*\]】—–-]|$)"
    rf"|(?<=[\s_#])(?P<roman>(?-i:[IVX]{{2,5}}))(?=[\s:：.)(*\]—–-]|$)|(?P<cjk>{_CJK_NUMERAL})(?=[\s:：（(、。.】」*]|$)"
    rf"|(?P<word>one|two|three|four|five|six|seven|eight|nine|ten|eins|zwei|drei|vier|fünf|uno|dos|tres|cuatro"
    rf"|cinco|un|deux|trois|quatre|cinq)(?!\w))[)）]?(?:\s?(?:of|/|von|de|sur|из)\s?\d{{1,3}})?(?:번)?"
    rf"{_AFTER_LABEL}",
    re.IGNORECASE,
)
_ORDINAL = re.compile(
    rf"{_LEAD}{_EMOJI}[【\[]?(?:(?:第\s?(?P<digits>\d{{1,3}}|{_CJK_NUMERAL})\s?(?:[个個种種条條則则句首案項项段]|つ目"
    rf"|番目)?の?(?:{_NAME})?)"
    rf"|(?P<kana>\d{{1,2}})(?:つ目|番目)(?:の(?:{_NAME})?)?|(?:{_NAME})(?:その)?(?P<no>{_CJK_NUMERAL})|(?:첫|두|세|네|다섯"
    rf"|여섯)\s?번째(?:\s?(?:{_NAME}))?"
    rf"|(?:{_ORDINALS})\s(?:{_NAME})|(?:{_NAME})\s(?:{_ORDINALS}))"
    rf"{_AFTER_LABEL}(?=\s{{0,2}}[:：（(\-–—、，,=.*]|\s*$)",
    re.IGNORECASE,
)
_DYNAMIC = re.compile(
    rf"{_LEAD}[\[(【<]?(?P<name>[^\W\d_]{{1,24}}(?:[ _-][^\W\d_]{{1,24}}){{0,2}}?)"
    rf"[\s_#]{{0,2}}(?P<digits>\d{{1,3}})[\])】>]?{_STARS}(?=\s{{0,2}}(?:[:：（(\-–—=|*]|\.\s|$))"
)
_NUMBER = re.compile(
    r"[ \t]{0,12}(?:>[ \t]?){0,2}(?:[-*+•][ \t]+(?=[*_]{0,3}[(（]?\d))?(?:#{1,6}[ \t]*)?"
    r"[*_]{0,3}[ \t]?(?:#(?=\d))?[(（\[【]?(?P<digits>\d{1,4})(?:번|번째|番|号|號)?"
    rf"(?:(?<=#\d)(?=\s\S)|(?<=#\d\d)(?=\s\S)|[.:：．]{_STARS}(?![\d%])|[)）\]】、｡]{_STARS}(?!%)|\s?[-–—](?=\s)|(?:\ufe0f?\u20e3)\.?)[)）:：.、]?{_STARS}"
)
_CIRCLED = re.compile(
    rf"[ \t]{{0,12}}(?:#{{1,6}}[ \t]*)?[*_]{{0,3}}"
    rf"(?P<sign>[①-⑳➀-➓❶-❿⓵-⓾㈠-㈩㊀-㊉🅐-🅩]|[\U0001f51f]){_STARS}[.、:：)]?"
)
_CJK = re.compile(
    rf"[ \t]{{0,12}}(?:#{{1,6}}[ \t]*)?[*_]{{0,3}}(?:[（(【](?P<in>{_CJK_NUMERAL})[)）】][、.．:：]?"
    rf"|(?P<out>{_CJK_NUMERAL})[、.．:：，])"
    rf"{_STARS}|[ \t]{{0,12}}[*_]{{0,3}}其(?P<its>{_CJK_NUMERAL})[、：:，]{_STARS}"
)
_LETTER = re.compile(
    rf"[ \t]{{0,12}}(?:#{{1,6}}[ \t]*)?[*_]{{0,3}}(?:[(（\[](?P<closed>[A-Za-zА-Яа-яΑ-Ωα-ωא-תأ-ي]|[ivx]{{1,5}}"
    rf"|[IVX]{{1,5}})[)）\]][.:：]?|(?P<letter>[A-Za-zА-Яа-яα-ωΑ-Ωא-תأبجدهو가나다라마바사아])[.)）、]|(?P<colon>[A-H])[:：]"
    rf"|(?P<roman>[ivx]{{2,5}}|[IVX]{{2,5}})[.)])"
    rf"{_STARS}(?=[\s（(「『\"“*]|$)"
)
_BULLET = re.compile(
    r"[ \t]{0,12}(?:[-*+](?=[ \t])|[•‣·–—◦▪●○■□►▶▸➤➜→✓✔★☆◆❖✦✧⁃∙・]"
    r"|<li>"
    r"|[\U0001f539\U0001f538\U0001f449\U0001f537\U0001f536\U0001f4a1✨🔸☕])\ufe0f?[ \t]*"
    r"(?:\[[ xX✓✔]\][ \t]+)?(?=\S)(?![-*_]{2,}\s*$)"
)
_HEADING = re.compile(r"[ \t]{0,3}(#{1,6}(?=[ \t])|#{2,6})[ \t]*(?=[^#\s])")
_BOLD = re.compile(r"[ \t]{0,4}(?:\*\*|__)(?=\S)(?P<title>[^*\n]{1,120}?)(?:\*\*|__)")
_TITLE = r"(?:title|titel|titre|título|titolo|название|标题|標題|タイトル|제목)"
_TEXT_NAMES = [name for name in TEXTS if len(name) > 2 or not name.isascii()]
_FIELD_NAME = "|".join(
    sorted((re.escape(name).replace("_", "[\\s_]") for name in _TEXT_NAMES), key=len, reverse=True)
)
FIELD = re.compile(
    rf"[ \t]{{0,12}}(?:>[ \t]?)?(?:[-*+•][ \t]+)?(?:#{{1,6}}[ \t]*)?[*_\"'`\[【]{{0,3}}"
    rf"(?P<name>(?:the\s)?(?:{_FIELD_NAME}))[*_\"'`\]】]{{0,3}}"
    r"(?:[:：]|\s{1,2}[:：](?=[\s*_]|$)|\s{0,2}=(?!=))[*_]{0,3}[ \t]{0,4}",
    re.IGNORECASE,
)
"""A line that begins with the name of a text and a colon."""

_WEIGHT_NAME = re.compile(rf"(?:{ANY_WEIGHT_LABEL})s?\s?\d*", re.IGNORECASE)
_RULE = re.compile(r"\s{0,3}(?:(?:[-–—*_=~·•]\s?){3,400}|[─━═┄┈]{2,400}|<hr\s?/?>|\\[-*_]{3,9}|\* \* \*)\s*")


class Marker(NamedTuple):
    """The beginning of an entry: its kind, the position after it, and its number or letter as written."""

    kind: str
    end: int
    written: str = ""


KINDS = ("label", "ordinal", "dynamic", "number", "circled", "cjk", "letter", "heading", "bold", "bullet", "field")
"""The kinds of markers, the most certain first."""

_PATTERNS = {
    "label": _LABEL,
    "ordinal": _ORDINAL,
    "dynamic": _DYNAMIC,
    "number": _NUMBER,
    "circled": _CIRCLED,
    "cjk": _CJK,
    "letter": _LETTER,
    "bold": _BOLD,
    "bullet": _BULLET,
    "field": FIELD,
}
_NOT_LABELS = frozenset(
    (
        *QUESTIONS,
        *REASONING,
        *LISTS,
        "step",
        "part",
        "chapter",
        "section",
        "page",
        "figure",
        "table",
        "in",
        "on",
        "at",
    )
)


def marker_of(kind: str, line: str) -> Marker | None:
    """The marker of this kind at the beginning of a line."""
    if kind == "heading":
        match = _HEADING.match(line)
        return None if match is None else Marker(kind, match.end(), "")
    match = _PATTERNS[kind].match(line)
    if match is None:
        return None
    groups = match.groupdict()
    if kind == "dynamic":
        name = plain(groups["name"])
        if _WEIGHT_NAME.fullmatch(groups["name"]) or name in _NOT_LABELS:
            return None
        return Marker(kind, match.end(), f"{name} {groups['digits']}")
    if kind == "bold":
        return Marker(kind, match.start("title") - 2, "")
    index = next((value for name, value in groups.items() if value and name not in ("name", "title")), "")
    return Marker(kind, match.end(), index)


def heading_level(line: str) -> int:
    """The level of a Markdown heading, 0 for another line."""
    match = _HEADING.match(line)
    return len(match[1]) if match is not None else 0


def is_rule(line: str) -> bool:
    """Whether a line is only a rule between parts."""
    return len(line) < 420 and _RULE.fullmatch(line) is not None


def without_quote(line: str) -> str:
    """A line without the mark of a block quote."""
    return re.sub(r"^\s{0,3}>\s?", "", line, count=1)


_ORNAMENT = re.compile(r"[*_`>#<\\]")
_BOXED = re.compile(r"\$?\\boxed\{(?P<text>[^{}]*)\}\$?")
_PAIRS = (("***", "***"), ("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_"))


def strip_ornaments(text: str) -> str:
    """A text without the marks that surround all of it: bold, italics, backticks, a block quote, list tags."""
    text = text.strip().strip("\u200b\ufeff")
    if _ORNAMENT.search(text) is None:
        return text
    lines = text.split("\n")
    if all(line.lstrip().startswith(">") or not line.strip() for line in lines):
        text = "\n".join(without_quote(line) for line in lines).strip()
    text = re.sub(r"\A(?:<li>|<p>)\s*|\s*(?:</li>|</p>|</ol>|</ul>|<br\s?/?>)+\Z", "", text)
    text = re.sub(r"\A#{1,6}\s+", "", text)
    boxed = _BOXED.fullmatch(text) if "\\" in text else None
    text = boxed["text"].strip() if boxed is not None and boxed["text"].strip() else text
    changed = True
    while changed and len(text) > 2:
        changed = False
        for opening, closing in _PAIRS:
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner.strip() and opening not in inner:
                text, changed = inner.strip(), True
                break
    head, newline, rest = text.partition("\n")
    for opening, closing in _PAIRS[:3]:
        inner = head.strip()[len(opening) : -len(closing)]
        if (
            newline
            and head.strip().startswith(opening)
            and head.strip().endswith(closing)
            and inner.strip()
            and opening not in inner
        ):
            text = f"{inner.strip()}\n{rest}"
            break
    if text.endswith("**") and text.count("**") % 2:
        text = text[:-2].rstrip()
    elif text.startswith("**") and text.count("**") % 2:
        text = text[2:].lstrip()
    return text


def begins_entry(line: str) -> Marker | None:
    """The marker of an entry of a list, of whatever kind."""
    for kind in ("label", "ordinal", "dynamic", "number", "circled", "cjk", "letter", "bullet"):
        if (marker := marker_of(kind, line)) is not None:
            return marker
    return None
