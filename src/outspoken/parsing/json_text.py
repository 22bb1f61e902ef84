"""JSON in the text of a reply, among fences and prose; damaged JSON is repaired piece by piece."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_values import content_of, decode, read_value
from outspoken.parsing.lenient_json import LenientValue, relax, unescape
from outspoken.parsing.numbers import number_or_text
from outspoken.reply_shape import ReplyShape

__all__ = ["balanced", "first_json", "lone_value", "read_json", "read_valid_json"]

_MAX_LONE_OPENINGS = 20
_OPEN = re.compile(
    r"\{\s*+(?:[\"'“„«}]|[^\W\d]\w{0,40}+\s*+[:：])|\[\s*+(?:[{\[\"'“„(]|$)|(?:\A|(?<=\n))\(\s*+[\"'“]",
    re.MULTILINE,
)
_KNOWN_KEY = re.compile(r"[{(]\s*+[\"'“”„«]?([^\W\d][\w -]{0,40}+)[\"'“”»]?\s*+[:：]")
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OTHER_QUOTES = re.compile(r"[\[{(\s]*+['“„«＂”]")
_MAX_STRAYS = 8
_MAX_DEPTH = 200


def first_json(text: str) -> tuple[int, int]:
    """The positions of the first known key in a bracket, and of the first opening of any JSON; -1 for none."""
    names = TEXTS.keys() | WEIGHTS.keys() | LISTS | REASONING
    certain = next((match.start() for match in _KNOWN_KEY.finditer(text) if plain(match[1]) in names), -1)
    opening = _OPEN.search(text)
    return certain, opening.start() if opening else -1


def read_json(text: str, into: CandidateList, *, last_only: bool = False) -> tuple[int, int] | None:
    """Add the candidates of every JSON value in `text`; returns their span, or None if there are none.

    With `last_only` a later value replaces the earlier ones. Each region is scanned a fixed number of times.
    """
    span: tuple[int, int] | None = None
    position = parts = strays = 0
    while strays < _MAX_STRAYS and (opening := _OPEN.search(text, position)) is not None:
        start = opening.start()
        trial = CandidateList(into.shape)
        end = _read_region(text, start, trial)
        position = start + 1 if end is None else end
        strays += end is None
        into.list_seen |= trial.list_seen
        into.reasoning += trial.reasoning
        if trial.items:
            span = (start if span is None or last_only else span[0], position)
            parts = 1 if last_only else parts + 1
            if last_only:
                into.items.clear()
            into.items += trial.items
            into.repairs += trial.repairs
    if parts > 1:
        into.repairs.append("several")
    return span


def read_valid_json(text: str, into: CandidateList) -> bool:
    """Add the candidates of valid JSON; False if it is not valid."""
    value = decode(text)
    read_value(value, into)
    return value is not None


def lone_value(text: str, shape: ReplyShape) -> tuple[str, Any, tuple[str, ...]]:
    """The text and the value of the one JSON value in a reply, and the repair if it was in a fence or among prose.

    Without a JSON value, the text is the value.
    """
    content, value = content_of(text, shape)
    if not isinstance(value, str):
        return content, value, ()
    for opening in islice(_OPEN.finditer(text), _MAX_LONE_OPENINGS):
        end = balanced(text, opening.start())
        if end is None:
            break
        content, inner = content_of(text[opening.start() : end], shape)
        if not isinstance(inner, str):
            return content, inner, ("fenced" if "```" in text else "prefixed",)
    return text, value, ()


def balanced(text: str, start: int) -> int | None:
    """The position after the bracket that closes the one at `start`, for JSON with its own quotes, or None."""
    if text[start] == "(" or _OTHER_QUOTES.match(text, start):
        return None
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        sign = match[0]
        if sign in "{[":
            depth += 1
            if depth > _MAX_DEPTH:
                return None
        elif sign in "}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return None


def _read_region(text: str, start: int, into: CandidateList) -> int | None:
    """Read the value that opens at `start`; returns the position after it, or None if its end is unknown."""
    end = balanced(text, start)
    if end is None:
        relaxed = relax(text, start) or relax(text, start, cut=True)
        region = ""
    else:
        region = text[start:end]
        if read_valid_json(region, into):
            return end
        relaxed = relax(region)
    lenient, repaired = CandidateList(into.shape), CandidateList(into.shape)
    if relaxed is not None:
        if read_value(relaxed.value, lenient):
            lenient.repairs += relaxed.repairs
            _record_cut(relaxed, lenient)
        # An unclosed string that contains a brace may have swallowed candidates.
        if not (relaxed.partial and "}" in relaxed.partial):
            into.extend(lenient)
            return relaxed.end if end is None else start + relaxed.end
    if repair_json(region or text[start:], repaired) and len(repaired.items) > len(lenient.items):
        into.extend(repaired)
        return end or len(text)
    into.extend(lenient)
    return end or (len(text) if lenient.items else None)


# Damaged JSON: cut into one piece for each object, each read separately.

_MAX_REPLY_COST = 1_000_000
_MAX_PIECE_COST = 200_000
_OPENING = re.compile(r"[{(]\s*+[\"'“”„«]?([^\W\d][\w -]{0,40}+)[\"'“”»]?\s*+[:：]\s*+(.?)")
_KEY = re.compile(r"[\"'“”„«]([^\W\d][\w -]{0,40}+)[\"'“”»]\s*+[:：]\s*+|\b([^\W\d]\w{0,40}+)\s?[:：]\s*+")
_QUOTES = "\"'“”„«»"
_CLOSING = re.compile(r"[\"'”»]\s*+(?:,\s*+)?[}\]]")
_BETWEEN = re.compile(r"[\"'”]\s*+,\s*+[\"'“]")
_FIELD_NAMES = TEXTS.keys() | WEIGHTS.keys()


class RepairBudget:
    """The work that `json_repair` may still do for one reply.

    Its time is quadratic for nested openings: the length times the number of brackets is limited for one piece and
    for the whole reply.
    """

    def __init__(self) -> None:
        self._remaining = _MAX_REPLY_COST

    def guess(self, piece: str) -> Any:
        """The value that was probably meant, or None."""
        cost = len(piece) * (1 + sum(map(piece.count, "{[(")))
        if cost > min(_MAX_PIECE_COST, self._remaining):
            return None
        self._remaining -= cost
        import json_repair

        try:
            guessed = json.dumps(json_repair.loads(piece, skip_json_loads=True), ensure_ascii=False)
        except Exception:  # a fault of the library must not reach the caller
            return None
        return decode(guessed.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def repair_json(text: str, into: CandidateList) -> bool:
    """Add the candidates of a damaged region that begins with a bracket. False if there are none.

    Repairs are recorded with the candidates, a missing end with the last one. Linear in the length, because
    guessing has a budget.
    """
    starts = _openings(text)
    before = len(into.items)
    budget = RepairBudget()
    for index, start in enumerate(starts):
        last = index + 1 == len(starts)
        _read_piece(text[start : None if last else starts[index + 1]], last, into, budget)
    if len(into.items) == before:
        _read_whole(text, into, budget)
    return len(into.items) > before


def _openings(text: str) -> list[int]:
    """The positions at which the objects of candidates open: those with the first one's key, or a known key."""
    openings = []
    for match in _OPENING.finditer(text):
        name = plain(match[1])
        if (name in LISTS and match[2] in ("[", "{")) or not _is_structural(text, match.start()):
            continue
        openings.append((match.start(), name))
    has_known = any(name in _FIELD_NAMES for _, name in openings)
    if has_known and openings[0][1] in REASONING:
        openings = openings[1:]
    if not has_known and len(openings) == 1 and openings[0][1] not in REASONING:
        return []
    first = openings[0][1] if openings else ""
    return [start for start, name in openings if name == first or name in _FIELD_NAMES]


