"""Sets of answers: how two answers are distinguished, and which ones are correct."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError, errors_at
from outspoken.io.text import read_json
from outspoken.measure.answer_numbers import as_number
from outspoken.measure.divergence import is_weight, shares
from outspoken.measure.short_answers import answer_of
from outspoken.same_text import text_key

__all__ = ["Answers", "load", "published_key"]

_FORMS = (
    'an object of answers and counts ({"Texas": 3}), or one of questions with their answers, with counts if they '
    'are known ({"Name a country.": {"answers": [["UK", "Britain"], ["Peru"]], "counts": {"UK": 3, "Peru": 1}}})'
)
_QUESTION_KEYS = ("answers", "counts")


def published_key(text: str) -> str:
    """The normal form of the published CoverageQA code (arXiv 2510.01171)."""
    return text.lower().rstrip().rstrip(".")


@dataclass(frozen=True, slots=True)
class Answers:
    """How answers are distinguished, and which are correct.

    `known` are the correct answers in the given order and spelling, or None if they are unknown. `reference` holds
    the share of each, summing to 1, or None without counts. `normalise` brings a text into the form that is
    compared, and `aliases` maps such forms to the known answers.
    """

    known: tuple[str, ...] | None = None
    reference: Mapping[str, float] | None = None
    normalise: Callable[[str], str] = text_key
    aliases: Mapping[str, str] = field(default_factory=dict, repr=False)
    _numbers: Mapping[float, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {as_number(answer): answer for answer in self.known or ()}
        object.__setattr__(self, "_numbers", {} if None in numbers else numbers)

    @classmethod
    def counts(cls, counts: Mapping[str, object], *, normalise: Callable[[str], str] = text_key) -> Answers:
        """From `{answer: count}` or `{answer: {"count": count}}`; the shares are the `reference`.

        Answers that are equal after normalising are added up, under the first of them. An answer with a count of 0
        is known, too. Raises `UsageError` for a count that is negative or not finite, and if all are zero.
        """
        known: dict[str, str] = {}
        weights: dict[str, float] = {}
        for answer, entry in counts.items():
            count = _count(answer, entry)
            name = known.setdefault(normalise(_spelling(answer, answer)), answer.strip())
            weights[name] = weights.get(name, 0) + count
        if not any(weights.values()):
            raise UsageError("no answer has a count above 0: give at least one")
        return cls(tuple(weights), shares(weights), normalise, known)

    @classmethod
    def listed(
        cls, entries: Iterable[str | float | Iterable[str | float]], *, normalise: Callable[[str], str] = text_key
    ) -> Answers:
        """From `[[answer, alias, ...], ...]`, or texts or numbers for answers without aliases; no `reference`.

        Entries that share a spelling after normalising are one answer, named by the first spelling of the first of
        them. The published code groups by the first spelling only, so that "United States" and "America, United
        States" are two of its answers. Raises `UsageError` for an entry that is empty or not text.
        """
        aliases: dict[str, str] = {}
        for number, entry in enumerate(entries, 1):
            spellings = [entry] if isinstance(entry, (str, int, float)) else entry
            if not isinstance(spellings, Iterable) or isinstance(spellings, Mapping):
                raise UsageError(f"answer {number} must be a list of spellings, not {entry!r}")
            texts = [_spelling(spelling, f"answer {number}") for spelling in spellings]
            if not texts:
                raise UsageError(f"answer {number} has no spelling: write it, or leave the entry out")
            keys = [normalise(text) for text in texts]
            same = {aliases[key] for key in keys if key in aliases}
            name = next(known for known in aliases.values() if known in same) if same else texts[0]
            if len(same) > 1:
                aliases = {key: name if known in same else known for key, known in aliases.items()}
            aliases |= dict.fromkeys(keys, name)
        if not aliases:
            raise UsageError("the list of answers is empty: give at least one")
        return cls(tuple(dict.fromkeys(aliases.values())), None, normalise, aliases)

    def with_counts(self, counts: Mapping[str, object]) -> Answers:
        """The same answers, with the shares that these counts amount to; an answer that is not among them has 0.

        Raises `UsageError` for a count of an answer that is not known, and as `counts` does.
        """
        weights = dict.fromkeys(self.known or (), 0.0)
        for answer, entry in counts.items():
            name = self.label(answer)
            if name not in weights:
                raise UsageError(f"there is a count of {answer!r}, which is not among the answers: add it to them")
            weights[name] += _count(answer, entry)
        if not any(weights.values()):
            raise UsageError("no answer has a count above 0: give at least one")
        return replace(self, reference=shares(weights))

    @classmethod
    def free(cls, *, normalise: Callable[[str], str] = text_key) -> Answers:
        """Without known answers: texts that differ after normalising are different answers."""
        return cls(normalise=normalise)

    def label(self, text: str) -> str:
        """The known answer with this spelling or, if all known answers are numbers, with this value; else the
        normalised text, without an opening such as "The answer is: "."""
        key = self.normalise(text)
        if key in self.aliases:
            return self.aliases[key]
        answer = answer_of(text)
        if answer != text:
            key = self.normalise(answer)
        if key not in self.aliases and self._numbers and (number := as_number(text)) in self._numbers:
            return self._numbers[number]  # type: ignore[index]  # None is no key
        return self.aliases.get(key, key)


def load(path: str | Path, *, normalise: Callable[[str], str] = text_key) -> Answers | dict[str, Answers]:
    """Read a JSON file of answers: counts become one `Answers`, questions one each, by the text of the question.

    Counts are `{answer: count}` or `{answer: {"count": count}}`, questions `{question: {"answers": [[answer,
    alias, ...], ...], "counts": {answer: count}}}` (the counts may be missing, or stand alone: `{question:
    {answer: count}}`). Raises `UsageError`, naming the file and the entry, for anything else.
    """
    file = Path(path)
    entries = read_json(file, "file of answers", object_pairs_hook=_unique_keys)
    with errors_at(str(file)):
        if not isinstance(entries, dict) or not entries:
            raise UsageError(f"the file holds no answers: it must be {_FORMS}")
        counted = next((name for name, entry in entries.items() if _is_count(entry)), None)
        if any(isinstance(entry, dict) and not _is_count(entry) for entry in entries.values()):
            if counted is not None:
                raise UsageError(
                    f"{counted!r} is an answer with its count, other entries are not: the file must be {_FORMS}"
                )
            return {name: _question(name, entry, normalise) for name, entry in entries.items()}
        return Answers.counts(entries, normalise=normalise)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{repeated!r} appears twice in one object: keep one of them")
    return entries


def _is_count(entry: object) -> bool:
    """Whether an entry says how often one answer came, `{"count": 3}`, so that its name is an answer."""
    return isinstance(entry, dict) and "count" in entry and not any(key in entry for key in _QUESTION_KEYS)


def _question(name: str, entry: object, normalise: Callable[[str], str]) -> Answers:
    """The answers to one question: listed, with counts, or counts alone."""
    if not isinstance(entry, dict) or not entry:
        raise UsageError(f"{name!r} must hold answers, as the other questions do: the file must be {_FORMS}")
    with errors_at(repr(name)):
        named = any(key in entry for key in _QUESTION_KEYS)
        unknown = [key for key in entry if key not in _QUESTION_KEYS and (named or _holds_several(entry[key]))]
        if unknown:
            raise UnknownNameError("key", unknown[0], _QUESTION_KEYS)
        if not named:
            return Answers.counts(entry, normalise=normalise)
        counts = entry.get("counts")
        if "answers" not in entry:
            return Answers.counts(_mapping(counts), normalise=normalise)
        if not isinstance(entry["answers"], list):
            raise UsageError(
                "answers must be a list, of texts or of lists of spellings; counts belong to 'counts'"
            )
        listed = Answers.listed(entry["answers"], normalise=normalise)
        return listed if counts is None else listed.with_counts(_mapping(counts))


def _holds_several(value: object) -> bool:
    """Whether a value holds answers or counts, so that its name is a key and no answer."""
    return isinstance(value, list) or (isinstance(value, dict) and not _is_count(value))


def _mapping(counts: object) -> Mapping[str, object]:
    if not isinstance(counts, dict):
        raise UsageError(f"counts must be an object of answers and counts, not {counts!r}")
    return counts


def _count(answer: str, entry: object) -> float:
    count: Any = entry.get("count") if isinstance(entry, Mapping) else entry
    if not is_weight(count):
        raise UsageError(f"the count of {answer!r} must be a finite number of at least 0, not {count!r}")
    return float(count)


def _spelling(text: object, where: str) -> str:
    if isinstance(text, (int, float)) and not isinstance(text, bool) and math.isfinite(text):
        return str(int(text) if float(text).is_integer() else text)
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where!r} must be text that is not blank, not {text!r}")
    return text.strip()
