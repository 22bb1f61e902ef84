"""The stated probability in a line of running text: labelled, in brackets, at the end or at the beginning."""

from __future__ import annotations

import re
from functools import lru_cache

from outspoken.parsing.field_names import WEIGHT_LABEL, WEIGHTS, plain
from outspoken.parsing.numbers import comment_of, number
from outspoken.parsing.weight_damage import goes_on, is_open, note_damage
from outspoken.parsing.weight_groups import INDEX, group_content
from outspoken.parsing.weight_patterns import (
    AFTERWARDS,
    CLOSERS,
    DIGIT,
    LABELLED,
    NO_NUMBERS,
    OPENERS,
    SURE_KEY,
    SURE_SIGN,
    SYMBOL,
    WEIGHT_FIELD,
    LineWeight,
    trimmed,
    weight_of,
)
from outspoken.parsing.words import pattern

__all__ = ["find_weight", "forget_lines"]


_LONGEST = 300
_NEED = re.compile(r"[\d½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚%]|[:：=≈]")
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
_GROUP = re.compile(
    r"\(([^()\n]{1,160})\)|（([^（）\n]{1,160})）|\[([^\[\]\n]{1,160})\]|【([^【】\n]{1,160})】|\{([^{}\n]{1,160})\}"
    r"|［([^［］\n]{1,160})］"
    r"|〔([^〔〕\n]{1,160})〕|<([^<>\n]{1,60})>|〈([^〈〉\n]{1,60})〉|《([^《》\n]{1,60})》|『([^『』\n]{1,60})』"
    r"|\*\*([^*\n]{1,60})\*\*|__([^_\n]{1,60})__|`([^`\n]{1,60})`|\$([^$\n]{1,60})\$"
    r"|(?<!\*)\*([^*\n]{1,60})\*(?!\*)|(?<!\w)_([^_\n]{1,60})_(?!\w)"
    r"|「([^「」\n]{1,60})」|\|([^|\n]{1,60})\|"
)
_TRAILING = re.compile(
    r"(?:\s[-–—−‒]{1,3}(?=\s?[\d.~≈]|\s)|[-–—]{2,3}|—|–(?=\s)|(?<!\d)[:：]|[:：](?=\s)|=>|-->|->|\s[~≈](?=\s?\d)"
    r"|[|=→⇒➔➜➡▸▶»›·•⟶↦@]|\.{2,}|…+|\t|\s{2,}|[,，;；](?=\s?[^\s]))\ufe0f?\s*"
)
_LEADING = re.compile(
    r"(?P<value>[^\s:：\-–—|→\t][^:：|→\t\n]{0,30}?)\s*(?:[:：|](?!\d)|[→\t]|->|=>|\s[-–—]\s|[-–—]\s|\s[-–—]|[)）\]](?![.,]?\d)"
    r"|\s{2,})[\s]*(?=\S)"
)


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
    if found is not None:
        note_damage(line, found)
    return found


def _find(line: str) -> LineWeight | None:
    if line[-1:] in ":：=" and (label := WEIGHT_FIELD.fullmatch(line)) is not None and label["index"]:
        return LineWeight("", label["key"], index=label["index"])
    opened = _OPEN_GROUP.search(line)
    if opened is not None and (found := _in_open_group(line, opened)) is not None:
        return found
    if line.lstrip(" \t*_>-+•")[:1] in tuple("([（【{"):
        return _in_group(line) or _as_field(line) or _labelled(line) or _unlabelled(line)
    found = _as_field(line)
    if found is not None:
        return found
    usual = _USUAL.fullmatch(line)
    if usual is not None and (usual["key"] is None or plain(usual["key"]) in WEIGHTS):
        return LineWeight(usual["value"], usual["key"], trimmed(usual["head"]), bracketed=True)
    return _in_group(line) or _labelled(line) or _unlabelled(line)


