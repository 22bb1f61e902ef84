"""One recorded row, in the fields of one package or another, into the responses in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outspoken.batch.source_formats import listed
from outspoken.measure.values import Response
from outspoken.parsing.probabilities import number

__all__ = ["KINDS", "ResponseRowError", "RowReader", "RowResponses", "Trials", "has_value", "is_counts"]

_LONGEST = 40
_MAX_COUNTED = 1_000_000
_COUNTS_ID = "counts"
_UNREAD_STARTS = ("{", "[", "```")


class ResponseRowError(Exception):
    """Why a row cannot be used."""


@dataclass(slots=True)
class RowResponses:
    """What one row holds. `left_out` says which of its values could not be used."""

    prompt_id: str | None
    prompt: str
    responses: list[Response] = field(default_factory=list)
    failures: int = 0
    empty: int = 0
    left_out: list[str] = field(default_factory=list)

    def add(self, text: Any, **values: Any) -> None:
        """A response, a failure (no text) or an empty one (a text of blanks)."""
        if not has_value(text) and text != "":
            self.failures += 1
            return
        if isinstance(text, bool) or not isinstance(text, (str, int, float)):
            raise ResponseRowError(f"the text must be text, not {repr(text)[:_LONGEST]}")
        if not str(text).strip():
            self.empty += 1
        else:
            self.responses.append(Response(str(text), **values))

    def number(self, row: Mapping[str, Any], name: str, fits: Callable[[float], bool] = math.isfinite) -> Any:
        value = row.get(name)
        if value is None or not has_value(value):
            return None
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            read, percent = number(value)
            found = math.nan if read is None else read / 100 if percent else read
        if math.isfinite(found) and fits(found):
            return found
        self.left_out.append(f"{name} {repr(value)[:_LONGEST]}")
        return None

    def whole(self, row: Mapping[str, Any], name: str) -> int | None:
        found = self.number(row, name, float.is_integer)
        return None if found is None else int(found)


def has_value(value: Any) -> bool:
    return value is not None and value != "" and value == value


def _prompt(row: Mapping[str, Any]) -> str:
    value = row.get("prompt")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if not has_value(value) or not text.strip():
        raise ResponseRowError("no prompt")
    return text


def _identifier(value: Any) -> str | None:
    return str(value) if has_value(value) else None


class RowReader:
    """A response a row."""

    def __call__(self, row: dict[str, Any]) -> RowResponses:
        found = RowResponses(_identifier(row.get("prompt_id")), _prompt(row))
        if has_value(row.get("error")):
            found.failures = 1
            return found
        if "text" not in row:
            raise ResponseRowError(f"no text: the columns are {listed(row)}")
        found.add(
            row["text"],
            probability=found.number(row, "probability", lambda value: value >= 0),
            stated=found.number(row, "stated"),
            call=found.whole(row, "call"),
            request=str(row.get("request_key") or ""),
            partition=found.whole(row, "partition"),
            score=found.number(row, "score"),
        )
        return found

    def notes(self) -> Iterator[str]:
        return iter(())


class _Generations(RowReader):
    """A prompt a row: NoveltyBench (github.com/novelty-bench/novelty-bench, `inference.py` and `partition.py`)."""

    def __call__(self, row: dict[str, Any]) -> RowResponses:
        found = RowResponses(_identifier(row.get("id")), _prompt(row))
        texts = row.get("generations")
        if not isinstance(texts, list):
            raise ResponseRowError("generations is not a list")
        columns: dict[str, list[Any]] = {}
        for name in ("partition", "generation_scores"):
            values = row.get(name)
            if values is not None and not (isinstance(values, list) and len(values) == len(texts)):
                found.left_out.append(f"{name}, not one for each of {len(texts)} generations")
                values = None
            columns[name] = values or [None] * len(texts)
        for text, number_of_class, score in zip(texts, *columns.values(), strict=True):
            values = {"partition": number_of_class, "score": score}
            found.add(text, partition=found.whole(values, "partition"), score=found.number(values, "score"))
        return found


class _Calls(RowReader):
    """A call a row, or a turn of one: verbalized-sampling 0.1.3 (`tasks/base.py`, `methods/parser.py`).

    Turns are counted by `index` (from 0, over the candidates) or `turn` (from 1). A direct reply that was asked
    for as JSON is a list inside of `text`. What stands in `probability` may be a likelihood, a percentage or a
    perplexity, and the file does not say which: above 1 it is no weight.
    """

    def __init__(self) -> None:
        self._call, self._asked = -1, ""
        self._nothing = self._unread = self._scales = 0

    def __call__(self, row: dict[str, Any]) -> RowResponses:
        found = RowResponses(None, _prompt(row))
        entries = row.get("responses")
        if not isinstance(entries, list):
            raise ResponseRowError("responses is not a list")
        self._call += not self._goes_on(entries, found.prompt)
        self._asked = found.prompt
        given = list(_given(entries))
        if not any(has_value(text) and str(text).strip() for text, _ in given):
            self._nothing += 1
            found.failures = 1
            return found
        stated = [self._stated(value, found) for _, value in given]
        weights: Sequence[float | None] = stated
        if any(value is not None and not 0 <= value <= 1 for value in stated):
            self._scales += 1
            weights = [None] * len(stated)
        for (text, _), value, weight in zip(given, stated, weights, strict=True):
            if _is_whole_reply(text):
                self._unread += 1
                found.failures += 1
            else:
                found.add(text, probability=weight, stated=value, call=self._call)
        return found

    def _goes_on(self, entries: list[Any], prompt: str) -> bool:
        first = entries[0] if entries else None
        later = isinstance(first, dict) and (_at(first, "index") > 0 or _at(first, "turn") > 1)
        return later and prompt == self._asked

    @staticmethod
    def _stated(raw: Any, found: RowResponses) -> float | None:
        value, percent = number(raw)
        if value is None and has_value(raw):
            found.left_out.append(f"probability {repr(raw)[:_LONGEST]}")
        return value / 100 if value is not None and percent else value

    def notes(self) -> Iterator[str]:
        if self._nothing:
            yield f"{self._nothing:,} calls came to nothing and were saved as empty answers: they are failures"
        if self._unread:
            yield f"{self._unread:,} answers are whole replies that were saved unread: they are failures"
        if self._scales:
            yield f"{self._scales:,} calls state numbers outside 0 to 1, which are no weights: all weigh the same"


def _at(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    return value if isinstance(value, (int, float)) else 0


def _given(entry: Any) -> Iterator[tuple[Any, Any]]:
    """Texts and what was stated for each."""
    if isinstance(entry, list):
        for item in entry:
            yield from _given(item)
    elif isinstance(entry, dict):
        text = entry.get("text", entry.get("response"))
        if isinstance(text, (list, dict)):
            yield from ((inner, None) for inner, _ in _given(text))
        else:
            yield text, entry.get("probability")
    else:
        yield entry, None


def _is_whole_reply(text: Any) -> bool:
    """Where the package cannot read a reply of several answers, all of it stands as one."""
    return (
        isinstance(text, str)
        and text.lstrip().startswith(_UNREAD_STARTS)
        and any(key in text for key in ("'responses':", '"responses":'))
    )


class Trials(RowReader):
    """A trial a row: answers and their counts."""

    def __init__(self) -> None:
        self._call, self._total = -1, 0.0

    def __call__(self, row: dict[str, Any]) -> RowResponses:
        if not is_counts(row):
            raise ResponseRowError("not an object of answers and their counts")
        if not all(0 <= count <= _MAX_COUNTED for count in row.values()):
            raise ResponseRowError(f"a count outside 0 to {_MAX_COUNTED:,}: a reference is named with --reference")
        counts = {answer: float(count) for answer, count in row.items()}
        self._call += 1
        self._total += sum(counts.values())
        if self._total > _MAX_COUNTED:
            raise ResponseRowError(f"more than {_MAX_COUNTED:,} answers: a reference is named with --reference")
        found = RowResponses(_COUNTS_ID, "")
        whole = all(count.is_integer() for count in counts.values())
        for answer, count in counts.items():
            for _ in range(int(count) if whole else 1):
                found.add(answer, probability=None if whole else count, call=self._call)
        return found


def is_counts(row: Mapping[str, Any]) -> bool:
    return bool(row) and all(type(count) in (int, float) for count in row.values())


KINDS: dict[str, type[RowReader]] = {
    "text": RowReader,
    "generations": _Generations,
    "responses": _Calls,
    "error": RowReader,
}
