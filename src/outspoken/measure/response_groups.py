"""The responses of a group, collected row by row, and what tells the files of a group apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from outspoken.measure.probability_scale import on_one_scale
from outspoken.measure.response_rows import Row, RowResponses
from outspoken.measure.values import Group, PromptGroup, Response

__all__ = ["FileGroup", "OtherColumns", "joined", "parts_of_group"]

_MAX_VALUES = 10
# Columns whose values do not change which answers are likely.
_SAME_LAW = ("seed",)


class _Prompt:
    """The responses to one prompt in one file."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.responses: list[Response] = []
        self.failures = self.empty = 0
        self._percents: list[bool] = []
        self._may_be_mixed = False
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
        self._may_be_mixed |= row.percent or any((one.probability or 0.0) > 1 for one in row.responses)
        self.failures += row.failures
        self.empty += row.empty

    def on_one_scale(self) -> int:
        """Bring the probabilities of each call to one scale; returns how often that is impossible."""
        if not self._may_be_mixed:
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
                written = repr(value)
                values[written] = value
                counts = self._rows.setdefault(name, {})
                counts[key, written] = counts.get((key, written), 0) + 1

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
            if 1 < len(values) <= _MAX_VALUES and complete and name not in _SAME_LAW:
                found[name] = tuple(values.values())
        return found


def parts_of_group(
    files: Mapping[int, tuple[FileGroup, OtherColumns]],
) -> tuple[str | None, list[tuple[object, list[int]]]]:
    """What parts the files of one group, and the parts: the value of each, and the numbers of its files.

    Files that have no prompt in common are one part, and None parts them. Others are parted by the only column
    that has one value in each file, and for each value files without a common prompt. If there is none, or
    several, each file is a part, and the column is "file".
    """
    if not _repeat_prompts([group for group, _ in files.values()]):
        return None, [(None, list(files))]
    constants = {number: columns.constant for number, (_, columns) in files.items()}
    first = next(iter(constants.values()))
    found = []
    for name in first:
        if all(name in one for one in constants.values()):
            values = {number: one[name] for number, one in constants.items()}
            parts = _equal(values)
            if not any(_repeat_prompts([files[number][0] for number in members]) for _, members in parts):
                found.append((name, parts))
    if len(found) == 1:
        return found[0]
    return "file", [(number, [number]) for number in files]


def _equal(values: Mapping[int, object]) -> list[tuple[object, list[int]]]:
    """The numbers of the files with each value, in the order in which the values appear."""
    members: dict[str, list[int]] = {}
    for number, value in values.items():
        members.setdefault(repr(value), []).append(number)
    return [(values[numbers[0]], numbers) for numbers in members.values()]


def _repeat_prompts(files: Sequence[FileGroup]) -> bool:
    """Whether two of the files have a prompt in common."""
    return len({key for file in files for key in file.prompts}) < sum(len(file.prompts) for file in files)
