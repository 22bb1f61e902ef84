"""Candidates in running text: numbered, bulleted and labelled lists, lines with a probability, tables."""

from __future__ import annotations

import re
from itertools import pairwise

from outspoken.parsing.candidates import NUMBER, CandidateList
from outspoken.parsing.field_names import LISTS, TEXTS, WEIGHT_LABEL, WEIGHTS, plain
from outspoken.parsing.json_values import candidate_of

__all__ = ["first_marker", "read_lists"]

_NAME = (
    r"(?:response|candidate|option|answer|version|variant|reply|output|completion|text|joke|story|poem|sentence"
    r"|antwort|réponse|reponse|respuesta|risposta|resposta|ответ|вариант|回答|回應|回应|回复|候選|候选|選項|选项"
    r"|答案|応答|候補|응답|답변|إجابة|תשובה)"
)
_STARS = r"[*_]{0,3}"
_MARKERS = {
    "label": re.compile(
        rf"[ \t]{{0,8}}(?:[-*+•]\s)?[#*_>\s]{{0,6}}{_NAME}\s{{0,2}}"
        rf"#?(?:\d{{1,4}}(?!\w)|(?<=\s)[A-Z](?=\s?[:：.)(*])){_STARS}",
        re.IGNORECASE,
    ),
    "number": re.compile(
        r"[ \t]{0,8}[#*_>]{0,4}\s?(?:[(（]?\d{1,4}(?:[.)）:：、．](?!\d)|\s?[-–—]\s)"
        rf"|[①-⑳]|(?:[A-Za-z]|[IVX]{{2,5}})[.)]\s){_STARS}"
    ),
    "field": re.compile(
        rf"[ \t]{{0,8}}(?:[-*+•]\s)?[*_\"]{{0,3}}{_NAME}[*_\"]{{0,3}}\s{{0,2}}[:：]{_STARS}", re.IGNORECASE
    ),
    "bullet": re.compile(r"[ \t]{0,8}[-*+•‣·–—◦▪]\s"),
}
_FIELD = re.compile(rf"\s{{0,4}}[*_\"]{{0,3}}{_NAME}[*_\"]{{0,3}}\s{{0,2}}[:：]{_STARS}\s{{0,4}}", re.IGNORECASE)
_SEPARATOR = (
    r"[*_\"'`]{0,3}\s{0,3}(?:[:：=≈~～]|is|of|ist|est|es|は|为|為|是)?\s{0,3}[*_\"'`]{0,3}\s{0,2}"
    r"[~≈<≤]?\s{0,2}(?:about |approx\.? |ca\.? |約|约)?"
)
_LABELLED = re.compile(
    rf"(?<!\w)(?P<key>{WEIGHT_LABEL}|p(?=\s{{0,2}}[=:≈]))\.?{_SEPARATOR}"
    rf"(?P<weight>{NUMBER}|nan|n/a|unknown|high|medium|low)(?!\w)",
    re.IGNORECASE,
)
_SURE = (
    r"(?:[01]?[.,٫]\d{1,30}(?:[eE]-?\d{1,3})?|[01]|\d{1,3}(?:[.,]\d{1,20})?\s?[%٪％]"
    r"|\d(?:[.,]\d{1,20})?[eE]-\d{1,3})"
)
_TRAILING = re.compile(
    rf"\s{{0,3}}(?:[(\[（【{{]\s{{0,3}}(?P<a>{_SURE})\s{{0,3}}[)\]）】}}]"
    rf"|(?:\s[-–—]|[:：|=→]|->|\t)\s{{0,3}}(?P<b>{_SURE}))[\s.。]{{0,4}}\Z"
)
_LEADING = re.compile(
    rf"\s{{0,3}}(?:[(\[（【]\s{{0,3}}(?P<a>{_SURE})\s{{0,3}}[)\]）】]\s{{0,3}}[:：\-–—]?"
    rf"|(?P<b>{_SURE})\s{{0,3}}[:：\-–—|])\s"
)
# A weight in brackets in the middle of a line, and the beginning of the next candidate on that line.
_INLINE = re.compile(
    rf"[(\[（【]\s{{0,3}}(?:(?:{WEIGHT_LABEL}|p){_SEPARATOR})?{_SURE}\s{{0,3}}[)\]）】]"
    r"(?:\s{0,3}[,，;；、|]\s{0,3}|\s{1,8}(?=[(（]?\d{1,4}[.)）]\s|[-*•]\s))",
    re.IGNORECASE,
)
_RULE = re.compile(r"[\s|:\-]{3,400}")
_OPENERS = " \t([（【{—–-,，;；:：|*_\"'~"
_CLOSERS = " \t)]）】}.。,，;；*_\"'|:："
_AFTER = " \t)]）】}*_:："
_LONGEST = 300