_STARTS_OF_LABELS = frozenset(name[:end] for name in WEIGHTS for end in range(len(name) + 1))
_OPEN_GROUP = re.compile(r"[(（\[【]([^()（）\[\]【】]{1,60})$")


def _in_open_group(line: str, opened: re.Match[str]) -> LineWeight | None:
    """The weight in brackets that the end of the line leaves open: a label or a number may be cut off."""
    content = opened[1].strip(" *_")
    if len(content.split()) > _MOST_COMMENT + 2:
        return None
    found = group_content(content)
    if found is None and len(content) > 2 and not any(c.isdecimal() for c in content):
        name = plain(content.rstrip(":：=≈ "))
        found = LineWeight("", name) if name in _STARTS_OF_LABELS else None
    if found is None:
        return None
    if not line[: opened.start()].strip(OPENERS) and (found.key is None or comment_of(found.written)):
        return None
    if _INTEGER.fullmatch(found.written):
        found.written = "…"
    found.head, found.is_cut = trimmed(line[: opened.start()]), True
    return found


_INTEGER = re.compile(r"\W*\d{1,3}(?:\s?[:/]\s?\d{0,3})?\W*")


def _in_long_line(line: str) -> LineWeight | None:
    """The weight at the end of a long line, else at its beginning."""
    tail = line[-_LONGEST:]
    found = _in_group(tail) or _labelled(tail) or _trailing(tail)
    if found is not None and not (found.tail.strip(CLOSERS)):
        found.head = line[:-_LONGEST] + found.head
        return found
    head = line[:_LONGEST]
    found = _in_group(head) or _leading(head)
    if found is not None and not found.head.strip(OPENERS):
        found.tail += line[_LONGEST:]
        return found
    return None


_MOST_COMMENT = 3
_INSIDE = re.compile(r"\d[^\w\s%]{0,2}\Z")
_POWER = re.compile(r"[\d.,]{0,8}\s?[x×*·]?\s?10\s?[\^⁻⁰¹²³⁴⁵⁶⁷⁸⁹]")
_LONGEST_COMMENT = 24
_SEPARATED = re.compile(r"[:：=≈→]|->|[-–—]\s")


def _as_field(line: str) -> LineWeight | None:
    """A line that is a label and a value, or begins with them."""
    match = WEIGHT_FIELD.match(line)
    symbol = SYMBOL.match(line) if match is None else None
    match = match or symbol
    if match is None:
        return None
    if _SEPARATED.search(line, match.end("key"), match.end()) is None and _ends_with_another(line, match.end()):
        return None
    index = match["index"] or (match.groupdict().get("second") or "")
    key = match["key"].strip()
    rest = line[match.end() :].strip().strip("*_`\"'$").strip()
    if not rest or rest[:1] in ",;":
        return None
    number_of_label = rest.rstrip(" :：=≈")
    if number_of_label.isdecimal() and not _SEPARATED.search(line, 0, match.end()):
        # The number of a label whose value the end of the reply cut off.
        return LineWeight("", key, index=number_of_label)
    stop = _VALUE_END.search(rest)
    value = rest[: stop.start()] if stop is not None else rest
    if _reads(value):
        comment = comment_of(value)
        is_text = (
            bool(comment)
            and stop is not None
            and is_open(line, match.end())
            and stop[0].strip()[:1] not in tuple(")]）】")
        )
        if is_text or len(comment.split()) > _MOST_COMMENT or len(comment) > _LONGEST_COMMENT:
            at = rest.index(comment)
            return LineWeight(rest[:at].strip(), key, tail=rest[at:], index=index)
        tail = rest[len(value) :].lstrip(" \t)]）】}*_:：|,，;；-–—.。`$")
        if _POWER.match(tail) or (tail and number(tail)[0] is not None and not any(map(str.isalpha, tail))):
            return LineWeight(rest, key, index=index)
        if not tail or (tail[0] in "(（" and tail[-1:] in ")）"):
            return LineWeight(value, key, note=tail.strip("()（）"), index=index)
        return LineWeight(value, key, tail=tail, note=comment, index=index)
    bare = rest.rstrip(CLOSERS)
    if (
        SURE_KEY.fullmatch(key)
        and line[match.end() - 3 : match.end()].strip(" *_")[-1:] in tuple(":：=")
        and len(rest) < 25
        and len(rest.split()) < 3
    ):
        return LineWeight(bare if number(bare)[0] is not None else rest, key, index=index)
    if (
        number(bare)[0] is not None
        or rest.lower() in NO_NUMBERS
        or (match[0][-1:] != key[-1:] and len(rest.split()) <= 6 and len(rest) < 60 and DIGIT.search(rest))
    ):
        if stop is not None and stop[0].strip()[:1] in tuple(")]）】") and rest[stop.end() :].strip(CLOSERS):
            return LineWeight(value, key, tail=rest[stop.end() :].strip(), index=index)
        return LineWeight(bare if number(bare)[0] is not None else rest, key, index=index)
    return None


