"""Answers as columns: one row a response, the columns of the input carried through."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from outspoken.batch.sources import PromptRow
from outspoken.batch.table_columns import COLUMNS
from outspoken.distribution import Candidate
from outspoken.engine import CallResult, PromptResult, ResponseGoal
from outspoken.same_text import text_key

__all__ = ["ResponseColumns", "chosen"]


class ResponseColumns:
    """The responses of several prompts, column by column, as `Output.write` takes them."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.carried: dict[str, list[Any]] = {}
        self.count = 0
        self.distinct = 0

    def add(self, answer: PromptResult[PromptRow], goal: ResponseGoal) -> tuple[int, int]:
        """Add the responses of one prompt: as many as the goal says, or all. Returns their number, and how many of
        them are different."""
        row = answer.prompt
        picked = [(made.distribution[at], made, at) for made, at in chosen(answer.calls, goal)]
        count = len(picked)
        if count:
            made_by = answer.calls[0].distribution.provenance
            rows: dict[str, list[Any]] = {
                "prompt_id": [row.id] * count,
                "prompt": [_prompt(row)] * count,
                "text": [candidate.text for candidate, _, _ in picked],
                "stated": [candidate.stated for candidate, _, _ in picked],
                "probability": [candidate.probability for candidate, _, _ in picked],
                "method": [made_by.method] * count,
                "template": [made_by.template] * count,
                "model": [made_by.model] * count,
                "rank": [at + 1 for _, _, at in picked],
                "call": [made.number for _, made, _ in picked],
                "request_key": [made.key_of(at) for _, made, at in picked],
                "repairs": [list(candidate.repairs) for candidate, _, _ in picked],
                "value": [_value(candidate) for candidate, _, _ in picked],
            }
            for name, values in rows.items():
                self.columns[name] += values
            for name, value in row.columns.items():
                if name not in self.carried:
                    self.carried[name] = [None] * self.count
                self.carried[name] += [value] * count
        distinct = len({text_key(candidate.text) for candidate, _, _ in picked})
        self.count += count
        self.distinct += distinct
        for values in self.carried.values():
            values.extend([None] * (self.count - len(values)))
        return count, distinct


def chosen(calls: tuple[CallResult, ...], goal: ResponseGoal) -> Iterator[tuple[CallResult, int]]:
    """Which candidates are responses: with `n` so many, the last call's surplus left to its probabilities; with
    `until_distinct` so many different ones; else all."""
    if goal.until_distinct is not None:
        seen: set[str] = set()
        for made in calls:
            for at, candidate in enumerate(made.distribution):
                if len(seen) < goal.until_distinct and (key := text_key(candidate.text)) not in seen:
                    seen.add(key)
                    yield made, at
        return
    left = goal.n
    for made in calls:
        places: Sequence[int] = range(len(made.distribution))
        if left is not None and left < len(places):
            places = _drawn(made, left)
        for at in places:
            yield made, at
        if left is not None:
            left -= len(places)


def _drawn(made: CallResult, count: int) -> list[int]:
    """Places drawn without replacement by probability; the same for the same reply."""
    distribution = made.distribution
    possible = sum(candidate.probability > 0 for candidate in distribution)
    if count >= possible:
        return list(range(count))
    places = {id(candidate): at for at, candidate in enumerate(distribution)}
    drawn = distribution.draw(count, seed=int(made.keys[0], 16), replace=False)
    return sorted(places[id(candidate)] for candidate in drawn)


def _value(candidate: Candidate) -> str | None:
    return None if candidate.value is None else _json(candidate.to_dict()["value"])


def _prompt(row: PromptRow) -> str:
    if len(row.messages) == 1:
        return row.messages[0].content
    return _json([message.to_dict() for message in row.messages])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
