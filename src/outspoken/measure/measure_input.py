"""The responses to one prompt as the measures see them: answers, counts, shares, classes by meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import sets
from outspoken.measure.answer_numbers import as_number
from outspoken.measure.answer_sets import Answers
from outspoken.measure.answer_table import AnswerColumns
from outspoken.measure.refusals import is_refusal
from outspoken.measure.richness import Richness, richness
from outspoken.measure.same_meaning import same_meaning
from outspoken.measure.values import Response, by_call

__all__ = ["REFUSAL", "Basis", "MeasureInput", "NotGivenError"]

Floats = NDArray[np.floating]
T = TypeVar("T")

Basis = Literal["draws", "shares", "meanings"]
"""What a figure of answers counts: each response once, the weight of each answer in the distribution that a user
draws from, or each response once with answers of the same meaning as one."""

REFUSAL = "(refusal)"
"""The answer that all refusals are."""


class NotGivenError(UndefinedError):
    """An input of the measure, beside the responses, was not given."""


class MeasureInput:
    """The responses to one prompt, with the intermediate values that several measures share.

    `empty` is the number of responses without text, which are not among `responses`. With `by_meaning`, responses
    with the same meaning are one answer; this needs embeddings, and answers that are not listed.
    """

    def __init__(
        self,
        responses: tuple[Response, ...],
        answers: Answers,
        embeddings: Floats | None = None,
        quality: tuple[float, ...] = (),
        *,
        empty: int = 0,
        by_meaning: bool = False,
    ) -> None:
        self.responses = responses
        self.answers = answers
        self.empty = empty
        self._embeddings = embeddings
        self._quality = quality
        self._by_meaning = by_meaning
        self._rows: dict[Basis, NDArray[np.float64]] = {}

    def subset(self, positions: Sequence[int]) -> MeasureInput:
        """The responses at these positions; classes by meaning stay as they are among all responses."""
        part = MeasureInput(
            tuple(self.responses[at] for at in positions),
            self.answers,
            None if self._embeddings is None else self._embeddings[list(positions)],
            tuple(self._quality[at] for at in positions) if len(self._quality) == len(self.responses) else (),
            by_meaning=self._by_meaning,
        )
        part.labels = [self.labels[at] for at in positions]
        part.refused = [self.refused[at] for at in positions]
        if self._embeddings is not None:
            part.meanings = tuple(self.meanings[at] for at in positions)
        return part

    @cached_property
    def texts(self) -> list[str]:
        return [response.text for response in self.responses]

    @cached_property
    def refused(self) -> list[bool]:
        """Whether each response is a refusal; a known answer never is."""
        known = frozenset(self.answers.known or ())
        named = zip(self.texts, self._own_labels, strict=True)
        return [label not in known and is_refusal(text) for text, label in named]

    @cached_property
    def _own_labels(self) -> list[str]:
        """The answer that each response is by its own text, refusals too."""
        return [self.answers.label(text) for text in self.texts]

    @cached_property
    def labels(self) -> list[str]:
        """The answer that each response is."""
        labels = self._own_labels
        if self._by_meaning and self._embeddings is not None and not self.answers.known:
            first: dict[int, str] = {}
            labels = [first.setdefault(each, label) for each, label in zip(self.meanings, labels, strict=True)]
        return [REFUSAL if no else label for no, label in zip(self.refused, labels, strict=True)]

    @cached_property
    def meanings(self) -> tuple[int, ...]:
        """The class of each response by meaning."""
        return same_meaning(self.texts, self.embeddings)

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """The weight of each answer in the distribution that a user draws from."""
        return sets.answer_weights(self.responses, self._label_of_text)

    @property
    def _label_of_text(self) -> Callable[[str], str]:
        # Equal texts are one answer, whatever tells answers apart.
        return dict(zip(self.texts, self.labels, strict=True)).__getitem__

    @property
    def published_shares(self) -> Mapping[str, float]:
        """The published average over calls (see `sets.published_average`); of draws, their shares."""
        if not self.states_shares:
            return self.weights
        label = self._label_of_text
        parts = [sets.answer_weights(own, label) for own in by_call(self.responses).values()]
        return sets.published_average(parts)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How often each answer appeared, whatever its probability."""
        counts: dict[str, int] = {}
        for label in self.labels:
            counts[label] = counts.get(label, 0) + 1
        return counts

    @cached_property
    def richness(self) -> Richness:
        """How many answers are in the model; refusals are none. Raises `UndefinedError` without an answer."""
        return richness(count for label, count in self.counts.items() if label != REFUSAL)

    @cached_property
    def states_shares(self) -> bool:
        """Whether the responses carry stated probabilities, so that their shares differ from their counts."""
        calls: dict[int | None, set[float | None]] = {}
        for response in self.responses:
            if response.stated is not None:
                return True
            calls.setdefault(response.call, set()).add(response.probability)
        return any(len(values - {None}) > 1 for values in calls.values())

    @cached_property
    def columns(self) -> AnswerColumns:
        """The answers that appeared and those that are known."""
        known = self.answers.known or ()
        correct = frozenset(known)
        names = tuple(dict.fromkeys((*known, *self.labels)))
        reference = None
        if known:
            shares = self.reference
            reference = np.array([shares.get(name, 0.0) for name in names])
        numbers = [as_number(name) if known else None for name in names]
        return AnswerColumns(
            names,
            np.array([name in correct for name in names], dtype=bool),
            np.array([name != REFUSAL for name in names], dtype=bool),
            reference,
            np.array([math.nan if number is None else number for number in numbers]),
        )

    @cached_property
    def meaning_columns(self) -> AnswerColumns:
        """The classes by meaning as columns; a class of refusals only is no answer."""
        classes = max(self.meanings, default=-1) + 1
        answers = np.zeros(classes, dtype=bool)
        for number, refused in zip(self.meanings, self.refused, strict=True):
            answers[number] |= not refused
        names = tuple(str(number) for number in range(classes))
        return AnswerColumns(names, np.zeros(classes, dtype=bool), answers, None, np.full(classes, math.nan))

    def columns_of(self, basis: Basis) -> AnswerColumns:
        """The answers that the columns of a table on this basis stand for."""
        return self.meaning_columns if basis == "meanings" else self.columns

    def positions(self, basis: Basis) -> NDArray[np.intp]:
        """The column of each response."""
        if basis == "meanings":
            return np.array(self.meanings, dtype=np.intp)
        places = {name: at for at, name in enumerate(self.columns.names)}
        return np.array([places[label] for label in self.labels], dtype=np.intp)

    def row(self, basis: Basis) -> NDArray[np.float64]:
        """The responses as one row of a table; several measures share it."""
        if basis not in self._rows:
            columns = self.columns_of(basis)
            weights = sets.weights_of(self.responses) if basis == "shares" else None
            counted = np.bincount(self.positions(basis), weights, len(columns.names))
            self._rows[basis] = counted.astype(np.float64)
        return self._rows[basis]

    @property
    def reference(self) -> Mapping[str, float]:
        """The shares that the answers ought to have: those given, or else equal shares of all known answers."""
        if self.answers.reference is not None:
            return self.answers.reference
        return dict.fromkeys(self.known, 1 / len(self.known))

    @property
    def known(self) -> tuple[str, ...]:
        if not self.answers.known:
            raise NotGivenError("there is no reference: name one with --reference")
        return tuple(self.answers.known)

    @property
    def partition(self) -> tuple[int, ...]:
        classes = [response.partition for response in self.responses]
        return _complete(classes, "the responses come without a partition into classes")

    @property
    def scores(self) -> tuple[float, ...]:
        return _complete([response.score for response in self.responses], "the responses come without scores")

    @property
    def embeddings(self) -> Floats:
        if self._embeddings is None:
            raise NotGivenError("there are no embeddings")
        return self._embeddings

    @property
    def quality(self) -> tuple[float, ...]:
        if not self._quality:
            raise NotGivenError("no judge scored these responses")
        return self._quality


def _complete(values: list[T | None], problem: str) -> tuple[T, ...]:
    present = tuple(value for value in values if value is not None)
    if len(present) < len(values):
        raise NotGivenError(problem)
    return present