def _ends_with_another(line: str, start: int) -> bool:
    """Whether a line that begins with a label's word, as in "Weight loss in 3 weeks (0.3)", ends with a weight."""
    found = _in_group(line) if line.rstrip(" \t.。*_")[-1:] in tuple(")]）】") else None
    if found is None or found.tail or len(found.head) <= start:
        return False
    between = found.head[start:].strip()
    return number(between)[0] is None or len(comment_of(between).split()) > 2


def _reads(written: str) -> bool:
    """Whether a value is a number, with few words after it."""
    return len(written) < 80 and len(written.split()) <= 12 and number(written)[0] is not None


def _in_group(line: str) -> LineWeight | None:
    """The last weight in brackets, bold or backticks: at an end of the line, or anywhere if it has a label."""
    groups = list(_GROUP.finditer(line))
    ordered = [*reversed(groups[-6:]), *groups[:1]]
    if len(groups) > 1 and not line[: groups[0].start()].strip(OPENERS) and _LABELLED_GROUP.match(groups[0][0]):
        ordered.insert(0, groups[0])
    for match in ordered:
        found = group_content(next(part for part in match.groups() if part is not None))
        if found is None:
            continue
        head, tail = line[: match.start()], line[match.end() :]
        if _ONE_INTEGER.fullmatch(match[0]) and head[-1:].isdigit():
            continue
        marks = match[0][0] in "*_`$<|「『《〈"
        chosen = _CHOSEN.fullmatch(tail) if len(tail) < 40 else None
        marked = chosen is not None and (chosen["word"] is not None or not tail.isascii())
        at_end, at_start = marked or not tail.strip(CLOSERS), not head.strip(OPENERS)
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
            and not SURE_SIGN.search(found.written)
        ):
            continue
        if at_start and not at_end:
            tail = tail.lstrip(" \t*_:：-–—|→")
            head = ""
        elif at_end:
            tail = ""
            head = trimmed(head)
        if rest := goes_on(line, match.end()):
            # A bracket got into the number, so that it does not end there.
            found.written = match[0] + rest
            tail = line[match.end() + len(rest) :].lstrip(" \t*_:：-–—|→")
        found.head, found.tail, found.bracketed = head, tail, True
        return found
    return None


_CHOSEN = re.compile(
    rf"[^\w]*(?P<word>"
    rf"{pattern('chosen')}"
    r")?[^\w]*",
    re.IGNORECASE,
)


