"""Candidates out of JSON that is beyond mending as a whole: cut it at their openings and read each by itself."""

from __future__ import annotations

import json
import re
from typing import Any

from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_candidates import FoundCandidates, decode, interpret
from outspoken.parsing.lenient_json import LenientValue, relax, unescape
from outspoken.parsing.probabilities import figure
from outspoken.reply_shape import ReplyShape

__all__ = ["RepairBudget", "mend"]

_WHOLE = 1_000_000
_PIECE = 200_000


class RepairBudget:
    """How much work guessing may still cost in this reply.

    `json_repair` takes quadratic time on nested openings, so its cost is estimated as the length times the number
    of brackets, and bounded for one piece and for all of them.
    """

    def __init__(self) -> None:
        self.left = _WHOLE

    def guess(self, piece: str) -> Any:
        """The value that was probably meant, or None."""
        cost = len(piece) * (1 + sum(map(piece.count, "{[(")))
        if cost > min(_PIECE, self.left):
            return None
        self.left -= cost
        import json_repair

        try:
            guessed = json.dumps(json_repair.loads(piece, skip_json_loads=True), ensure_ascii=False)
        except Exception:  # whatever a broken reply does to the library, it is not our caller's error
            return None
        return decode(guessed.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


_OPENING = re.compile(r"[{(]\s*+[\"'“”„«]?([^\W\d][\w -]{0,40}+)[\"'“”»]?\s*+[:：]\s*+(.?)")
_KEY = re.compile(r"[\"'“”„«]([^\W\d][\w -]{0,40}+)[\"'“”»]\s*+[:：]\s*+|\b([^\W\d]\w{0,40}+)\s?[:：]\s*+")
_QUOTES = "\"'“”„«»"
_CLOSING = re.compile(r"[\"'”»]\s*+(?:,\s*+)?[}\]]")
_BETWEEN = re.compile(r"[\"'”]\s*+,\s*+[\"'“]")
_KNOWN = TEXTS.keys() | WEIGHTS.keys()


def mend(text: str, shape: ReplyShape | None, found: FoundCandidates) -> bool:
    """Add the candidates of a damaged region that begins with a bracket. False where there are none.

    Each candidate carries the repairs it needed; the last one those of a cut end. Linear in the length: what is
    left to guess is rationed.
    """
    starts = _openings(text)
    before = len(found.items)
    ration = RepairBudget()
    for at, start in enumerate(starts):
        final = at + 1 == len(starts)
        _piece(text[start : None if final else starts[at + 1]], final, shape, found, ration)
    if len(found.items) == before:
        _unsplit(text, shape, found, ration)
    return len(found.items) > before


def _openings(text: str) -> list[int]:
    """Where the objects of candidates open: the same first key each time, or one that is known."""
    found = []
    for match in _OPENING.finditer(text):
        name = plain(match[1])
        if (name in LISTS and match[2] in ("[", "{")) or not _structural(text, match.start()):
            continue
        found.append((match.start(), name))
    known = [entry for entry in found if entry[1] in _KNOWN]
    if known and found[0][1] in REASONING:
        found = found[1:]
    if not known and len(found) == 1 and found[0][1] not in REASONING:
        return []
    first = found[0][1] if found else ""
    return [start for start, name in found if name == first or name in _KNOWN]


def _before(text: str, at: int) -> int:
    """The position of the last sign before `at` that is not blank, or -1."""
    at -= 1
    while at >= 0 and text[at].isspace():
        at -= 1
    return at


def _structural(text: str, at: int) -> bool:
    """Whether a bracket at `at` stands between values, and not inside a text."""
    before = _before(text, at)
    if before < 0:
        return True
    sign = text[before]
    return before < at - 1 if sign in _QUOTES else sign in "[{(,}])%" or sign.isdigit()


def _piece(
    piece: str, final: bool, shape: ReplyShape | None, found: FoundCandidates, ration: RepairBudget
) -> None:
    relaxed = relax(piece, cut=final)
    if relaxed is not None and not (relaxed.partial and "}" in relaxed.partial):
        _keep(relaxed, shape, found)
        piece = piece[relaxed.end :]
        if not any(plain(match[1] or match[2]) in TEXTS for match in _keys(piece)):
            return
    states = _fields(piece, final)
    if not states or any(isinstance(part, list) for part in states[0].value.values()):
        value = ration.guess(piece)
        if isinstance(value, list):
            value = next((entry for entry in value if isinstance(entry, dict)), None)
        if isinstance(value, dict) and value:
            states = [LenientValue(value, 0, ["guessed"])]
    for state in states:
        _keep(state, shape, found)


def _keep(state: LenientValue, shape: ReplyShape | None, found: FoundCandidates) -> None:
    """Interpret one piece and write its repairs on its candidates."""
    before = len(found.items)
    value = state.value
    alone = isinstance(value, list) or any(plain(key) in REASONING for key in value)
    if interpret(value if alone else [value], shape, found):
        for item in found.items[before:]:
            item.repairs[:0] = [repair for repair in state.repairs if repair != "truncated"]
        mark_cut(state, found)


def mark_cut(state: LenientValue, found: FoundCandidates) -> None:
    """Say on the reply, and on the last candidate where it is the one, that the end is missing."""
    if state.cut:
        found.repairs.append("truncated")
    if state.cut in ("string", "object"):
        last = found.items[-1]
        cut = state.partial is not None and last.text == state.partial.strip()
        last.repairs.append("truncated" if cut else "unclosed")


def _fields(piece: str, final: bool) -> list[LenientValue]:
    """Read flat objects by their keys alone: what stands between two keys is the value of the first.

    A text key that comes again begins the next object.
    """
    keys = _keys(piece)
    states: list[LenientValue] = []
    for at, match in enumerate(keys):
        name = match[1] or match[2]
        last = at + 1 == len(keys)
        if not states or (name in states[-1].value and plain(name) in TEXTS):
            states.append(LenientValue({}, 0, ["missing-brace"] if states else []))
        state = states[-1]
        value, ended = _value(piece[match.end() : None if last else keys[at + 1].start()], last, state.repairs)
        if ended or plain(name) not in WEIGHTS:
            state.value[name] = value
        if final and not ended:
            state.cut, state.partial = "string", value if isinstance(value, str) else None
    return states


def _keys(piece: str) -> list[re.Match[str]]:
    return [match for match in _KEY.finditer(piece) if _is_key(piece, match)]


def _is_key(piece: str, match: re.Match[str]) -> bool:
    known = plain(match[1] or match[2]) in _KNOWN
    before = _before(piece, match.start())
    sign = piece[before] if before >= 0 else "{"
    if sign in "{(,":
        return known or bool(match[1])
    return known and bool(match[1]) and (sign in _QUOTES or sign.isdigit())


def _value(raw: str, last: bool, repairs: list[str]) -> tuple[Any, bool]:
    """One value as written, and whether it ended."""
    raw = raw.strip()
    if raw[:1] in ("{", "["):
        value = decode(raw.rstrip(", \n\t"))
        relaxed = relax(raw) if value is None else None
        return (relaxed.value if relaxed is not None else value if value is not None else [raw]), True
    if raw[:1] not in _QUOTES or not raw:
        word = re.split(r"[}\]\n]", raw, maxsplit=1)[0].strip().rstrip(",").strip()
        return figure(word), not last or word != raw.rstrip(",")
    ends = list(_CLOSING.finditer(raw, 1)) if last else []
    if ends:
        body, closed = raw[1 : ends[-1].start()], True
    else:
        body = raw.rstrip(", \n\t")
        closed = len(body) > 1 and body[-1] in _QUOTES
        body = body[1:-1] if closed else body[1:]
    if any(quote in body for quote in "\"“'"):
        repairs.append("inner-quotes")
    if "\n" in body:
        repairs.append("raw-newline")
    return unescape(body, repairs), closed or not last


def _unsplit(text: str, shape: ReplyShape | None, found: FoundCandidates, ration: RepairBudget) -> None:
    """A region without objects: a list of strings, or an object of texts and weights."""
    before = len(found.items)
    relaxed = relax(text, cut=True)
    if relaxed is not None:
        if interpret(relaxed.value, shape, found):
            found.repairs += relaxed.repairs
            mark_cut(relaxed, found)
    elif text[1:].lstrip()[:1] in ('"', "'", "“") and text[0] == "[":
        end = text.rfind("]")
        inner = text[1 : end if end > 0 else None].strip().strip(",")
        parts = _BETWEEN.split(inner[1:-1] if inner[-1:] in _QUOTES else inner[1:])
        repairs = ["inner-quotes"]
        interpret([unescape(part, repairs) for part in parts], shape, found)
        found.repairs.extend(repairs)
    if len(found.items) == before and interpret(ration.guess(text), shape, found):
        found.repairs.append("guessed")
