"""The responses in one row of a recording, for the columns of several packages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outspoken.batch.source_formats import listed
from outspoken.io.text import plural
from outspoken.measure.probability_scale import mixed_scales, on_one_scale
from outspoken.measure.values import Response
from outspoken.parsing.numbers import number

__all__ = [
    "KINDS",
    "CallReader",
    "ResponseRowError",
    "Row",
    "RowReader",
    "RowResponses",
    "has_value",
]

_MAX_EXCERPT = 40

Row = Mapping[str, object]
"""The values of one row by column."""
_REPLY_STARTS = ("{", "[", "```")


class ResponseRowError(Exception):
    """The reason why a row cannot be used."""


@dataclass(slots=True)
class RowResponses:
    """The responses in one row. `left_out` describes unusable values, `percent` says whether its probability has a
    percent sign."""

    prompt_id: str | None
    prompt: str
    responses: list[Response] = field(default_factory=list)
    failures: int = 0
    empty: int = 0
    left_out: list[str] = field(default_factory=list)
    percent: bool = False

    def add(self, text: object, **values: Any) -> None:
        """Add a response, a failure (no text), or an empty response (nothing but white space)."""
        if not has_value(text) and text != "":
            self.failures += 1
            return
        if isinstance(text, bool) or not isinstance(text, (str, int, float)):
            raise ResponseRowError(f"the text must be text, not {repr(text)[:_MAX_EXCERPT]}")
        if not str(text).strip():
            self.empty += 1
        else:
            self.responses.append(Response(str(text), **values))

    def number(self, row: Row, name: str, is_valid: Callable[[float], bool] = math.isfinite) -> float | None:
        """The number in a column; None if there is none, or an invalid one, which is noted in `left_out`."""
        value = row.get(name)
        if not has_value(value):
            return None
        try:
            result = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # TypeError below
        except (TypeError, ValueError, OverflowError):
            read, percent = number(value)
            result = math.nan if read is None else read / 100 if percent else read
        if math.isfinite(result) and is_valid(result):
            return result
        self.left_out.append(f"{name} {repr(value)[:_MAX_EXCERPT]}")
        return None

    def integer(self, row: Row, name: str) -> int | None:
        """The whole number in a column, as `number` does."""
        value = self.number(row, name, float.is_integer)
        return None if value is None else int(value)


def has_value(value: object) -> bool:
    """Whether a cell is filled: not None, not empty and not NaN."""
    return value is not None and value != "" and value == value


def _prompt(row: Row) -> str:
    value = row.get("prompt")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if not has_value(value) or not text.strip():
        raise ResponseRowError("no prompt")
    return text


def _identifier(value: object) -> str | None:
    return str(value) if has_value(value) else None


class RowReader:
    """Reads rows with one response each."""

    def __call__(self, row: Row) -> RowResponses:
        """The responses in a row. Raises `ResponseRowError`."""
        result = RowResponses(_identifier(row.get("prompt_id")), _prompt(row))
        if has_value(row.get("error")):
            result.failures = 1
            return result
        if "text" not in row:
            raise ResponseRowError(f"no text: the columns are {listed(row)}")
        result.add(
            row["text"],
            probability=self._probability(row, result),
            stated=result.number(row, "stated"),
            call=result.integer(row, "call"),
            request=str(row.get("request_key") or ""),
            partition=result.integer(row, "partition"),
            score=result.number(row, "score"),
        )
        return result

    @staticmethod
    def _probability(row: Row, result: RowResponses) -> float | None:
        value = row.get("probability")
        result.percent = isinstance(value, str) and number(value)[1]
        return result.number(row, "probability", lambda value: value >= 0)

    def notes(self) -> Iterator[str]:
        """Sentences about all rows so far."""
        return iter(())


class _Generations(RowReader):
    """Reads rows with one prompt each: github.com/novelty-bench/novelty-bench (`inference.py`, `partition.py`)."""

    def __call__(self, row: Row) -> RowResponses:
        result = RowResponses(_identifier(row.get("id")), _prompt(row))
        texts = row.get("generations")
        if not isinstance(texts, list):
            raise ResponseRowError("generations is not a list")
        columns: dict[str, list[Any]] = {}
        for name in ("partition", "generation_scores"):
            values = row.get(name)
            if values is not None and not (isinstance(values, list) and len(values) == len(texts)):
                result.left_out.append(f"{name}, not one for each of {len(texts)} generations")
                values = None
            columns[name] = values or [None] * len(texts)
        for text, equivalence_class, score in zip(texts, *columns.values(), strict=True):
            values = {"partition": equivalence_class, "score": score}
            result.add(text, partition=result.integer(values, "partition"), score=result.number(values, "score"))
        return result


class CallReader(RowReader):
    """Reads rows with a call each, or a turn of one: verbalized-sampling 0.1.3 (`tasks/base`, `methods/parser`).

    Turns are numbered by `index` (from 0, over the candidates) or `turn` (from 1). A direct reply in JSON is a
    list inside `text`. `probability` may hold a likelihood, a percentage or a perplexity, and the file does not
    say which: numbers above 1 are not used as weights.
    """

    def __init__(self) -> None:
        self._call, self._last_prompt = -1, ""
        self._empty_calls = self._unparsed = self._other_scales = self._mixed = 0

    def __call__(self, row: Row) -> RowResponses:
        result = RowResponses(None, _prompt(row))
        entries = row.get("responses")
        if not isinstance(entries, list):
            raise ResponseRowError("responses is not a list")
        self._call += not self._continues(entries, result.prompt)
        self._last_prompt = result.prompt
        pairs = list(_texts_and_probabilities(entries))
        if not any(has_value(text) and str(text).strip() for text, _ in pairs):
            self._empty_calls += 1
            result.failures = 1
            return result
        stated = self._on_one_scale([self._stated(value, result) for _, value in pairs])
        weights: Sequence[float | None] = stated
        if any(value is not None and not 0 <= value <= 1 for value in stated):
            self._other_scales += 1
            weights = [None] * len(stated)
        for (text, _), value, weight in zip(pairs, stated, weights, strict=True):
            if _is_unparsed_reply(text):
                self._unparsed += 1
                result.failures += 1
            else:
                result.add(text, probability=weight, stated=value, call=self._call)
        return result

    def _continues(self, entries: list[Any], prompt: str) -> bool:
        """Whether the row is a later turn of the last call."""
        first = entries[0] if entries else None
        later = isinstance(first, dict) and (_position(first, "index") > 0 or _position(first, "turn") > 1)
        return later and prompt == self._last_prompt

    @staticmethod
    def _stated(raw: object, result: RowResponses) -> tuple[float | None, bool]:
        """The number as it stands, and whether it has a percent sign."""
        value, percent = number(raw)
        if value is None and has_value(raw):
            result.left_out.append(f"probability {repr(raw)[:_MAX_EXCERPT]}")
        return value, percent

    def _on_one_scale(self, stated: Sequence[tuple[float | None, bool]]) -> list[float | None]:
        """The numbers of one call as shares of 1; all are missing if they are on several scales."""
        shares = on_one_scale([(value, percent) for value, percent in stated if value is not None])
        if shares is None:
            self._mixed += 1
            return [None] * len(stated)
        rest = iter(shares)
        return [None if value is None else next(rest) for value, _ in stated]

    def notes(self) -> Iterator[str]:
        if self._empty_calls:
            yield f"failed calls that were saved as empty answers, and count as failures: {self._empty_calls:,}"
        if self._unparsed:
            yield f"replies that were saved unparsed as answers, and count as failures: {self._unparsed:,}"
        if self._other_scales:
            calls = plural(self._other_scales, "call states", "calls state")
            yield f"{calls} numbers outside 0 to 1: their responses have equal weights"
        if self._mixed:
            yield mixed_scales(self._mixed)


def _position(entry: Row, name: str) -> float:
    value = entry.get(name)
    return value if isinstance(value, (int, float)) else 0


def _texts_and_probabilities(entry: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(entry, list):
        for item in entry:
            yield from _texts_and_probabilities(item)
    elif isinstance(entry, dict):
        text = entry.get("text", entry.get("response"))
        if isinstance(text, (list, dict)):
            yield from ((inner, None) for inner, _ in _texts_and_probabilities(text))
        else:
            yield text, entry.get("probability")
    else:
        yield entry, None


def _is_unparsed_reply(text: object) -> bool:
    """Whether a text is a reply with several answers, which the package saves as one if it cannot parse it."""
    return (
        isinstance(text, str)
        and text.lstrip().startswith(_REPLY_STARTS)
        and any(key in text for key in ("'responses':", '"responses":'))
    )


KINDS: dict[str, type[RowReader]] = {
    "text": RowReader,
    "generations": _Generations,
    "responses": CallReader,
    "error": RowReader,
}
"""The reader of a file by the first of these columns that it has."""