_LABELLED_GROUP = re.compile(rf"[(（\[【](?:{WEIGHT_LABEL}|p\s?=)", re.IGNORECASE)
_ONE_INTEGER = re.compile(r"[(（\[]\d+[)）\]]")


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
    for match in reversed(list(LABELLED.finditer(line))):
        rest = line[match.end() :]
        value = rest.strip().rstrip(CLOSERS)
        if value + "%" == rest.strip()[: len(value) + 1]:
            value += "%"
        if _reads(value):
            return LineWeight(
                value, match["key"], _without_connective(line[: match.start()]), index=match["index"] or ""
            )
        stop = _VALUE_END.search(rest)
        value = rest[: stop.start()] if stop is not None else rest
        head = line[: match.start()]
        if number(value)[0] is not None and not head.strip(OPENERS):
            return LineWeight(value, match["key"], tail=rest[len(value) :].lstrip(" \t)]）】}*_:：,，;；-–—"))
        if not rest[len(value) :].strip(CLOSERS) and value and len(value) < 40:
            return LineWeight(value, match["key"], _without_connective(head), index=match["index"] or "")
    start = max(0, len(line) - 80)
    for match in reversed(list(AFTERWARDS.finditer(line, start))):
        if not line[match.end() :].strip(CLOSERS) and number(match["value"])[0] is not None:
            head = line[: match.start()]
            if not head.strip() or head.rstrip()[-1:] in tuple("-–—:：,，|→(（["):
                return LineWeight(match["value"], match["key"], _without_connective(head))
    return None


def _without_connective(head: str) -> str:
    match = _CONNECTIVE.search(head, max(0, len(head) - 40))
    return trimmed(head[: match.start()] if match is not None and match[0].strip() else head)


def _unlabelled(line: str) -> LineWeight | None:
    if weight_of(line.lstrip(OPENERS).rstrip(CLOSERS)):
        return LineWeight(line.strip(OPENERS), None)
    return _trailing(line) or _leading(line)


def _trailing(line: str) -> LineWeight | None:
    """A weight after a dash, colon, arrow, dots or blanks at the end of the line."""
    start = max(0, len(line) - 60)
    for match in _TRAILING.finditer(line, start):
        value = line[match.end() :].strip(" \t*_`$")
        if match.start() and weight_of(value) and line[: match.start()].strip(OPENERS):
            head = line[: match.start()]
            if match[0][:1] in ",，;；" and not SURE_SIGN.search(value) and " " not in value:
                continue
            if head.rstrip()[-1:] == "^" or (_INSIDE.search(head) and not match[0][:1].isspace()):
                continue
            head = trimmed(head)
            is_key = len(head) > 2 and head[0] == head[-1] == '"' and match[0].strip()[:1] in (":", "：")
            return LineWeight(value, None, head[1:-1] if is_key else head)
    return None


_NUMBER_IN_BRACKETS = re.compile(r"[\d.,]+\s?%?[)）\]】]")
_LEADING_COLON = re.compile(r"\s*(?:[:：→]|\s[-–—]\s|[)）\]])\s*")


def _is_inside(line: str, leading: str) -> bool:
    """Whether a line begins with a bracket that ends only after this beginning of it."""
    opened = line.lstrip(" \t*_")[:1] in tuple("([（【") and not any(sign in leading for sign in ")]）】")
    return opened and any(sign in line for sign in ")]）】")


def _leading(line: str) -> LineWeight | None:
    """A weight at the beginning of the line, with a dash, colon, arrow or bar after it."""
    bare = line.lstrip(OPENERS.replace("(", "").replace("[", ""))
    said = AFTERWARDS.match(bare)
    colon = _LEADING_COLON.match(bare, said.end()) if said is not None else None
    if said is not None and colon is not None and _NUMBER_IN_BRACKETS.match(bare, colon.end()):
        return None
    if said is not None and colon is not None and number(said["value"])[0] is not None:
        return LineWeight(said["value"], said["key"], tail=bare[colon.end() :].strip())
    match = _LEADING.match(bare)
    if match is not None and (INDEX.fullmatch(match["value"]) or _is_inside(line, match[0])):
        return None
    value = match["value"].strip(" *_`$([（") if match is not None else ""
    if match is None or not SURE_SIGN.search(value) or not weight_of(value):
        return None
    return LineWeight(value, None, tail=bare[match.end() :].strip())
