"""The distribution of a model over given answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outspoken.engine import score_all
from outspoken.errors import UsageError
from outspoken.ledger import Ledger
from outspoken.models.base import Model, Score

__all__ = ["Likelihoods", "likelihoods"]


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Texts that may follow one prompt, with their scores."""

    texts: tuple[str, ...]
    scores: tuple[Score, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """p(text | prompt), divided by its sum over the texts."""
        top = max(score.total for score in self.scores)
        weights = [math.exp(score.total - top) for score in self.scores]
        return tuple(weight / math.fsum(weights) for weight in weights)

    @property
    def mass(self) -> float:
        """The probability of all these texts together, at most 1; the rest belongs to other texts."""
        return min(1.0, math.fsum(math.exp(score.total) for score in self.scores))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        texts = [
            {"text": text, "total": score.total, "mean": score.mean, "tokens": len(score), "share": share}
            | {"pieces": list(score.tokens), "logprobs": list(score.logprobs)}
            for text, score, share in zip(self.texts, self.scores, self.shares, strict=True)
        ]
        return {"mass": self.mass, "texts": texts}


async def likelihoods(
    model: Model,
    prompt: str,
    texts: Sequence[str],
    *,
    chat: bool = False,
    ledger: Ledger | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Likelihoods:
    """How likely each of the texts is after `prompt`, according to `model`.

    With `chat` the prompt is put into the model's chat template, as an aligned model expects it. If one text is
    the beginning of another (York, York City), the probability of the shorter includes that of the longer. With a
    `ledger` no text is scored twice; `progress` is called with the number of scored texts and of all texts.

    Raises `UsageError` for no text, equal texts, and a text that cannot be scored.
    """
    if not texts or not all(texts):
        raise UsageError("give at least one text, and none that is empty")
    if repeated := [text for text in texts if texts.count(text) > 1]:
        raise UsageError(f"{repeated[0]!r} is given twice: give each text once")
    context = await model.chat_text(prompt) if chat else prompt
    results = await score_all(model, [(context, text) for text in texts], ledger=ledger, progress=progress)
    scores = []
    for text, score in zip(texts, results, strict=True):
        if isinstance(score, UsageError):
            raise UsageError(f"{text!r} cannot be scored: {score}")
        scores.append(score)
    return Likelihoods(tuple(texts), tuple(scores))
