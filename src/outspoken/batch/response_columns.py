"""Responses as columns: one row per response, with the columns of the input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from outspoken.batch.output_formats import COLUMNS
from outspoken.batch.sources import PromptRow
from outspoken.candidate import Candidate
from outspoken.engine import CallResult, PromptResult, ResponseGoal
from outspoken.methods.table import METHODS
from outspoken.provenance import Provenance
from outspoken.same_text import text_key

__all__ = ["ResponseColumns", "select_responses"]

# Settings of the sampling that do not change which answers are likely.
_WITHOUT_EFFECT = ("seed", "max_tokens", "stop")


class ResponseColumns:
    """The responses of several prompts, column by column, as `Output.write` expects them.

    `columns` are those of `COLUMNS`, `carried` those of the input. `count` is the number of responses, `distinct`
    the number of those that differ within their prompt.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.carried: dict[str, list[Any]] = {}
        self.count = 0
        self.distinct = 0

    def add(self, result: PromptResult[PromptRow], goal: ResponseGoal) -> tuple[int, int]:
        """Add the responses of one prompt; returns the number of all and of distinct ones."""
        row = result.prompt
        selected = [(call.distribution[at], call, at) for call, at in select_responses(result.calls, goal)]
        count = len(selected)
        if count:
            provenance = result.calls[0].distribution.provenance
            rows: dict[str, list[Any]] = {
                "prompt_id": [row.id] * count,
                "prompt": [_prompt(row)] * count,
                "text": [candidate.text for candidate, _, _ in selected],
                "stated": [candidate.stated for candidate, _, _ in selected],
                "probability": [candidate.probability for candidate, _, _ in selected],
                "method": [provenance.method] * count,
                "template": [provenance.template] * count,
                "model": [provenance.model] * count,
                **{name: [value] * count for name, value in _settings(provenance).items()},
                "rank": [at + 1 for _, _, at in selected],
                "call": [call.number for _, call, _ in selected],
                "request_key": [call.key_of(at) for _, call, at in selected],
                "repairs": [list(candidate.repairs) for candidate, _, _ in selected],
                "value": [_value(candidate) for candidate, _, _ in selected],
            }
            for name, values in rows.items():
                self.columns[name] += values
            for name, value in row.columns.items():
                if name not in self.carried:
                    self.carried[name] = [None] * self.count
                self.carried[name] += [value] * count
        distinct = len({text_key(candidate.text) for candidate, _, _ in selected})
        self.count += count
        self.distinct += distinct
        for values in self.carried.values():
            values.extend([None] * (self.count - len(values)))
        return count, distinct


def select_responses(calls: tuple[CallResult, ...], goal: ResponseGoal) -> Iterator[tuple[CallResult, int]]:
    """The calls and 0-based positions of the candidates that are responses.

    With `n` these are n candidates, drawn by probability from the last call if it gave too many; with
    `until_distinct` the first ones that differ; otherwise all.
    """
    if goal.until_distinct is not None:
        seen: set[str] = set()
        for call in calls:
            for at, candidate in enumerate(call.distribution):
                if len(seen) < goal.until_distinct and (key := text_key(candidate.text)) not in seen:
                    seen.add(key)
                    yield call, at
        return
    missing = goal.n
    for call in calls:
        places: Sequence[int] = range(len(call.distribution))
        if missing is not None and missing < len(places):
            places = _drawn(call, missing)
        for at in places:
            yield call, at
        if missing is not None:
            missing -= len(places)


def _drawn(call: CallResult, count: int) -> list[int]:
    """Positions drawn without replacement by probability; the same for the same reply."""
    distribution = call.distribution
    possible = sum(candidate.probability > 0 for candidate in distribution)
    if count >= possible:
        return list(range(count))
    places = {id(candidate): at for at, candidate in enumerate(distribution)}
    drawn = distribution.draw(count, seed=int(call.call.key(0), 16), replace=False)
    return sorted(places[id(candidate)] for candidate in drawn)


def _settings(provenance: Provenance) -> dict[str, object]:
    """The settings that change which answers are likely; `settings` holds the less usual ones."""
    sampling = dict(provenance.sampling)
    own = {name: sampling.pop(name, None) for name in ("temperature", "top_p")}
    others = {name: value for name, value in sampling.items() if name not in _WITHOUT_EFFECT}
    if METHODS[provenance.method].turn_count(2) > 1:
        others["turns"] = provenance.turns
    text = json.dumps(others, ensure_ascii=False, sort_keys=True, default=str) if others else None
    return {"k": provenance.k, "tau": provenance.tau, "words": provenance.words, **own, "settings": text}


def _value(candidate: Candidate) -> str | None:
    return None if candidate.value is None else json.dumps(candidate.to_dict()["value"], ensure_ascii=False)


def _prompt(row: PromptRow) -> str:
    if len(row.messages) == 1:
        return row.messages[0].content
    return json.dumps([message.to_dict() for message in row.messages], ensure_ascii=False)
