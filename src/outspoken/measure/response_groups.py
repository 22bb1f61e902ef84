"""The responses of a group, collected row by row, and what tells the files of a group apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from outspoken.measure.response_rows import Row, RowResponses, on_one_scale
from outspoken.measure.values import Group, PromptGroup, Response

__all__ = ["FileGroup", "OtherColumns", "joined"]

_MAX_VALUES = 10


class _Prompt:
    """The responses to one prompt in one file."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.responses: list[Response] = []
        self.failures = self.empty = 0
        self._percents: list[bool] = []
        self._classes = 0

    def add(self, row: RowResponses) -> None:
        classes = [response.partition for response in row.responses if response.partition is not None]
        if len(row.responses) > 1 and classes:
            # Class 0 of another row is another class.
            for response in row.responses:
                number = None if response.partition is None else response.partition + self._classes
                self.responses.append(replace(response, partition=number))
            self._classes += max(classes) + 1
        else:
            self.responses += row.responses
        self._percents += [row.percent] * len(row.responses)
        self.failures += row.failures
        self.empty += row.empty

    def on_one_scale(self) -> int:
        """Bring the probabilities of each call to one scale; returns how often that is impossible."""
        if not any(self._percents):
            return 0
        calls: dict[int | None, list[int]] = {}
        for at, response in enumerate(self.responses):
            calls.setdefault(response.call, []).append(at)
        mixed = 0
        for places in calls.values():
            given = [at for at in places if self.responses[at].probability is not None]
            stated = [
                ((self.responses[at].probability or 0.0) * (100 if self._percents[at] else 1), self._percents[at])
                for at in given
            ]
            shares = on_one_scale(stated)
            mixed += shares is None
            for index, at in enumerate(given):
                share = None if shares is None else shares[index]
                self.responses[at] = replace(self.responses[at], probability=share)
        return mixed


class FileGroup:
    """The prompts of one group in one file, by key."""

    def __init__(self) -> None:
        self.prompts: dict[str, _Prompt] = {}

    def add(self, key: str, row: RowResponses) -> None:
        if key not in self.prompts:
            self.prompts[key] = _Prompt(row.prompt)
        self.prompts[key].add(row)

    def on_one_scale(self) -> int:
        """The number of calls whose probabilities are on several scales; they lose them."""
        return sum(prompt.on_one_scale() for prompt in self.prompts.values())


def joined(group: Group, files: list[FileGroup]) -> Group:
    """The group with the prompts of files that share none."""
    prompts = tuple(
        PromptGroup(key, one.prompt, tuple(one.responses), one.failures, one.empty)
        for file in files
        for key, one in file.prompts.items()
    )
    return replace(group, prompts=prompts)


class OtherColumns:
    """The values of the columns of a file that say nothing to the reader, while there are few.

    A column with one value in all rows is `constant`. One with two to ten values, each of them in several rows of
    every prompt, `parts` the responses to each prompt.
    """

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._rows: dict[str, dict[tuple[str, str], int]] = {}
        self._values: dict[str, dict[str, object]] = {}
        self._prompts: set[str] = set()

    def add(self, key: str, row: Row) -> None:
        self._prompts.add(key)
        for name, value in row.items():
            if name in self._known or isinstance(value, (dict, list)):
                continue
            values = self._values.setdefault(name, {})
            if len(values) <= _MAX_VALUES:
                values[repr(value)] = value
                counts = self._rows.setdefault(name, {})
                counts[key, repr(value)] = counts.get((key, repr(value)), 0) + 1

    @property
    def constant(self) -> Mapping[str, object]:
        """The columns with one value in all rows."""
        return {name: next(iter(values.values())) for name, values in self._values.items() if len(values) == 1}

    @property
    def parting(self) -> Mapping[str, tuple[object, ...]]:
        """The columns whose values part the responses to every prompt."""
        found = {}
        for name, values in self._values.items():
            counts = self._rows[name]
            complete = len(counts) == len(values) * len(self._prompts) and min(counts.values()) > 1
            if 1 < len(values) <= _MAX_VALUES and complete:
                found[name] = tuple(values.values())
        return found
