"""Reading a judge's reply: scores by criterion, or which of two responses is better.

An ambiguous reply raises a `ReplyError` and never gives a score. The part of the error's message after a semicolon
is for the user only; the judge does not see it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from outspoken.chat_reply import ChatReply
from outspoken.errors import ReplyError
from outspoken.measure.rubrics import CHOICES, Criterion, Rubric, name_key
from outspoken.parsing.json_text import balanced
from outspoken.parsing.lenient_json import relax
from outspoken.parsing.reasoning import split_reasoning

__all__ = ["read_choice", "read_scores"]

_MAX_STRAY_BRACKETS = 32
_DECORATION = " \t*_`\"'“”<>()[]{}"
_NAMES = ("criterion", "criteria", "name", "dimension")
_SCORES = ("score", "rating", "value", "points", "grade")
_BETTER = ("answer", "better", "choice", "preference", "preferred", "verdict", "winner")

_OPENING = re.compile(r"[{\[]")
_NUMBER = re.compile(
    r"(?P<value>[-+−]?\d{1,9}(?:[.,٫]\d{1,20})?)(?![.,٫]?\d|[a-z¼-¾⅐-⅞²³¹⁰-⁹])"
    r"(?:\s{0,3}(?:[/／]|out of\b|of\b)\s{0,3}(?P<most>\d{1,9}(?:[.,٫]\d{1,20})?))?"
    r"(?P<unclear>\s{0,3}(?:[%％٪]|(?:-|–|—|~|～|to\b|or\b)\s{0,3}\d))?"
)
_NEXT_CELL = re.compile(r"[^|\n]*\|[ *_`]{0,8}\d[\d.,/ ]{0,20}[*_` ]{0,8}(?:\||$)", re.MULTILINE)
_BEFORE = r"(?:^|[,;，；|])[ \t>*_#`\"'“•–—-]{0,12}(?:\d{1,2}[.)][ \t]{0,4})?[*_`\"'“\[]{0,6}"
_AFTER = (
    r"[*_`\"'”\]]{0,6}[ \t]{0,4}(?:[(\[][^()\[\]\n]{0,40}[)\]])?[*_`\"'” \t]{0,6}"
    r"(?P<sign>[:：=＝|｜→]|[-–—]{1,3}>?[ \t]|is[ \t])[*_`\"'“ \t(\[]{0,8}"
)
_CHOICE = re.compile(
    r"^[ \t>*_#`\"'“]{0,12}"
    rf"(?:(?:overall )?(?:{'|'.join(_BETTER)})(?: response)?(?: is)?[*_`\"'” \t:=]{{1,8}})?"
    r"[*_`\"'“\[(]{0,6}(?:the )?(?:response )?(?P<choice>first|second|tie|1|2)(?: response)?(?: is better)?"
    r"[*_`\"'”\])., \t]{0,8}$",
    re.MULTILINE,
)


def read_scores(reply: ChatReply, rubric: Rubric) -> dict[str, float]:
    """The score of every criterion by its name, in the order of the rubric.

    Reads JSON anywhere in the reply, in any nesting, or else lines and tables such as "Criterion: 14/20". Case and
    punctuation of the names do not matter. Raises `ReplyError` if a criterion is missing or has two scores, and if
    a score is not a number, is on another scale or is out of range.
    """
    text = _answer(reply)
    numbers = _NumberFinder(rubric.criteria)
    for value in _json_values(text):
        numbers.read_json(value)
    if not numbers.found_any:
        # If the reply was cut off, digits of the last number may be missing.
        numbers.read_lines(text.rpartition("\n")[0] if reply.cut_off else text)
    return numbers.scores(reply)


def read_choice(reply: ChatReply) -> str:
    """The better response: one of `CHOICES`. Raises `ReplyError` if the reply is ambiguous."""
    text = _answer(reply)
    choices = {choice for value in _json_values(text) for choice in _choices(value)}
    if not choices:
        choices = {_plain_choice(match["choice"]) for match in _CHOICE.finditer(text.casefold())}
    choices.discard("")
    if len(choices) != 1:
        problem = (
            f"it names {' and '.join(sorted(choices))}" if choices else "it names neither response, nor a tie"
        )
        raise _unreadable(f"the reply makes no clear choice: {problem}", reply)
    return choices.pop()


def _answer(reply: ChatReply) -> str:
    """The reply without its reasoning, in NFC; the compatibility form would turn 4½ into 41⁄2."""
    if reply.refusal:
        raise ReplyError("the judge refused: use another model, or reword the rubric", reply=reply)
    _, body, _ = split_reasoning(reply.text, anchored=False)
    body = unicodedata.normalize("NFC", body)
    if not body.strip():
        raise _unreadable("the reply is empty: there is no text outside of its reasoning", reply)
    return body


def _unreadable(message: str, reply: ChatReply) -> ReplyError:
    if reply.finish == "length":
        message = f"the reply was cut off: {message.replace(':', ',', 1)}; raise max_tokens"
    elif reply.absence:
        message = reply.absence
    return ReplyError(message, reply=reply)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys, including repeated ones."""


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON value in `text`, valid or nearly valid; objects are `_Pairs`."""
    position = strays = 0
    while strays < _MAX_STRAY_BRACKETS and (opening := _OPENING.search(text, position)) is not None:
        start = opening.start()
        end = balanced(text, start)
        value = None
        if end is not None:
            with suppress(ValueError, RecursionError):
                value = json.loads(text[start:end], object_pairs_hook=_Pairs)
        if value is None:
            relaxed = relax(text, start) or relax(text, start, cut=True)
            if relaxed is not None:
                value, end = _as_pairs(relaxed.value), relaxed.end
        if value is None or end is None:
            strays, position = strays + 1, start + 1
        else:
            position = end
            yield value


def _as_pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return _Pairs((key, _as_pairs(part)) for key, part in value.items())
    return [_as_pairs(part) for part in value] if isinstance(value, list) else value


class _NumberFinder:
    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self._by_key = {name_key(criterion.name): criterion for criterion in criteria}
        self._numbers: dict[str, set[float]] = {criterion.name: set() for criterion in criteria}
        self._invalid: dict[str, str] = {}

    @property
    def found_any(self) -> bool:
        return bool(self._invalid) or any(self._numbers.values())

    def read_json(self, value: Any) -> None:
        """Search a JSON value for criteria."""
        if not isinstance(value, _Pairs):
            for part in value if isinstance(value, list) else ():
                self.read_json(part)
            return
        fields = {name_key(key): part for key, part in value}
        names = [name_key(fields[key]) for key in _NAMES if isinstance(fields.get(key), str)]
        named = next((self._by_key[name] for name in names if name in self._by_key), None)
        scores = _scores_in(value)
        if named is not None and scores:
            self._add(named, *scores)
            return
        for key, part in value:
            if (criterion := self._by_key.get(name_key(key))) is None:
                self.read_json(part)
            elif isinstance(part, _Pairs):
                self._add(criterion, *(_scores_in(part) or [part]))
            else:
                self._add(criterion, part[0] if isinstance(part, list) and len(part) == 1 else part)

    def read_lines(self, text: str) -> None:
        """Search lines and tables for criteria."""
        folded = text.casefold()
        for criterion in self._by_key.values():
            for match in _line_of(criterion.name).finditer(folded):
                number = _NUMBER.match(folded, match.end())
                if number is None:
                    continue
                if match["sign"] == "|" and _NEXT_CELL.match(folded, number.end()):
                    self._invalid[criterion.name] = "several numbers in its row"
                else:
                    self._add(criterion, number[0])

    def _add(self, criterion: Criterion, *values: Any) -> None:
        for raw in values:
            number = _number(raw, criterion.high)
            if number is None:
                self._invalid[criterion.name] = repr(raw)[:60].replace(";", ",")
            else:
                self._numbers[criterion.name].add(number)

    def scores(self, reply: ChatReply) -> dict[str, float]:
        if not self.found_any:
            raise _unreadable("the reply holds no scores: no criterion has a number", reply)
        without = [name for name, numbers in self._numbers.items() if not numbers]
        outside = [
            f"{entry.name} {number:g} (from {entry.range})"
            for entry in self._by_key.values()
            for number in self._numbers[entry.name]
            if not entry.low <= number <= entry.high
        ]
        problems = {
            "criteria are missing": [name for name in without if name not in self._invalid],
            "a score is not a number on the criterion's scale": [
                f"{name} ({self._invalid[name]})" for name in without if name in self._invalid
            ],
            "a criterion has two scores": [name for name, numbers in self._numbers.items() if len(numbers) > 1],
            "a score is out of range": outside,
        }
        for problem, places in problems.items():
            if places:
                raise _unreadable(f"{problem}: {', '.join(places)}", reply)
        return {name: numbers.pop() for name, numbers in self._numbers.items()}


def _scores_in(part: _Pairs) -> list[Any]:
    return [value for key, value in part if name_key(key) in _SCORES]


@lru_cache(maxsize=256)
def _line_of(name: str) -> re.Pattern[str]:
    """The pattern of a line, or a part of one, that names a criterion before its number."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    parts = "".join(sign if name_key(sign) else " " for sign in folded).split()
    return re.compile(_BEFORE + r"[\W_]{1,4}".join(map(re.escape, parts)) + _AFTER, re.MULTILINE)


def _number(raw: Any, high: float) -> float | None:
    """The number in a value on a scale up to `high`; None without a number, or on another scale."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float):
        try:
            return float(raw) if math.isfinite(raw) else None
        except OverflowError:
            return None
    if not isinstance(raw, str):
        return None
    match = _NUMBER.match(raw.casefold().lstrip(_DECORATION))
    if match is None or match["unclear"] or (match["most"] and _float(match["most"]) != high):
        return None
    return _float(match["value"])


def _float(digits: str) -> float:
    return float(digits.replace(",", ".").replace("٫", ".").replace("−", "-"))


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


def _plain_choice(text: str) -> str:
    """One of `CHOICES`, or "" for anything else."""
    word = " ".join(text.casefold().strip(_DECORATION + ".").split())
    word = word.removeprefix("the ").removesuffix(" is better").removesuffix(" response").removeprefix("response ")
    return _WORDS.get(word, "")


_WORDS: Mapping[str, str] = {
    **dict(zip(CHOICES, CHOICES, strict=True)),
    **dict.fromkeys(("1", "one"), "first"),
    **dict.fromkeys(("2", "two"), "second"),
    **dict.fromkeys(("equal", "both", "neither", "draw", "none"), "tie"),
}
