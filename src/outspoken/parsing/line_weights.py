"""The stated probability in a line of running text: labelled, in brackets, at the end or at the beginning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from outspoken.parsing.field_names import ANY_WEIGHT_LABEL, WEIGHT_LABEL, WEIGHTS, plain
from outspoken.parsing.numbers import HEDGE, PERCENT_WORD, number
from outspoken.parsing.words import pattern

__all__ = ["LineWeight", "find_weight", "forget_lines", "weight_of", "weights_in_row"]


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

    @property
    def alone(self) -> bool:
        """Whether the line states nothing else."""
        return not self.head.strip(_OPENERS) and not self.tail.strip(_CLOSERS)


_OPENERS = " \t([（【{—–-,，;；:：|*_\"'~>•·‣▪→=`#+$"
_CLOSERS = " \t)]）】}.。,，;；*_\"'|:：`$"
_LONGEST = 300
_NEED = re.compile(r"[\d½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚%]|[:：=≈]")
_DIGIT = re.compile(r"[\d½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚]")
_ADJECTIVE = (
    r"(?:(?:my|the|estimated|stated|relative|assigned|approx\.?|est\.?|rough|model|overall|geschätzte|estimée"
    r"|estimada|stimata|оценочная)\s)?"
)
_INDEX = (
    r"(?:\s?(?:of|for|von|de|zu|per|#|no\.?)?\s?(?:response|answer|option|guess|candidate|antwort|回答|选项|選項)?"
    r"\s?[#(\[（]?(?P<index>\d{1,3})[)\]）]?(?=\s{0,2}[*_]{0,3}\s?[:：=≈](?!\d{1,4}(?![\d.,%]))))?"
)
_SEPARATOR = (
    r"[*_\"'`]{0,3}\s{0,3}(?:[:：=≈→]|->|=>|[-–—](?=\s)|\b(?:is|of|at|ist|von|es|est|de|del|della|dello|di|da"
    r"|du|do|van|av|af|na|around|equals?|è|é|wynosi|равна|составляет|on)\b|は|が|为|為|是|जो|है)?"
    r"\s{0,3}[*_\"'`$]{0,3}\s{0,2}"
)
_FIELD = re.compile(
    rf"[{re.escape(_OPENERS)}\[\]【「]{{0,12}}(?P<key>{_ADJECTIVE}(?:{ANY_WEIGHT_LABEL}))(?:\s?\((?:p|%|0-1"
    rf"|prob)\))?"
    rf"(?![^\W\d]){_INDEX}[】」\]]?\.?{_SEPARATOR}",
    re.IGNORECASE,
)
_SURE_KEY = re.compile(rf"{_ADJECTIVE}(?:{WEIGHT_LABEL})", re.IGNORECASE)
_SYMBOL = re.compile(
    r"[\s\-*+•>_(（\[$\"]{0,8}(?P<key>p|pr|P)(?:_?\{?(?P<index>\d{1,3})\}?"
    r"|\s?\(\s?(?:[^()\d]{0,40}\s?)?(?P<second>\d{1,3})\s?\)"
    r"|\s?\([^()]{1,60}\))?[*_\"`]{0,3}\s{0,2}[:：=≈~]\s{0,3}[*_\"`$]{0,3}"
)
_LABELLED = re.compile(
    rf"(?<![^\W_])(?P<key>{WEIGHT_LABEL}|(?:p"
    rf"|Pr)(?:\([^()]{{1,60}}\))?(?=\s{{0,2}}[=:≈]))(?![^\W\d]){_INDEX}\.?{_SEPARATOR}(?={HEDGE}"
    rf"|[\d.,½¼¾⅓⅔⅛％%$*(-]|nan|n/a|unknown|high|medium|low)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]+")
_LABEL_WORDS = frozenset(
    (
        *(word for name in WEIGHTS if name.isascii() for word in _WORD.findall(name)),
        "pr",
        "likely",
        "confident",
        "sicher",
        "wahrscheinlich",
        "probable",
        "certain",
    )
)
_VALUE_END = re.compile(
    r"\s*(?:[)\]）】}|;；。]|[:：](?=\s|$)|：|[,，、](?!\d)|\.(?=\s|$)|\s[-–—]\s|\s\(|\s{3,}|$)"
)
_AFTERWARDS = re.compile(
    rf"(?P<value>(?:{HEDGE}\s?)?(?:\d{{1,3}}(?:[.,]\d{{1,20}})?"
    rf"|[.,]\d{{1,20}})\s?{PERCENT_WORD}?)\s{{0,2}}(?P<key>{WEIGHT_LABEL}|chance|confident|likely"
    r"|sicher|wahrscheinlich|probable|certain)(?!\w)",
    re.IGNORECASE,
)
_GROUP = re.compile(
    r"\(([^()\n]{1,160})\)|（([^（）\n]{1,160})）|\[([^\[\]\n]{1,160})\]|【([^【】\n]{1,160})】|\{([^{}\n]{1,160})\}"
    r"|［([^［］\n]{1,160})］"
    r"|〔([^〔〕\n]{1,160})〕|<([^<>\n]{1,60})>|〈([^〈〉\n]{1,60})〉|《([^《》\n]{1,60})》|『([^『』\n]{1,60})』"
    r"|\*\*([^*\n]{1,60})\*\*|__([^_\n]{1,60})__|`([^`\n]{1,60})`|\$([^$\n]{1,60})\$"
    r"|(?<!\*)\*([^*\n]{1,60})\*(?!\*)|(?<!\w)_([^_\n]{1,60})_(?!\w)"
    r"|「([^「」\n]{1,60})」|\|([^|\n]{1,60})\|"
)
_PARTS = re.compile(r"\s*(?:[;；、|·•]|[,，](?!\d)|(?<!\d)[,，]|\s[-–—]\s)\s*")
_TRAILING = re.compile(
    r"(?:\s[-–—−‒]{1,3}(?=\s?[\d.~≈]|\s)|[-–—]{2,3}|—|–(?=\s)|(?<!\d)[:：]|[:：](?=\s)|=>|-->|->|\s[~≈](?=\s?\d)"
    r"|[|=→⇒➔➜➡▸▶»›·•⟶↦@]|\.{2,}|…+|\t|\s{2,}|[,，;；](?=\s?[^\s]))\ufe0f?\s*"
)
_LEADING = re.compile(
    r"(?P<value>[^\s:：\-–—|→\t][^:：|→\t\n]{0,30}?)\s*(?:[:：|→\t]|->|=>|\s[-–—]\s|[-–—]\s|\s[-–—]|[)）\]]"
    r"|\s{2,})[\s]*(?=\S)"
)
_SURE = re.compile(
    rf"(?:{HEDGE}\s?)*(?:[01]?[.,٫]\d{{1,30}}(?:e-?\d{{1,3}})?|[01](?:[.,]0{{1,9}})?"
    rf"|\d{{1,3}}(?:[.,]\d{{1,20}})?\s?{PERCENT_WORD}|%\s?\d{{1,3}}"
    rf"|\d(?:[.,]\d{{1,20}})?e-\d{{1,3}}|\d{{1,3}}\s?[/⁄]\s?\d{{1,4}}|[½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚]|\d{{1,4}}\s(?:in"
    rf"|out of)\s\d{{1,6}}"
    r"|(?:\d(?:[.,]\d{1,9})?\s?[×x*·]\s?)?10\s?\^?[-⁻−][\d⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}|[\d]\s?[成割])(?:左右|上下|前後|前后|程度|くらい"
    r"|ぐらい|정도|or so|ish)?[\s.。?]{0,3}",
    re.IGNORECASE,
)
_UNKNOWN_LABEL = re.compile(r"[^\W\d][^\d:：=.]{1,30}(?:[:：=]|\.(?=\s))\s*(?P<value>[^:：=]{1,30})")
_CUT_ZERO = re.compile(r"(?<![\d.,])0[.,]$")


def weight_of(written: str, *, sure: bool = True) -> bool:
    """Whether a text is a number that reads as a weight; `sure`: even without a label."""
    if sure and _SURE.fullmatch(_ascii_digits(written.strip(" \t*_`$\"'"))) is None:
        return False
    return number(written)[0] is not None


@lru_cache(maxsize=512)
def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    table = {"％": "%", "٪": "%", "．": ".", "，": ",", "٫": ".", "−": "-"}
    return "".join(str(int(c)) if c.isdecimal() else table.get(c, c) for c in text)


def find_weight(line: str) -> LineWeight | None:
    """The weight that a line states, the most certain form first; None if it states none. Do not change it."""
    return _find_weight(line.strip())


def forget_lines() -> None:
    """Forget the lines that were read: their weights are kept while one reply is read."""
    if _find_weight.cache_info().currsize > 1_000:
        _find_weight.cache_clear()


_USUAL = re.compile(
    r"(?P<head>.*[^\s(（\[{【])\s*[(（\[](?:(?P<key>[^\W\d_]{1,20})\s?[:=：]\s?)?(?P<value>0?\.\d{1,8}"
    r"|\d{1,3}(?:\.\d{1,4})?\s?%)[)）\]]\.?"
)


@lru_cache(maxsize=20_000)
def _find_weight(line: str) -> LineWeight | None:
    if _NEED.search(line, max(0, len(line) - _LONGEST)) is None and _NEED.search(line, 0, _LONGEST) is None:
        return None
    if len(line) > 2 * _LONGEST:
        return _in_long_line(line)
    found = _find(line)
    if found is not None and _CUT_ZERO.search(line):
        found.written = "0."
    return found


def _find(line: str) -> LineWeight | None:
    if line.lstrip(" \t*_>-+•")[:1] in tuple("([（【{"):
        return _in_group(line) or _as_field(line) or _labelled(line) or _unlabelled(line)
    found = _as_field(line)
    if found is not None:
        return found
    usual = _USUAL.fullmatch(line)
    if usual is not None and (usual["key"] is None or plain(usual["key"]) in WEIGHTS):
        return LineWeight(usual["value"], usual["key"], _trim(usual["head"]), bracketed=True)
    return _in_group(line) or _labelled(line) or _unlabelled(line)


def _in_long_line(line: str) -> LineWeight | None:
    """The weight at the end of a long line, else at its beginning."""
    tail = line[-_LONGEST:]
    found = _in_group(tail) or _labelled(tail) or _trailing(tail)
    if found is not None and not (found.tail.strip(_CLOSERS)):
        found.head = line[:-_LONGEST] + found.head
        return found
    head = line[:_LONGEST]
    found = _in_group(head) or _leading(head)
    if found is not None and not found.head.strip(_OPENERS):
        found.tail += line[_LONGEST:]
        return found
    return None


def _as_field(line: str) -> LineWeight | None:
    """A line that is a label and a value, or begins with them."""
    match = _FIELD.match(line)
    symbol = _SYMBOL.match(line) if match is None else None
    match = match or symbol
    if match is None:
        return None
    index = match["index"] or (match.groupdict().get("second") or "")
    key = match["key"].strip()
    rest = line[match.end() :].strip().strip("*_`\"'$").strip()
    if not rest or rest[:1] in ",;":
        return None
    stop = _VALUE_END.search(rest)
    value = rest[: stop.start()] if stop is not None else rest
    if _reads(value):
        tail = rest[len(value) :].lstrip(" \t)]）】}*_:：|,，;；-–—.。`$")
        if not tail or (tail[0] in "(（" and tail[-1:] in ")）"):
            return LineWeight(value, key, note=tail.strip("()（）"), index=index)
        return LineWeight(value, key, tail=tail, index=index)
    bare = rest.rstrip(_CLOSERS)
    if (
        _SURE_KEY.fullmatch(key)
        and line[match.end() - 3 : match.end()].strip(" *_")[-1:] in tuple(":：=")
        and len(rest) < 25
        and len(rest.split()) < 3
    ):
        return LineWeight(bare if number(bare)[0] is not None else rest, key, index=index)
    if (
        number(bare)[0] is not None
        or rest.lower() in _WORDS
        or (len(rest.split()) <= 6 and len(rest) < 60 and _DIGIT.search(rest))
    ):
        return LineWeight(bare if number(bare)[0] is not None else rest, key, index=index)
    return None


def _reads(written: str) -> bool:
    """Whether a value is a number, with few words after it."""
    return len(written) < 80 and len(written.split()) <= 12 and number(written)[0] is not None


_WORDS = frozenset(
    ("nan", "n/a", "unknown", "high", "medium", "low", "none", "null", "-", "—", "?", "very high", "very low")
)


def _in_group(line: str) -> LineWeight | None:
    """The last weight in brackets, bold or backticks: at an end of the line, or anywhere if it has a label."""
    groups = list(_GROUP.finditer(line))
    for match in [*reversed(groups[-6:]), *groups[:1]]:
        found = _group_content(next(part for part in match.groups() if part is not None))
        if found is None:
            continue
        head, tail = line[: match.start()], line[match.end() :]
        marks = match[0][0] in "*_`$<|「『《〈"
        chosen = _CHOSEN.fullmatch(tail) if len(tail) < 40 else None
        marked = chosen is not None and (chosen["word"] is not None or not tail.isascii())
        at_end, at_start = marked or not tail.strip(_CLOSERS), not head.strip(_OPENERS)
        if chosen is not None and chosen["word"]:
            found.note = found.note or chosen["word"]
        if found.key is None and not (at_end or at_start):
            continue
        if (
            found.key is None
            and marks
            and not at_end
            and len(tail.split()) > 1
            and tail[:1].isspace()
            and not _SURE_SIGN.search(found.written)
        ):
            continue
        if at_start and not at_end:
            tail = tail.lstrip(" \t*_:：-–—|→")
            head = ""
        elif at_end:
            tail = ""
            head = _trim(head)
        found.head, found.tail, found.bracketed = head, tail, True
        return found
    return None


_CHOSEN = re.compile(
    rf"[^\w]*(?P<word>"
    rf"{pattern('chosen')}"
    r")?[^\w]*",
    re.IGNORECASE,
)
_SURE_SIGN = re.compile(r"[%％٪.,٫/]")


def _group_content(content: str) -> LineWeight | None:
    """The weight in the text between brackets, and the rest of it as a note."""
    content = content.strip(" *_`\"'")
    if content[:1] in "([（【" and content[-1:] in ")]）】":
        content = content[1:-1].strip(" *_`\"'")
    if not content or (_DIGIT.search(content) is None and len(content) > 40):
        return None
    parts = [part for part in _PARTS.split(content) if part]
    if len(parts) < 2:
        return _part(content)
    found = [(at, part) for at, part in ((at, _part(part)) for at, part in enumerate(parts)) if part is not None]
    labelled = [each for each in found if each[1].key is not None]
    chosen = labelled or found
    if len(chosen) != 1:
        return _part(content)
    at, weight = chosen[0]
    weight.note = ", ".join(part.strip("*_ ") for index, part in enumerate(parts) if index != at)
    if weight.key is None and _DIGIT.search(weight.note):
        return None
    return weight


def _part(content: str) -> LineWeight | None:
    match = _FIELD.match(content) or _SYMBOL.match(content)
    if match is not None:
        value = content[match.end() :].strip(" *_`\"'")
        index = match["index"] or (match.groupdict().get("second") or "")
        if number(value)[0] is not None and len(value) < 60:
            return LineWeight(value, match["key"], index=index)
        if value and (value.lower() in _WORDS or (_DIGIT.match(_ascii_digits(value)) and len(value) < 30)):
            return LineWeight(value, match["key"], index=index)
    if weight_of(content):
        return LineWeight(content, None)
    unknown = _UNKNOWN_LABEL.fullmatch(content)
    if unknown is not None and weight_of(unknown["value"]):
        return LineWeight(unknown["value"], "probability")
    after = _AFTERWARDS.fullmatch(content) or _LABELLED.search(content)
    if after is not None and after.re is _AFTERWARDS and number(after["value"])[0] is not None:
        return LineWeight(after["value"], after["key"])
    if after is not None and after.re is _LABELLED and weight_of(content[after.end() :]):
        return LineWeight(content[after.end() :], after["key"], note=content[: after.start()].strip(" ,;:"))
    return None


_CONNECTIVE = re.compile(
    r"[\s,，;；—–-]*\b(?:(?:with|at|having|assigned|given)?\s?(?:an?|the|my)?\s?(?:estimated|stated"
    r"|approximate)?|mit (?:einer)?|avec une|con una|com uma|con|avec|com"
    r"|с|z|ile|met een|med)\s*\Z",
    re.IGNORECASE,
)


def _labelled(line: str) -> LineWeight | None:
    """A labelled weight at the end of the line, or "60% probability" there."""
    if line.isascii() and _LABEL_WORDS.isdisjoint(_WORD.findall(line.lower())):
        return None
    for match in reversed(list(_LABELLED.finditer(line))):
        rest = line[match.end() :]
        value = rest.strip().rstrip(_CLOSERS)
        if value + "%" == rest.strip()[: len(value) + 1]:
            value += "%"
        if _reads(value):
            return LineWeight(
                value, match["key"], _without_connective(line[: match.start()]), index=match["index"] or ""
            )
        stop = _VALUE_END.search(rest)
        value = rest[: stop.start()] if stop is not None else rest
        head = line[: match.start()]
        if number(value)[0] is not None and not head.strip(_OPENERS):
            return LineWeight(value, match["key"], tail=rest[len(value) :].lstrip(" \t)]）】}*_:：,，;；-–—"))
        if not rest[len(value) :].strip(_CLOSERS) and value and len(value) < 40:
            return LineWeight(value, match["key"], _without_connective(head), index=match["index"] or "")
    start = max(0, len(line) - 80)
    for match in reversed(list(_AFTERWARDS.finditer(line, start))):
        if not line[match.end() :].strip(_CLOSERS) and number(match["value"])[0] is not None:
            head = line[: match.start()]
            if not head.strip() or head.rstrip()[-1:] in tuple("-–—:：,，|→(（["):
                return LineWeight(match["value"], match["key"], _without_connective(head))
    return None


def _without_connective(head: str) -> str:
    match = _CONNECTIVE.search(head, max(0, len(head) - 40))
    return _trim(head[: match.start()] if match is not None and match[0].strip() else head)


def _unlabelled(line: str) -> LineWeight | None:
    if weight_of(line.lstrip(_OPENERS).rstrip(_CLOSERS)):
        return LineWeight(line.strip(_OPENERS), None)
    return _trailing(line) or _leading(line)


def _trailing(line: str) -> LineWeight | None:
    """A weight after a dash, colon, arrow, dots or blanks at the end of the line."""
    start = max(0, len(line) - 60)
    for match in _TRAILING.finditer(line, start):
        value = line[match.end() :].strip(" \t*_`$")
        if match.start() and weight_of(value) and line[: match.start()].strip(_OPENERS):
            head = line[: match.start()]
            if match[0][:1] in ",，;；" and not _SURE_SIGN.search(value) and " " not in value:
                continue
            return LineWeight(value, None, _trim(head))
    return None


def _leading(line: str) -> LineWeight | None:
    """A weight at the beginning of the line, with a dash, colon, arrow or bar after it."""
    match = _LEADING.match(line.lstrip(_OPENERS.replace("(", "").replace("[", "")))
    value = match["value"].strip(" *_`$([（") if match is not None else ""
    if match is None or not _SURE_SIGN.search(value) or not weight_of(value):
        return None
    bare = line.lstrip(_OPENERS.replace("(", "").replace("[", ""))
    return LineWeight(value, None, tail=bare[match.end() :].strip())


def _trim(head: str) -> str:
    """Remove the bracket, dash or comma before the weight; the text keeps its own punctuation."""
    head = head.rstrip(" \t")
    bare = head.rstrip("([（【{")
    if bare != head:
        return bare.rstrip()
    if head[-1:] in tuple("—–-,，;；|:：→=~≈、…"):
        return head.rstrip("—–-,，;；|:：→=~≈、…").rstrip() if not head.endswith(("...", "…")) else head
    return head


_ROW = re.compile(r"\s*(?:[,，;；|/、]|\band\b|\bund\b|\bet\b|\by\b|\be\b|\s{2,})\s*")


def weights_in_row(line: str) -> tuple[str | None, list[str]] | None:
    """The label and the weights of a line such as "Probabilities: 0.5, 0.3, 0.2"; None for another line."""
    match = _FIELD.match(line)
    if match is None:
        return None
    rest = line[match.end() :].strip(" \t*_[](){}`.")
    parts = (
        re.split(r"\s*[;；|、]\s*|\s*,\s+|\s{2,}|，", rest)
        if not re.search(r"\d,\d{1,3}(?=\s*[;,])", rest)
        else re.split(r"\s*;\s*|,\s+", rest)
    )
    written = []
    for part in parts:
        part = re.sub(
            r"^(?:\(?\d{1,3}[.):]\s+|[^\W\d][\w ]{0,40}[:=：]\s?|\(?\d{1,3}\)?\s?[:=→：]\s?)", "", part.strip()
        )
        if number(part)[0] is None:
            return None
        written.append(part)
    return (match["key"], written) if len(written) > 1 else None
