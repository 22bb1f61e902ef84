"""Reading what a judge wrote: scores by criterion, or which of two responses is better.

Whatever is not plain is a `ReplyError` and never a score: the judge is asked again, and after that it is counted.
What stands behind a semicolon in its message is for the user, and the judge is not told.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from outspoken.chat_reply import ChatReply
from outspoken.errors import ReplyError
from outspoken.measure.rubrics import CHOICES, Criterion, Rubric, name_key
from outspoken.parsing.json_text import balanced
from outspoken.parsing.lenient_json import relax
from outspoken.parsing.markup import split_reasoning

__all__ = ["read_choice", "read_scores"]

_STRAYS = 32
_DECORATION = " \t*_`\"'“”<>()[]{}"
_NAMES = frozenset(("criterion", "criteria", "name", "dimension"))
_SCORES = frozenset(("score", "rating", "value", "points", "grade"))
_BETTER = frozenset(("better", "winner", "preference", "preferred", "choice", "verdict", "answer"))

_NUMBER = re.compile(
    r"(?P<value>[-+−]?\d{1,9}(?:[.,٫]\d{1,20})?)(?![.,٫]?\d|[a-z¼-¾⅐-⅞²³¹⁰-⁹])"
    r"(?:\s{0,3}(?:[/／]|out of\b|of\b)\s{0,3}(?P<most>\d{1,9}(?:[.,٫]\d{1,20})?))?"
    r"(?P<unclear>\s{0,3}(?:[%％٪]|(?:-|–|—|~|～|to\b|or\b)\s{0,3}\d))?"
)
_FURTHER_CELL = re.compile(r"[^|\n]*\|[ *_`]{0,8}\d[\d.,/ ]{0,20}[*_` ]{0,8}(?:\||$)", re.MULTILINE)
_BEFORE = r"(?:^|[,;，；|])[ \t>*_#`\"'“•–—-]{0,12}(?:\d{1,2}[.)][ \t]{0,4})?[*_`\"'“\[]{0,6}"
_BEHIND = (
    r"[*_`\"'”\]]{0,6}[ \t]{0,4}(?:[(\[][^()\[\]\n]{0,40}[)\]])?[*_`\"'” \t]{0,6}"
    r"(?P<sign>[:：=＝|｜→]|[-–—]{1,3}>?[ \t]|is[ \t])[*_`\"'“ \t(\[]{0,8}"
)
_SAID = re.compile(
    r"^[ \t>*_#`\"'“]{0,12}"
    rf"(?:(?:overall )?(?:{'|'.join(sorted(_BETTER))})(?: response)?(?: is)?[*_`\"'” \t:=]{{1,8}})?"
    r"[*_`\"'“\[(]{0,6}(?:the )?(?:response )?(?P<choice>first|second|tie|1|2)(?: response)?(?: is better)?"
    r"[*_`\"'”\])., \t]{0,8}$",
    re.MULTILINE,
)


def read_scores(reply: ChatReply, rubric: Rubric) -> dict[str, float]:
    """The score of every criterion by its name, in the order of the rubric.

    Read are JSON anywhere in the reply, in any nesting, and otherwise lines and tables such as "Criterion: 14/20".
    The names' case and punctuation do not matter. Raises `ReplyError`, whose message begins with what is wrong:
    a criterion is missing, has two numbers, one that is none, one on another scale or one out of its bounds.
    """
    text = _answer(reply)
    finding = _Finding(rubric.criteria)
    for value in _values(text):
        finding.walk(value)
    if not finding.seen:
        # The last number may go on where the reply was cut off.
        finding.lines(text if reply.finish != "length" else text.rpartition("\n")[0])
    return finding.scores(reply)


def read_choice(reply: ChatReply) -> str:
    """Which response is better: one of `CHOICES`. Raises `ReplyError` where that is not plain."""
    text = _answer(reply)
    found = {choice for value in _values(text) for choice in _choices(value)}
    if not found:
        found = {_plain_choice(match["choice"]) for match in _SAID.finditer(text.casefold())}
    found.discard("")
    if len(found) != 1:
        what = f"it names {' and '.join(sorted(found))}" if found else "it names neither and no tie"
        raise _unreadable(f"the reply makes no plain choice: {what}", reply)
    return found.pop()


def _answer(reply: ChatReply) -> str:
    """The reply without its thoughts, composed (NFC); the compatibility form would read 4½ as 41⁄2."""
    if reply.refusal:
        raise ReplyError("the judge refused: it said so; ask another one, or reword the rubric", reply=reply)
    _, body, _ = split_reasoning(reply.text, anchored=False)
    body = unicodedata.normalize("NFC", body)
    if not body.strip():
        raise _unreadable("the reply is empty: nothing stands outside of its reasoning", reply)
    return body


def _unreadable(message: str, reply: ChatReply) -> ReplyError:
    if reply.finish == "length":
        message = f"the reply was cut off: {message.replace(':', ',', 1)}; raise max_tokens"
    return ReplyError(message, reply=reply)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys, those too that come twice."""


def _values(text: str) -> Iterator[Any]:
    """Every JSON value, sound or nearly so, that opens in `text`; objects are `_Pairs`."""
    at = strays = 0
    while strays < _STRAYS and (start := _opening(text, at)) >= 0:
        end = balanced(text, start)
        value = None
        if end is not None:
            try:
                value = json.loads(text[start:end], object_pairs_hook=_Pairs)
            except (ValueError, RecursionError):
                value = None
        if value is None:
            relaxed = relax(text, start) or relax(text, start, cut=True)
            if relaxed is not None:
                value, end = _as_pairs(relaxed.value), relaxed.end
        if value is None or end is None:
            strays, at = strays + 1, start + 1
        else:
            at = end
            yield value