_Row = tuple[str, tuple[str | None, str] | None, str]
"""The text of an entry, its weight with the label (None for none), and a note after both."""


def first_marker(text: str) -> int:
    """The position at which a numbered or labelled list begins, or -1."""
    position = 0
    for line in text.splitlines(keepends=True):
        if any(_MARKERS[name].match(line) for name in ("label", "number")) and len(line.strip()) > 3:
            return position
        position += len(line)
    return -1


def read_lists(text: str, into: CandidateList) -> bool:
    """Add the candidates of a list or a table. False if there is none."""
    lines = [part for line in text.replace("\r\n", "\n").split("\n") for part in _parts(line)]
    if _read_table(lines, into):
        return True
    blocks, before = _blocks(lines)
    rows = [_row(block) for block in blocks]
    if not rows or (len(rows) == 1 and rows[0][1] is None and _marker_kind(lines) == "bullet"):
        rows, before = _unmarked(lines), []
    if not rows:
        return False
    if before:
        into.repairs.append("prefixed")
        into.reasoning.append("\n".join(before).strip())
    for content, weight, note in rows:
        item = candidate_of(content, into.shape)
        if weight is not None:
            item.state(weight[1], weight[0])
        if note:
            item.meta["note"] = note
        into.add(item)
    into.repairs.append("as-list")
    return True


def _parts(line: str) -> list[str]:
    """The candidates of a line with several, each of which ends with its weight in brackets."""
    cuts = [0, *(match.end() for match in _INLINE.finditer(line)), len(line)]
    return [line[start:end].rstrip(" \t,，;；、|") for start, end in pairwise(cuts)] if len(cuts) > 2 else [line]


def _marker_kind(lines: list[str]) -> str | None:
    """The kind of the first marker: all entries of a list have the same kind."""
    for line in lines:
        for name, pattern in _MARKERS.items():
            if pattern.match(line):
                return name
    return None


def _is_weight(line: str) -> bool:
    match = _LABELLED.match(line.lstrip(_OPENERS)) if len(line) < _LONGEST else None
    return match is not None and not line.lstrip(_OPENERS)[match.end() :].strip(_CLOSERS)


def _blocks(lines: list[str]) -> tuple[list[list[str]], list[str]]:
    """The lines of each entry without its marker, and the lines before the first entry."""
    kind = _marker_kind(lines)
    blocks: list[list[str]] = []
    before: list[str] = []
    indent, stated = 99, False
    if kind is None:
        return blocks, before
    for line in lines:
        match = _MARKERS[kind].match(line)
        depth = len(line) - len(line.lstrip())
        rest = line[match.end() :] if match is not None else line
        weight = _is_weight(rest)
        belongs = weight and kind == "bullet" and blocks and not stated
        if match is not None and depth <= indent + 1 and not belongs:
            indent = min(indent, depth)
            blocks.append([rest])
            stated = weight
        elif blocks:
            blocks[-1].append(rest if weight else line)
            stated |= weight
        elif line.strip():
            before.append(line)
    _cut_epilogue(blocks)
    return blocks, before


def _cut_epilogue(blocks: list[list[str]]) -> None:
    """Remove the prose after the list from its last entry, if no other entry contains a blank line."""
    if len(blocks) < 2 or any("" in map(str.strip, "\n".join(block).strip().split("\n")) for block in blocks[:-1]):
        return
    last = blocks[-1]
    blank = next((index for index, line in enumerate(last) if index and not line.strip()), None)
    if blank is not None and not any(_is_weight(line) for line in last[blank:]):
        del last[blank:]


