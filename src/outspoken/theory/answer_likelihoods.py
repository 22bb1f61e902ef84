"""The distribution that a model has over given answers."""

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
    """Texts behind one prompt with their scores."""

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
        """What the model gives to all these texts together; the rest is what it would say otherwise."""
        return min(1.0, math.fsum(math.exp(score.total) for score in self.scores))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "mass": self.mass,
            "texts": [
                {
                    "text": text,
                    "total": score.total,
                    "mean": score.mean,
                    "tokens": len(score),
                    "share": share,
                    "pieces": list(score.tokens),
                    "logprobs": list(score.logprobs),
                }
                for text, score, share in zip(self.texts, self.scores, self.shares, strict=True)
            ],
        }


async def likelihoods(
    model: Model,
    prompt: str,
    texts: Sequence[str],
    *,
    chat: bool = False,
    ledger: Ledger | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Likelihoods:
    """How likely `model` finds each of the texts behind `prompt`.

    With `chat` the prompt is put into the model's chat template, as an aligned model expects it. Where one text
    begins another one (York, York City) the probability of the longer is a part of the shorter one's.
    Raises `UsageError` for no text, equal ones, and one that cannot be scored.
    """
    if not texts or not all(texts):
        raise UsageError("give at least one text, and none that is empty")
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise UsageError(f"{twice[0]!r} stands twice: give each text once")
    before = await model.chat_text(prompt) if chat else prompt
    found = await score_all(model, [(before, text) for text in texts], ledger=ledger, progress=progress)
    scores = []
    for text, score in zip(texts, found, strict=True):
        if isinstance(score, UsageError):
            raise UsageError(f"{text!r} cannot be scored: {score}")
        scores.append(score)
    return Likelihoods(tuple(texts), tuple(scores))
