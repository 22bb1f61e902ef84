"""The prompts of generate, in their order: topics, personas and quoted records in turn."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from outspoken.batch.sources import Row
from outspoken.batch.sources import read as read_prompts
from outspoken.errors import UsageError
from outspoken.synth.records import fill

if TYPE_CHECKING:
    from outspoken.synth.steps.generate import Generate

__all__ = ["Asks"]


class Asks:
    """The prompts in their order; topics and personas take turns, so that each has its share."""

    def __init__(self, options: Generate, seed: int) -> None:
        self._options = options
        self._seed = seed
        topics = list(options.topics) or _lines("topics_file", options.topics_file)
        personas = list(options.personas) or _lines("personas_file", options.personas_file)
        pairs: list[tuple[str | None, str | None]]
        pairs = list(itertools.product(topics or (None,), personas or (None,)))
        random.Random(seed).shuffle(pairs)
        self._pairs = pairs
        self._seeds = _lines("seeds", options.seeds, options.seeds_column)
        self._next = 0

    @property
    def taken(self) -> int:
        return self._next

    @property
    def kinds(self) -> int:
        return len(self._pairs)

    def take(self, count: int, known: list[str]) -> Iterator[dict[str, Any]]:
        """The next `count` prompts; `draw` tells the same one from its earlier times."""
        first, self._next = self._next, self._next + count
        for number in range(first, first + count):
            topic, persona = self._pairs[number % len(self._pairs)]
            chosen = random.Random(f"{self._seed}/{number}")
            examples = chosen.sample(self._seeds, min(self._options.examples, len(self._seeds)))
            values = {"topic": topic, "persona": persona, "examples": _listed(examples)}
            prompt = fill(self._options.instruction, values)
            if examples and "{examples}" not in self._options.instruction:
                prompt += f"\n\nExamples:\n{_listed(examples)}"
            if known:
                quoted = chosen.sample(known, min(self._options.avoid, len(known)))
                prompt += f"\n\nThese are there already; do not repeat any of them:\n{_listed(quoted)}"
            row = {"id": str(number + 1), "prompt": prompt, "draw": number // len(self._pairs)}
            yield row | {name: values[name] for name in ("topic", "persona") if values[name] is not None}


def _listed(texts: list[str]) -> str:
    return "\n".join("- " + " ".join(text.split()) for text in texts)


def _lines(name: str, path: str, column: str = "") -> list[str]:
    """The texts of the file that the option `name` names, read as prompts are."""
    if not path:
        return []
    remedy = f"say which one with {name}_column" if name == "seeds" else "call the right one prompt"
    try:
        rows = [*read_prompts(path, prompt_column=column or None, remedy=remedy)]
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    texts = [row.messages[-1].content for row in rows if isinstance(row, Row)]
    if not texts:
        raise UsageError(f"{name}: {path} holds no text: write one a line")
    return texts