def _row(lines: list[str]) -> _Row:
    """Split an entry into text and weight, at its last line with a weight."""
    for index in range(len(lines) - 1, -1, -1):
        split = _split(lines[index])
        if split is None:
            continue
        head, key, weight, tail = split
        above = "\n".join([*lines[:index], head]).strip()
        below = "\n".join([tail, *lines[index + 1 :]]).strip()
        text, note = (above, below) if above.strip(_OPENERS) else (below, "")
        return _body(text), (key, weight), note
    return _body("\n".join(lines).strip()), None, ""


def _body(text: str) -> str:
    text = text.strip().lstrip(":：").lstrip()
    label = _FIELD.match(text)
    return text[label.end() :].strip() if label is not None else text


def _split(line: str) -> tuple[str, str | None, str, str] | None:
    """Split a line at the weight at its end, at its beginning, or in brackets: text, label, weight, remainder."""
    line = line.strip()
    start = max(0, len(line) - _LONGEST)
    for match in reversed(list(_LABELLED.finditer(line, start))):
        head, tail = line[: match.start()], line[match.end() :]
        bracketed = head.rstrip().endswith(tuple("([（【{")) and tail.lstrip().startswith(tuple(")]）】}"))
        if bracketed or not tail.strip(_CLOSERS) or not head.strip(_OPENERS):
            return _trim(head), match["key"], match["weight"], tail.lstrip(_AFTER) if tail.strip(_CLOSERS) else ""
    return _split_unlabelled(line, start)


def _split_unlabelled(line: str, start: int) -> tuple[str, None, str, str] | None:
    match = _TRAILING.search(line, start)
    if match is not None and match.start():
        return line[: match.start()].rstrip(), None, match["a"] or match["b"], ""
    match = _LEADING.match(line)
    if match is not None:
        return "", None, match["a"] or match["b"], line[match.end() :].strip()
    return None


def _trim(head: str) -> str:
    """Remove the bracket, dash or comma before the weight; the text keeps its own punctuation."""
    head = head.rstrip(" \t*_")
    bare = head.rstrip("([（【{")
    if bare != head:
        return bare.rstrip(" \t*_")
    return head[:-1].rstrip() if head[-1:] in tuple("—–-,，;；|:：") else head


def _unmarked(lines: list[str]) -> list[_Row]:
    """Entries separated by their probabilities alone: the text above each one, or the line that it ends."""
    rows: list[_Row] = []
    above: list[str] = []
    labelled = False
    for line in lines:
        split = _split(line)
        if split is None or (split[1] is None and not split[0]):
            above.append(line)
            continue
        labelled |= split[1] is not None
        head, key, weight, tail = split
        paragraphs = [part for part in re.split(r"\n\s*?\n", "\n".join([*above, head]).strip()) if part.strip()]
        if not rows and len(paragraphs) > 1:
            paragraphs = paragraphs[1:] if paragraphs[0].rstrip()[-1:] in tuple(":：") else paragraphs
        text = _body("\n\n".join(paragraphs)) if key is not None else _body(head)
        if text or tail:
            rows.append((text or tail, (key, weight), ""))
        above = []
    return rows if labelled or len(rows) > 1 else []


def _read_table(lines: list[str], into: CandidateList) -> bool:
    """A Markdown table with a column of texts and one of weights."""
    rules = (i for i, line in enumerate(lines) if i and "--" in line and "|" in line and _RULE.fullmatch(line))
    rule = next(rules, None)
    if rule is None:
        return False
    header = [plain(cell) for cell in _cells(lines[rule - 1])]
    weight = next((i for i, name in enumerate(header) if name in WEIGHTS), None)
    text = next((i for i, name in enumerate(header) if name in TEXTS or name in LISTS), None)
    if text is None:
        others = [i for i, name in enumerate(header) if i != weight and name not in ("#", "no", "")]
        text = others[-1] if others else None
    if text is None or (weight is None and header[text] not in TEXTS):
        return False
    before = len(into.items)
    for line in lines[rule + 1 :]:
        cells = _cells(line)
        if "|" not in line or len(cells) <= max(text, weight or 0):
            break
        item = candidate_of(cells[text], into.shape)
        if weight is not None and cells[weight]:
            item.state(cells[weight], None)
        into.add(item)
    if len(into.items) > before:
        into.repairs.append("as-table")
    return len(into.items) > before


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.strip())
    parts = parts[1:] if parts and not parts[0].strip() else parts
    parts = parts[:-1] if parts and not parts[-1].strip() else parts
    return [part.strip().replace("\\|", "|") for part in parts]
