"""Preference data: the preferred one of two responses to a prompt, as rated by people or by a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np

from outspoken.batch.source_formats import ColumnSource, Unreadable, open_source
from outspoken.batch.source_text import CutOffError
from outspoken.errors import UndefinedError, UsageError
from outspoken.theory.preference_formats import (
    PreferenceFormat,
    PreferencePair,
    PreferenceRow,
    PreferenceRowError,
    RatedResponse,
    layout_of,
)

__all__ = ["CUES", "PUBLISHED", "PreferencePair", "Preferences", "read_preferences"]

PUBLISHED = "{prompt}\n\n    Response: "
"""The text before a response, as published: Verbalized Sampling (arXiv 2510.01171) and its code."""

CUES = ("Assistant:", "TL;DR:")
"""If a prompt ends with one of these, the response follows it directly."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Preferences:
    """The pairs of a file, in its order.

    `layout` is the layout's name. `ordered` says whether the order of first and second carries information: in
    rated data it does, in chosen and rejected it does not. `rows` counts the rows of the file, `available` its
    pairs before `limit`. `skipped` counts, by reason, the rows, responses and pairs that could not be used, and
    `examples` describe some of them. `ties` counts the pairs with equal ratings, which are dropped.
    `prompt_format` is the text before a response, with "{prompt}" in it.
    """

    pairs: tuple[PreferencePair, ...]
    layout: str
    ordered: bool
    rows: int
    available: int
    skipped: Mapping[str, int]
    ties: int
    examples: tuple[str, ...]
    prompt_format: str
    file: str

    @property
    def prompts(self) -> int:
        """The number of different prompts."""
        return len({pair.prompt for pair in self.pairs})

    @property
    def correctness(self) -> bool:
        """Whether the pairs have ratings of correctness."""
        return any(pair.gap is not None for pair in self.pairs)

    def text_of(self, prompt: str) -> str:
        """The text before a response; the response follows it unchanged.

        A prompt that ends with one of `CUES` is not changed, unless the format is the caller's own.
        """
        if self.prompt_format == PUBLISHED and prompt.endswith(CUES):
            return prompt
        return self.prompt_format.replace("{prompt}", prompt)


def read_preferences(
    path: str | PathLike[str], *, prompt_format: str = PUBLISHED, limit: int | None = None, seed: int = 0
) -> Preferences:
    """The pairs of a preference file: JSON lines, JSON, CSV (each also as .gz) or Parquet.

    The layout is recognised by the columns: see `outspoken.theory.preference_formats.LAYOUTS`. `prompt_format` is
    the text before a response, with "{prompt}" in it. `limit` draws that many pairs at random, by `seed`, and
    keeps their order.

    Raises `UsageError` if the file is missing, has no row or fits no layout, for a format without "{prompt}", and
    for a limit below 1; `UndefinedError` if no pair is left.
    """
    if prompt_format.count("{prompt}") != 1:
        raise UsageError(f"the prompt format {prompt_format!r} must contain {{prompt}} exactly once")
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be at least 1 pair, not {limit}")
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, not {seed}")
    collected = _CollectedPairs(fspath(path))
    pairs = collected.pairs
    if not pairs:
        why = "; ".join(f"{reason}: {count:,}" for reason, count in collected.skipped.items())
        raise UndefinedError(
            f"{collected.source.name} holds no pair that can be used in {collected.rows:,} rows "
            f"({why or 'no pair'}; ties: {collected.ties:,})"
        )
    available = len(pairs)
    if limit is not None and limit < available:
        drawn = np.random.default_rng(seed).choice(available, limit, replace=False)
        pairs = [pairs[at] for at in sorted(drawn)]
    if prompt_format == PUBLISHED and all(pair.prompt.endswith(CUES) for pair in pairs):
        prompt_format = "{prompt}"
    return Preferences(
        tuple(pairs),
        collected.layout.name,
        collected.layout.ordered,
        collected.rows,
        available,
        dict(collected.skipped),
        collected.ties,
        tuple(collected.examples),
        prompt_format,
        collected.source.name,
    )


class _CollectedPairs:
    """The pairs of one file, stated or built from the ratings of each prompt's responses, and the skipped rows."""

    def __init__(self, path: str) -> None:
        self.source = ColumnSource(path)
        self.rows = self.ties = 0
        self.skipped: Counter[str] = Counter()
        self.examples: list[str] = []
        self.pairs: list[PreferencePair] = []
        self._rated: dict[str, list[RatedResponse]] = {}
        self.layout = self._read(path)
        for responses in self._rated.values():
            self.pairs += self._within(responses)

    def _read(self, path: str) -> PreferenceFormat:
        layout: PreferenceFormat | None = None
        position = 0
        with ExitStack() as stack:
            try:
                for position, value in open_source(path, self.source, stack):
                    self.rows += 1
                    if type(value) is not dict:
                        reason = str(value) if type(value) is Unreadable else "not a JSON object"
                        self._skip("row that cannot be read", position, reason)
                        continue
                    if layout is None:
                        layout = layout_of(self.source.name, self.source.columns or list(value), value)
                    self._take(layout, position, value)
            except CutOffError as error:
                self._skip("row that cannot be read", position + 1, f"cannot be read from here on: {error}")
        if layout is None:
            why = f": {self.examples[0]}" if self.examples else ""
            raise UsageError(f"{self.source.name} holds no preference that can be read{why}")
        return layout

    def _take(self, layout: PreferenceFormat, position: int, row: PreferenceRow) -> None:
        try:
            for item in layout.items(row, position):
                if isinstance(item, PreferencePair):
                    self.pairs.append(item)
                elif isinstance(item, PreferenceRowError):
                    self._skip(item.reason, position, item.detail)
                else:
                    self._rated.setdefault(item.prompt, []).append(item)
        except PreferenceRowError as error:
            self._skip(error.reason, position, error.detail)

    def _within(self, responses: list[RatedResponse]) -> Iterator[PreferencePair]:
        for at, first in enumerate(responses):
            for second in responses[at + 1 :]:
                if first.rating == second.rating:
                    self.ties += 1
                elif first.text.strip() == second.text.strip():
                    where = self.source.where(first.row)
                    self._skip("equal texts", second.row, f"the same response as in {where}")
                else:
                    gap = None
                    if first.correctness is not None and second.correctness is not None:
                        gap = first.correctness - second.correctness
                    preferred = first.rating > second.rating
                    yield PreferencePair(first.prompt, first.text, second.text, preferred, gap, first.row)

    def _skip(self, reason: str, position: int, detail: str = "") -> None:
        self.skipped[reason] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{self.source.where(position)}: {reason}" + (f" ({detail})" if detail else ""))