def _last_sign_before(text: str, position: int) -> int:
    """The position of the last sign before `position` that is not blank, or -1."""
    position -= 1
    while position >= 0 and text[position].isspace():
        position -= 1
    return position


def _is_structural(text: str, position: int) -> bool:
    """Whether the bracket at `position` is between values, and not inside a text."""
    before = _last_sign_before(text, position)
    if before < 0:
        return True
    sign = text[before]
    return before < position - 1 if sign in _QUOTES else sign in "[{(,}])%" or sign.isdigit()


def _read_piece(piece: str, last: bool, into: CandidateList, budget: RepairBudget) -> None:
    relaxed = relax(piece, cut=last)
    if relaxed is not None and not (relaxed.partial and "}" in relaxed.partial):
        _add_piece(relaxed, into)
        piece = piece[relaxed.end :]
        if not any(plain(match[1] or match[2]) in TEXTS for match in _keys(piece)):
            return
    objects = _flat_objects(piece, last)
    if not objects or any(isinstance(part, list) for part in objects[0].value.values()):
        value = budget.guess(piece)
        if isinstance(value, list):
            value = next((entry for entry in value if isinstance(entry, dict)), None)
        if isinstance(value, dict) and value:
            objects = [LenientValue(value, 0, ["guessed"])]
    for each in objects:
        _add_piece(each, into)


