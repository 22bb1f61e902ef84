"""Recordings that hold answers to one prompt without its text, and results of another package's evaluators."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.response_rows import CallReader, ResponseRowError, Row, RowReader, RowResponses

__all__ = ["NAMELESS", "Draws", "answers_reader", "evaluated_rows"]

_MAX_COUNT = 1_000_000
_ID = "counts"
_NAMED_LIST = re.compile(r"responses?_?\d+")


class Trials(RowReader):
    """Reads rows with one trial each: answers and their counts."""

    def __init__(self) -> None:
        self._call, self._total = -1, 0.0

    def __call__(self, row: Row) -> RowResponses:
        if not row:
            raise ResponseRowError("no answer and no count")
        counts = {answer: _count(answer, entry) for answer, entry in row.items()}
        self._call += 1
        self._total += sum(counts.values())
        if self._total > _MAX_COUNT:
            raise ResponseRowError(f"more than {_MAX_COUNT:,} answers: give a reference with --reference")
        result = RowResponses(_ID, "")
        integers = all(count.is_integer() for count in counts.values())
        for answer, count in counts.items():
            for _ in range(int(count) if integers else 1):
                result.add(answer, probability=None if integers else count, call=self._call)
        return result


class NamedLists(CallReader):
    """Reads objects of lists of responses, `{"responses_1": [...], "responses_2": [...]}`: each list is a call."""

    def __call__(self, row: Row) -> RowResponses:
        total = RowResponses(_ID, "")
        for name in sorted(row, key=lambda name: (len(name), name)):
            # Every list is a call of its own, also one that looks like a later turn of the last.
            self._last_prompt = ""
            call = super().__call__({"prompt": name, "responses": row[name]})
            total.responses += call.responses
            total.failures += call.failures
            total.empty += call.empty
            total.left_out += call.left_out
        return total


class Draws(RowReader):
    """Reads a list of answers without anything else, `[4, 3, "Red"]`: draws for one prompt. Null is a failure."""

    def __call__(self, row: Row) -> RowResponses:
        if list(row) != ["text"]:
            raise ResponseRowError("an object, where the first row is an answer alone")
        result = RowResponses(_ID, "")
        result.add(row["text"])
        return result


NAMELESS = (Trials, NamedLists, Draws)
"""The readers of rows that hold answers alone, without columns."""


def answers_reader(row: Row) -> RowReader | None:
    """The reader of a file whose first row is `row` if it holds answers alone, or None.

    Raises `UsageError` for counts of which some are no numbers.
    """
    if row and all(_NAMED_LIST.fullmatch(name) and isinstance(entries, list) for name, entries in row.items()):
        return NamedLists()
    counts = [answer for answer, entry in row.items() if _is_number(_entry(entry))]
    if not counts or any(isinstance(_entry(entry), (list, dict)) for entry in row.values()):
        return None
    wrong = next((answer for answer in row if answer not in counts), None)
    if wrong is not None and not all(_looks_like_count(_entry(entry)) for entry in row.values()):
        return None
    if wrong is not None:
        raise UsageError(f"the count of {wrong!r} must be a number of at least 0, not {_entry(row[wrong])!r}")
    return Trials()


def _entry(entry: object) -> object:
    return entry.get("count") if isinstance(entry, dict) else entry


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _looks_like_count(value: object) -> bool:
    """Whether a value stands where a count should: a number, one written as text, or nothing."""
    return value is None or _is_number(value) or (isinstance(value, str) and value.strip().isdecimal())


def _count(answer: str, entry: object) -> float:
    value: Any = _entry(entry)
    if not _is_number(value) or math.isnan(value):
        raise ResponseRowError(f"the count of {answer!r} must be a number of at least 0, not {value!r}")
    if not 0 <= value <= _MAX_COUNT:
        raise ResponseRowError(
            f"the count of {answer!r} is {value!r}, outside 0 to {_MAX_COUNT:,}: give a reference with --reference"
        )
    return float(value)


def evaluated_rows(position: int, value: Any, name: str) -> Iterator[tuple[int, Any]]:
    """The rows of one record, which are several where it is a result of verbalized-sampling 0.1.3's evaluators.

    These hold `instance_metrics`, one entry per response. Those for diversity, ngram, length and response_count
    repeat the `prompt` and the `response` (`analysis/evals`); raises `UsageError` for the others.
    """
    if not isinstance(value, dict) or not isinstance(value.get("instance_metrics"), list):
        yield position, value
        return
    entries = value["instance_metrics"]
    if not any(isinstance(entry, dict) and {"prompt", "response"} <= entry.keys() for entry in entries):
        raise UsageError(
            f"{name} holds metrics and no responses: give the file that they were computed from, "
            "generation/EXPERIMENT/responses.jsonl beside the folder evaluation"
        )
    for number, entry in enumerate(entries, 1):
        known = isinstance(entry, dict) and {"prompt", "response"} <= entry.keys()
        yield number, {"prompt": entry["prompt"], "text": entry["response"]} if known else entry
