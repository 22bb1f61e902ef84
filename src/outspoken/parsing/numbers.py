"""A number as a model writes it, in any usual form: 0.07, 0,07, 7%, 1/14, ½, 3:1, 1 in 14, 5 × 10⁻³, ٠٫٠٧.

A value is read as a whole or not at all: of a range ("0.05-0.10") or a product ("0.1*2") no part is taken.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress

from outspoken.parsing.words import alternatives

__all__ = ["HEDGE", "PERCENT_WORD", "comment_of", "number", "number_or_text"]

_LONGEST = 200
_FIRST_OTHER_SCRIPT = "\u0250"
_PLAIN = re.compile(r"-?[0-9]{0,300}\.?[0-9]{1,300}(?:[eE]-?[0-9]{1,3})?")

_ROUGHLY = (
    "about|approximately|approx|around|roughly|nearly|almost|circa|ca|estimated at|maybe|perhaps"
    "|less than|under|etwa|ungefähr|rund|zirka|knapp|environ|approximativement|à peu près|presque"
    "|alrededor del?|cerca del?|aproximadamente|aprox|unos|unas|circa il|intorno al"
    "|около|примерно|приблизительно|приблизно|około|ok|mniej więcej|yaklaşık|kabaca|ongeveer|rond|omkring"
    "|ungefär|cirka|runt|kring|noin|nagyjából|körülbelül|přibližně|zhruba|asi|aproximativ|cam|okolo"
    "|otprilike|okvirno|kurang lebih|lebih kurang|apie|orientačně|περίπου|khoảng|tầm|sekitar|kira-kira"
)
_ROUGHLY_UNSPACED = (
    "大约|大約|约|約|大概|およそ|おおよそ|だいたい|ほぼ|약|대략"
    "|حوالي|تقريبًا|تقريبا|نحو|בערך|כ-|लगभग|करीब|ประมาณ|ราว"
)
HEDGE = rf"(?:[~≈≃∼～〜=<≤]|\b{alternatives(_ROUGHLY)}\b\.?|{alternatives(_ROUGHLY_UNSPACED)})"
"""Words and signs before a number that only say that it is rough."""

PERCENT_WORD = (
    r"(?:%|(?:percent|per cent|pct|prozent|pour ?cents?|por ?ciento|por ?cento|per ?cento|percento"
    r"|процент(?:ов|а|ы)?"
    r"|відсотк(?:ів|и|а)|procent|procentów|proc|yüzde|prosent|prosenttia|százalék|τοις εκατό|phần trăm"
    r"|persen)(?!\w)"
    r"|प्रतिशत|เปอร์เซ็นต์|بالمئة|بالمائة|في المئة|في المائة|אחוזים|אחוז|パーセント|퍼센트|프로)"
)
_NUMBER = r"(?:\d{1,300}(?:[.,]\d{1,300})?|[.,]\d{1,300})(?:e[-+]?\d{1,4})?"
_OF = (
    r"(?:/|÷|\bin\b|\bout of\b|\bof\b|\bauf\b|\bvon\b|\baus\b|\bzu\b(?= \d+$)|\bsur\b|\bsu\b|\bde cada\b"
    r"|\bde\b|\bem\b|\bem cada\b|\bиз\b"
    r"|\bна\b|\bна каждые\b|\bz\b|\bna\b|\bop\b|\bav\b|\bαπό\b|\bστα\b|\bstα\b|\btrên\b|\bdari\b|من|من أصل"
    r"|מתוך|में से)"
)
_FORMS = re.compile(
    rf"(?P<sign>-?)\s?(?:"
    rf"(?:(?P<mantissa>{_NUMBER})\s?[x×*·⋅]\s?)?10\s?(?:\^|\*\*)\s?(?P<exponent>[-+]?\d{{1,3}})(?!\d)"
    rf"|(?P<denominator>\d{{1,9}})分の(?P<numerator>\d{{1,9}}(?:\.\d{{1,9}})?)"
    rf"|(?P<whole>\d{{1,9}})分之(?P<share>\d{{1,9}}(?:\.\d{{1,9}})?)"
    rf"|百分之\s?(?P<hundredths>{_NUMBER})|(?:yüzde|%)\s?(?P<prefixed>{_NUMBER})(?![.,]?\d)"
    rf"|(?P<tenths>\d{{1,2}}(?:\.\d)?)\s?[成割](?!\w)"
    rf"|(?P<value>{_NUMBER})(?![.,]?\d)(?:\s?(?P<percent>{PERCENT_WORD})|\s?(?P<thousandths>‰)|\s?{_OF}\s?(?P<of>\d{{1,9}}(?:[.,]\d{{1,3}})?)(?![.,]?\d)"
    rf"|\s?(?::|\bto\b|\bzu\b|\bcontre\b|\bcontra\b|\bк\b"
    rf"|\ba\b(?=\s?\d))\s?(?P<against>\d{{1,6}}(?:[.,]\d)?)(?![.,:]?\d)(?P<reversed>\s?against)?)?"
    rf")"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,4}")
_LATEX = (
    (re.compile(r"\\(?:times|cdot)\s?"), "×"),
    (re.compile(r"\\(?:approx|sim)\s?"), "~"),
    (re.compile(r"\\[dt]?frac\s?\{\s?(\d{1,9})\s?\}\s?\{\s?(\d{1,9})\s?\}"), r"\1/\2"),
    (re.compile(r"\^\s?\{\s?([-+]?\s?\d{1,3})\s?\}"), r"^\1"),
    (re.compile(r"\\[,;!()\[\]]"), " "),
    (re.compile(r"\\%"), "%"),
)
_SIGNS = str.maketrans({"−": "-", "﹣": "-", "⁄": "/", "∕": "/", "٫": ".", "٬": "", "٪": "%", "،": ",", "∶": ":"})
_WRAPPERS = " \t*_`\"'“”‘’«»„$()[]{}<>（）【】「」『』〈〉＜＞:=|"
_HEDGES = re.compile(rf"(?:{HEDGE}\s?|(?:an?|un|une|el|ein|eine|um|uma)\s)+", re.IGNORECASE)
_LABEL = re.compile(r"(?:p|prob(?:ability)?|pr)\s?(?:\([^()]{0,60}\))?\s?[=:~≈]\s?")
_COMMENT = re.compile(r"[^\d*×^/=+]*(?:[(（\[][^\W\d][^()（）]{0,80}[)）\]]?)?")
_SAME_AGAIN = re.compile(
    r"\s?[(（\[]([^()（）\[\]]{1,40})[)）\]]?\s?|\s?(?:=|~|≈|or|i\.e\.|oder|ou|o|или|即|つまり)\s?(.{1,40})"
)
_VALUE_KEYS = ("value", "probability", "p", "prob", "estimate", "mean", "point", "amount", "number", "score")


def number(raw: object) -> tuple[float | None, bool]:
    """The finite number that `raw` states, and whether it is a percentage; (None, False) if there is none.

    `raw` is a number, a text that a number fills (apart from words such as "about" and a comment without figures),
    a list of one, or an object that has one under a key such as "value".
    """
    value: float | None
    percent = False
    if isinstance(raw, str):
        if len(raw) < _LONGEST and _PLAIN.fullmatch(raw) is not None:
            value = float(raw) + 0.0
        else:
            value, percent = _written(raw)
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        value = math.nan
        with suppress(OverflowError):
            value = float(raw)
    elif isinstance(raw, list) and len(raw) == 1 and not isinstance(raw[0], (list, dict)):
        return number(raw[0])
    elif isinstance(raw, Mapping):
        return _in_object(raw)
    else:
        return None, False
    return (value, percent) if value is not None and math.isfinite(value) else (None, False)


_NUMERIC = re.compile(
    rf"[^\w]*(?:{HEDGE}\s?)*[^\w]*[\d½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚][\d.,٫٬/:×^⁻⁰¹²³⁴⁵⁶⁷⁸⁹ ]*(?:\s?{PERCENT_WORD}|[成割])?",
    re.IGNORECASE,
)


def comment_of(written: str) -> str:
    """The words after the number in a text that `number` reads, "" for none."""
    match = _NUMERIC.match(written)
    comment = written[match.end() :] if match is not None else ""
    return "" if any(c.isdecimal() for c in comment) else comment.strip(" ()（）.,;:：-–—*_`")


def number_or_text(written: str) -> float | str:
    """A plain number as a float; any other way of writing a number stays text, and reading it is a repair."""
    return float(written) if _PLAIN.fullmatch(written.strip()) else written


def _in_object(raw: Mapping[str, object]) -> tuple[float | None, bool]:
    held = [part for key, part in raw.items() if key.lower() in _VALUE_KEYS] or (
        list(raw.values()) if len(raw) == 1 else []
    )
    if len(held) != 1 or isinstance(held[0], (dict, list)):
        return None, False
    value, percent = number(held[0])
    unit = next((part for key, part in raw.items() if key.lower() in ("unit", "units", "scale")), "")
    return value, percent or (value is not None and str(unit).lower() in ("%", "percent", "percentage", "pct"))


def _written(raw: str) -> tuple[float | None, bool]:
    """The number that fills this text."""
    text = _normal(raw)
    if len(text) > _LONGEST:
        return None, False
    text = text.strip(_WRAPPERS)
    text = _LABEL.sub("", text, count=1) if text[:1] == "p" else text
    if (hedges := _HEDGES.match(text)) is not None:
        text = text[hedges.end() :].lstrip(_WRAPPERS)
    match = _FORMS.match(text)
    if match is None or (
        (text[match.end() :][:1] == "." or text[match.end() :] == ",") and match[0].strip("0") == ""
    ):
        return None, False
    value, percent = _value(match)
    rest = text[match.end() :]
    if match[0].isdigit() and _CUT_OF.fullmatch(rest):
        return None, False
    if match["against"] and rest.lstrip()[:1] == "%":
        return None, False
    if (rest[:1].isalnum() and rest[0] < _FIRST_OTHER_SCRIPT) or _BROKEN_EXPONENT.match(rest):
        return None, False
    if not _COMMENT.fullmatch(rest):
        again = _SAME_AGAIN.fullmatch(rest)
        other, is_percent = _written(again[1] or again[2]) if again is not None else (None, False)
        if other is None or not math.isclose(
            value / 100 if percent else value, other / 100 if is_percent else other, rel_tol=0.02
        ):
            return None, False
        if percent is False and is_percent is False and value > 1 >= other:
            return other, False
    return (-value if match["sign"] and value else value), percent


# Nobody writes a fraction such as 0.1/401, nor odds such as 0.3:4: a sign got into the number.
_DECIMAL_FRACTION = re.compile(r"-?\s?\d*[.,]\d+\s?[/÷]")
_ROUND = frozenset((1, 10, 100, 1000))
_CUT_OF = re.compile(r"\s?(?:out of|out o|out|ou|o|of|in|i|auf|au|von|vo|v|sur)\s?\)?")
_BELOW_ONE = re.compile(r"0*[.,]")


def _value(match: re.Match[str]) -> tuple[float, bool]:
    if match["exponent"] is not None:
        return _decimal(match["mantissa"] or "1") * 10.0 ** int(match["exponent"]), False
    if match["denominator"] or match["whole"]:
        below = float(match["denominator"] or match["whole"])
        return (float(match["numerator"] or match["share"]) / below if below else math.nan), False
    if match["hundredths"] or match["prefixed"]:
        return _decimal(match["hundredths"] or match["prefixed"]), True
    if match["tenths"]:
        return float(match["tenths"]) * 10, True
    value = _decimal(match["value"])
    if match["thousandths"]:
        return value / 10, True
    if (match["of"] or match["against"]) and "e" in match["value"]:
        return math.nan, False
    if match["of"]:
        below = _decimal(match["of"])
        is_odd = _DECIMAL_FRACTION.match(match[0]) is not None and below not in _ROUND
        is_odd = is_odd or _BELOW_ONE.match(match["of"]) is not None
        return (value / below if below and not is_odd else math.nan), False
    if match["against"]:
        other = _decimal(match["against"])
        if any(_BELOW_ONE.match(side) for side in (match["value"], match["against"])):
            return math.nan, False
        ahead = other if match["reversed"] else value
        return (ahead / (value + other) if value + other else math.nan), False
    return value, bool(match["percent"])


_BROKEN_EXPONENT = re.compile(r"[^\w\s]{1,3}e[^\w\s]{0,3}\d")
_BLOCKS = re.compile(r"[█▓▒░▏▎▍▌▋▊▉■□▪▫●○⬛⬜🟩🟦🟥🟨🟪🟧⭐★☆▰▱]{2,}")


def _normal(raw: str) -> str:
    """Digits of any script as ASCII, raised digits as ^n, one form for each sign, blanks collapsed, lower case."""
    text = " ".join(raw[: 20 * _LONGEST].split())
    if text.isascii():
        text = text.casefold()
    else:
        text = _BLOCKS.sub(" ", text).strip()
        text = _RAISED.sub(lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text) if "10" in text else text
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS).casefold()
        text = "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)
    if "\\" in text or "{" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return " ".join(text.split())


def _decimal(written: str) -> float:
    head, comma, tail = written.partition(",")
    if comma and len(tail) == 3 and head.strip("0") and tail.isdigit():
        return float(head + tail)
    return float(written.replace(",", "."))
