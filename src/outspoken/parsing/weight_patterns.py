"""What a stated probability looks like in running text: labels, separators, values, what stands around them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from outspoken.parsing.field_names import ANY_WEIGHT_LABEL, WEIGHT_LABEL
from outspoken.parsing.numbers import HEDGE, PERCENT_WORD, number

__all__ = [
    "AFTERWARDS",
    "CLOSERS",
    "DIGIT",
    "LABELLED",
    "NO_NUMBERS",
    "OPENERS",
    "SURE_KEY",
    "SURE_SIGN",
    "SYMBOL",
    "WEIGHT_FIELD",
    "LineWeight",
    "ascii_digits",
    "trimmed",
    "weight_of",
]


@dataclass(slots=True)
class LineWeight:
    """A weight as written, under the label `key` (None without one).

    The text of the line is `head` before it and `tail` after it. `note` is what else stood in its brackets, and
    `index` the number in a label such as "Probability 2".
    """

    written: str
    key: str | None
    head: str = ""
    tail: str = ""
    note: str = ""
    index: str = ""
    bracketed: bool = False
    is_cut: bool = False

    @property
    def alone(self) -> bool:
        """Whether the line states nothing else."""
        return not self.head.strip(OPENERS) and not self.tail.strip(CLOSERS)

    @property
    def is_field(self) -> bool:
        """Whether the line is a label and the weight alone."""
        return self.alone and self.key is not None


OPENERS = " \t([（【{—–-,，;；:：|*_\"'~>•·‣▪→=`#+$"


CLOSERS = " \t)]）】}.。,，;；*_\"'|:：`$"


DIGIT = re.compile(r"[\d½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚]")


_ADJECTIVE = (
    r"(?:(?:my|the|estimated|stated|relative|assigned|approx\.?|est\.?|rough|model|overall|geschätzte|estimée"
    r"|estimada|stimata|оценочная)\s)?"
)


_INDEX = (
    r"(?:\s(?:of|that|for|von|für|dass|de|du|da|do|di|per|pour|que|para|для|na)\s(?!\d)[^\d:：=()\n]{1,40}(?=\s?[:：=]))?"
    r"(?:\s?(?:of|for|von|de|zu|per|#|no\.?)?\s?(?:response|answer|option|guess|candidate|antwort|回答|选项|選項)?"
    r"\s?[#(\[（]?(?P<index>\d{1,3})[)\]）]?(?=\s{0,2}[*_]{0,3}\s?[:：=≈](?!\d{1,4}(?!\s?%|[\d.,]))))?"
)


_SEPARATOR = (
    r"[*_\"'`]{0,3}\s{0,3}(?:[:：=≈→]|->|=>|[-–—](?=\s)|\b(?:is|of|at|ist|von|es|est|de|del|della|dello|di|da"
    r"|du|do|van|av|af|na|around|equals?|è|é|wynosi|равна|составляет|on)\b|は|が|为|為|是|जो|है)?"
    r"\s{0,3}[*_\"'`$]{0,3}\s{0,2}"
)


WEIGHT_FIELD = re.compile(
    rf"(?:[^\w\n]|_){{0,12}}(?P<key>{_ADJECTIVE}(?:{ANY_WEIGHT_LABEL}))(?:\s?\((?:p|%|0-1"
    rf"|prob)\))?"
    rf"(?![^\W\d]){_INDEX}[】」\]]?(?:\.(?!\d))?{_SEPARATOR}",
    re.IGNORECASE,
)


SURE_KEY = re.compile(rf"{_ADJECTIVE}(?:{WEIGHT_LABEL})", re.IGNORECASE)


SYMBOL = re.compile(
    r"[\s\-*+•>_(（\[$\"]{0,8}(?P<key>p|pr|P)(?:_?\{?(?P<index>\d{1,3})\}?"
    r"|\s?\(\s?(?:[^()\d]{0,40}\s?)?(?P<second>\d{1,3})\s?\)"
    r"|\s?\([^()]{1,60}\))?[*_\"`]{0,3}\s{0,2}[:：=≈~]\s{0,3}[*_\"`$]{0,3}"
)


LABELLED = re.compile(
    rf"(?<![^\W_])(?P<key>{WEIGHT_LABEL}|(?:p"
    rf"|Pr)(?:_?\d{{1,2}}|\([^()]{{1,60}}\))?(?=\s{{0,2}}[=:≈]))(?![^\W\d]){_INDEX}(?:\.(?!\d))?{_SEPARATOR}(?={HEDGE}"
    rf"|[\d.,½¼¾⅓⅔⅛％%$*(-]|nan|n/a|unknown|high|medium|low)",
    re.IGNORECASE,
)


AFTERWARDS = re.compile(
    rf"(?P<value>(?:{HEDGE}\s?)?(?:\d{{1,3}}(?:[.,]\d{{1,20}})?"
    rf"|[.,]\d{{1,20}})\s?{PERCENT_WORD}?)\s{{0,2}}(?P<key>{ANY_WEIGHT_LABEL}|chance|confident|likely"
    r"|sicher|wahrscheinlich|probable|certain)(?!\w)",
    re.IGNORECASE,
)


_SURE = re.compile(
    rf"(?:{HEDGE}\s?)*(?:(?:00|[01])?[.,٫]\d{{1,30}}(?:e-?\d{{1,3}})?|[01](?:[.,]0{{1,9}})?"
    rf"|\d{{1,3}}(?:[.,]\d{{1,20}})?\s?{PERCENT_WORD}|%\s?\d{{1,3}}|\d{{1,4}}\s?‰|[01]?\.\d{{1,9}}\s?[/⁄]\s?1(?:\.0{{1,9}})?"
    rf"|\d(?:[.,]\d{{1,20}})?e-\d{{1,3}}|\d{{1,3}}\s?[/⁄]\s?\d{{1,4}}|[½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚]|\d{{1,4}}\s(?:in"
    rf"|out of|of|von|aus|auf|sur|de|de cada|su|em|из|на|z|na|av|op|από|στις|trên|dari|من)\s\d{{1,6}}"
    r"|(?:\d(?:[.,]\d{1,9})?\s?[×x*·]\s?)?10\s?\^?[-⁻−][\d⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}|[\d]\s?[成割])(?:左右|上下|前後|前后|程度|くらい"
    r"|ぐらい|정도|or so|ish)?[\s.。?]{0,3}",
    re.IGNORECASE,
)


def weight_of(written: str, *, sure: bool = True) -> bool:
    """Whether a text is a number that reads as a weight; `sure`: even without a label."""
    if sure and (
        DIGIT.search(written) is None or _SURE.fullmatch(ascii_digits(written.strip(" \t*_`$\"'"))) is None
    ):
        return False
    return number(written)[0] is not None


_ASCII = str.maketrans("％٪．，٫−", "%%.,.-")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")


def ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), text.translate(_ASCII))


NO_NUMBERS = frozenset(
    ("nan", "n/a", "unknown", "high", "medium", "low", "none", "null", "-", "—", "?", "very high", "very low")
)


SURE_SIGN = re.compile(r"[%％٪.,٫/]")


_BEFORE = re.compile(r"\s*(?:-+>|=+>|[—–,，;；|:：→=~≈、⟶⇒➔➜➝▸▶·•@↦]|(?<!\w)-+|-(?=\s*$))\s*\Z")


def trimmed(head: str) -> str:
    """Remove the bracket, dash or comma before the weight; the text keeps its own punctuation."""
    head = head.rstrip(" \t")
    bare = head.rstrip("([（【{")
    if bare != head:
        return bare.rstrip()
    if head.endswith(("...", "…")):
        return head
    return _BEFORE.sub("", head, count=1)