def _add_piece(piece: LenientValue, into: CandidateList) -> None:
    """Add the candidates of one piece, and record its repairs with them."""
    before = len(into.items)
    value = piece.value
    as_is = isinstance(value, list) or any(plain(key) in REASONING for key in value)
    if read_value(value if as_is else [value], into):
        for item in into.items[before:]:
            item.repairs[:0] = [repair for repair in piece.repairs if repair != "truncated"]
        _record_cut(piece, into)


def _record_cut(value: LenientValue, into: CandidateList) -> None:
    """Record a missing end with the reply, and with the last candidate if that was cut off."""
    if value.cut:
        into.repairs.append("truncated")
    if value.cut in ("string", "object"):
        last = into.items[-1]
        text_cut = value.partial is not None and last.text == value.partial.strip()
        last.repairs.append("truncated" if text_cut else "unclosed")


def _flat_objects(piece: str, last: bool) -> list[LenientValue]:
    """Read flat objects by their keys alone: the text between two keys is the value of the first.

    A repeated text key begins the next object.
    """
    keys = _keys(piece)
    objects: list[LenientValue] = []
    for index, match in enumerate(keys):
        name = match[1] or match[2]
        last_key = index + 1 == len(keys)
        if not objects or (name in objects[-1].value and plain(name) in TEXTS):
            objects.append(LenientValue({}, 0, ["missing-brace"] if objects else []))
        current = objects[-1]
        raw = piece[match.end() : None if last_key else keys[index + 1].start()]
        value, ended = _field_value(raw, last_key, current.repairs)
        if ended or plain(name) not in WEIGHTS:
            current.value[name] = value
        if last and not ended:
            current.cut, current.partial = "string", value if isinstance(value, str) else None
    return objects


def _keys(piece: str) -> list[re.Match[str]]:
    return [match for match in _KEY.finditer(piece) if _is_key(piece, match)]


def _is_key(piece: str, match: re.Match[str]) -> bool:
    known = plain(match[1] or match[2]) in _FIELD_NAMES
    before = _last_sign_before(piece, match.start())
    sign = piece[before] if before >= 0 else "{"
    if sign in "{(,":
        return known or bool(match[1])
    return known and bool(match[1]) and (sign in _QUOTES or sign.isdigit())


def _field_value(raw: str, last: bool, repairs: list[str]) -> tuple[Any, bool]:
    """The value of a field as written, and whether it ended."""
    raw = raw.strip()
    if raw[:1] in ("{", "["):
        value = decode(raw.rstrip(", \n\t"))
        relaxed = relax(raw) if value is None else None
        return (relaxed.value if relaxed is not None else value if value is not None else [raw]), True
    if raw[:1] not in _QUOTES or not raw:
        word = re.split(r"[}\]\n]", raw, maxsplit=1)[0].strip().rstrip(",").strip()
        return number_or_text(word), not last or word != raw.rstrip(",")
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


def _read_whole(text: str, into: CandidateList, budget: RepairBudget) -> None:
    """Read a region without objects of candidates: a list of strings, or an object of texts and weights."""
    before = len(into.items)
    relaxed = relax(text, cut=True)
    if relaxed is not None:
        if read_value(relaxed.value, into):
            into.repairs += relaxed.repairs
            _record_cut(relaxed, into)
    elif text[1:].lstrip()[:1] in ('"', "'", "“") and text[0] == "[":
        end = text.rfind("]")
        inner = text[1 : end if end > 0 else None].strip().strip(",")
        parts = _BETWEEN.split(inner[1:-1] if inner[-1:] in _QUOTES else inner[1:])
        repairs = ["inner-quotes"]
        read_value([unescape(part, repairs) for part in parts], into)
        into.repairs.extend(repairs)
    if len(into.items) == before and read_value(budget.guess(text), into):
        into.repairs.append("guessed")