def _opening(text: str, at: int) -> int:
    places = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
    return min(places, default=-1)


def _as_pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return _Pairs((key, _as_pairs(part)) for key, part in value.items())
    return [_as_pairs(part) for part in value] if isinstance(value, list) else value


class _Finding:
    """The numbers that a reply gives each criterion, and what else stands where a number should."""

    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self._by_key = {name_key(criterion.name): criterion for criterion in criteria}
        self._numbers: dict[str, set[float]] = {criterion.name: set() for criterion in criteria}
        self._odd: dict[str, str] = {}

    @property
    def seen(self) -> bool:
        return bool(self._odd) or any(self._numbers.values())

    def walk(self, value: Any) -> None:
        """Look through a JSON value for criteria."""
        if not isinstance(value, _Pairs):
            for part in value if isinstance(value, list) else ():
                self.walk(part)
            return
        fields = {name_key(key): part for key, part in value}
        named = next((fields[key] for key in _NAMES if isinstance(fields.get(key), str)), None)
        score = next((fields[key] for key in _SCORES if key in fields), None)
        if named is not None and score is not None and (criterion := self._by_key.get(name_key(named))):
            self._take(criterion, score)
            return
        for key, part in value:
            if (criterion := self._by_key.get(name_key(key))) is not None:
                self._take(criterion, _inner(part))
            else:
                self.walk(part)

    def lines(self, text: str) -> None:
        """Look for criteria in lines and tables."""
        folded = text.casefold()
        for criterion in self._by_key.values():
            for found in _line_of(criterion.name).finditer(folded):
                number = _NUMBER.match(folded, found.end())
                if number is None:
                    continue
                if found["sign"] == "|" and _FURTHER_CELL.match(folded, number.end()):
                    self._odd[criterion.name] = "several numbers in its row"
                else:
                    self._take(criterion, number[0])

    def _take(self, criterion: Criterion, raw: Any) -> None:
        number = _number(raw, criterion.high)
        if number is None:
            self._odd[criterion.name] = repr(raw)[:60].replace(";", ",")
        else:
            self._numbers[criterion.name].add(number)

    def scores(self, reply: ChatReply) -> dict[str, float]:
        criteria = self._by_key.values()
        if not self.seen:
            raise _unreadable("the reply holds no scores: it names no criterion with a number", reply)
        missing = [name for name, found in self._numbers.items() if not found and name not in self._odd]
        if missing:
            raise _unreadable(f"criteria are missing: {', '.join(missing)}", reply)
        odd = [f"{name} ({self._odd[name]})" for name, found in self._numbers.items() if not found]
        if odd:
            raise _unreadable(f"a score is no number on the criterion's scale: {', '.join(odd)}", reply)
        several = [name for name, found in self._numbers.items() if len(found) > 1]
        if several:
            raise _unreadable(f"a criterion has two scores: {', '.join(several)}", reply)
        scores = {name: found.pop() for name, found in self._numbers.items()}
        beyond = [
            f"{entry.name} {scores[entry.name]:g} (from {entry.range})"
            for entry in criteria
            if not entry.low <= scores[entry.name] <= entry.high
        ]
        if beyond:
            raise _unreadable(f"a score is out of range: {', '.join(beyond)}", reply)
        return scores


def _inner(part: Any) -> Any:
    """The score of a criterion that was given with more than its number."""
    if isinstance(part, _Pairs):
        return next((value for key, value in part if name_key(key) in _SCORES), part)
    return part[0] if isinstance(part, list) and len(part) == 1 else part


@lru_cache(maxsize=256)
def _line_of(name: str) -> re.Pattern[str]:
    """Where a line, or a part of one, names a criterion and goes on to its number."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    parts = "".join(sign if name_key(sign) else " " for sign in folded).split()
    return re.compile(_BEFORE + r"[\W_]{1,4}".join(map(re.escape, parts)) + _BEHIND, re.MULTILINE)


def _number(raw: Any, high: float) -> float | None:
    """The number that a value states on a scale up to `high`; None where it states none, or on another scale."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float):
        try:
            return float(raw) if math.isfinite(raw) else None
        except OverflowError:
            return None
    if not isinstance(raw, str):
        return None
    found = _NUMBER.match(raw.casefold().lstrip(_DECORATION))
    if found is None or found["unclear"] or (found["most"] and _float(found["most"]) != high):
        return None
    return _float(found["value"])


def _float(written: str) -> float:
    return float(written.replace(",", ".").replace("٫", ".").replace("−", "-"))


def _choices(value: Any) -> Iterator[str]:
    if isinstance(value, _Pairs):
        for key, part in value:
            if name_key(key) in _BETTER and isinstance(part, str | int):
                yield _plain_choice(str(part))
            else:
                yield from _choices(part)
    elif isinstance(value, list):
        for part in value:
            yield from _choices(part)


def _plain_choice(written: str) -> str:
    """One of `CHOICES`, or "" for anything else."""
    word = " ".join(written.casefold().strip(_DECORATION + ".").split())
    word = word.removeprefix("the ").removesuffix(" is better").removesuffix(" response").removeprefix("response ")
    return _WORDS.get(word, "")


_WORDS: Mapping[str, str] = {
    **dict(zip(CHOICES, CHOICES, strict=True)),
    **dict.fromkeys(("1", "one"), "first"),
    **dict.fromkeys(("2", "two"), "second"),
    **dict.fromkeys(("equal", "both", "neither", "draw", "none"), "tie"),
}
