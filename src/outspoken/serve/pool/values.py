"""The values that go into a pool and come out of it, and the key of a request's pool."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from outspoken import templates
from outspoken.candidate import Candidate, Verbalized
from outspoken.chat import Message, Sampling
from outspoken.chat_reply import Usage
from outspoken.distribution import Distribution
from outspoken.errors import ProviderError, UsageError
from outspoken.methods.table import METHODS
from outspoken.same_text import text_key
from outspoken.serve.openai.errors import RequestError
from outspoken.settings import Settings

__all__ = [
    "DIGEST_BYTES",
    "CandidateListener",
    "Draw",
    "ExhaustedError",
    "Fill",
    "FillRecord",
    "FillResult",
    "PoolKey",
    "PoolRecord",
    "PoolRequest",
    "canonical_json",
    "distribution_id",
    "id_of_json",
    "pool_key",
    "text_digest",
    "with_timeout",
]

KEY_VERSION = 1
DIGEST_BYTES = 8
_SAMPLING = frozenset(entry.name for entry in fields(Sampling))
_SETTINGS = tuple(entry.name for entry in fields(Settings) if entry.name not in _SAMPLING)

PoolKey = str
"""The sha256, in hexadecimal, of the canonical JSON of a model's identity, the messages and the settings."""


class ExhaustedError(RequestError):
    """The model has nothing new for this request, and everything it gave was drawn."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=422, code="pool_exhausted")


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """The request that fills a pool. `structured`: the decoder enforces the shape of a reply (None: if it can)."""

    messages: tuple[Message, ...]
    settings: Settings
    model: str
    structured: bool | None = None


@dataclass(frozen=True, slots=True)
class FillResult:
    """A distribution, and the conversation so far, which the pool's next fill continues."""

    distribution: Distribution
    history: tuple[Message, ...]


CandidateListener = Callable[[Verbalized], None]
"""Called with each candidate as it is verbalized."""

Fill = Callable[[PoolRequest, tuple[Message, ...], CandidateListener | None], Awaitable[FillResult]]
"""Asks the model for a distribution in the given conversation (() begins one), streamed if there is a listener."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One candidate that was drawn.

    `distribution` is the id of its distribution. `number` is the 1-based index of this draw in its pool (seeded
    and fresh draws: in its request). `upstream` is the number of fills it waited for, after the previous draw of
    the same request. `usage` counts the tokens of the fills that it started itself. `again`: its text was drawn
    before.
    """

    candidate: Candidate
    distribution: str
    number: int
    upstream: int
    again: bool = False
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class FillRecord:
    """A fill of a pool as it is saved.

    `number` counts from 1. `digests` are those of its new texts, concatenated. `distribution` is JSON, or None
    if it is not needed any more.
    """

    number: int
    digests: bytes
    distribution: str | None


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as it is saved.

    `waiting` has the fill and the index of each candidate in the order of drawing, the next one last. `used` is
    Unix time, `history` JSON.

    A record from a store contains all `fills`; one to be saved contains only new fills, and no `history` if the
    saved one is still valid. `shown_from` is the oldest fill after the first whose distribution is still needed.
    """

    key: PoolKey
    used: float
    drawn: int
    stale: int
    merged: int
    waiting: tuple[tuple[int, int], ...]
    history: str | None
    fills: tuple[FillRecord, ...]
    shown_from: int = 1


def pool_key(
    model: str, messages: Sequence[Message], settings: Settings, structured: bool | None = None
) -> PoolKey:
    """The key of the pool that a request draws from.

    `model` is the model's identity. The key depends on all settings, and on the content of the template. A seed in
    the settings is for the model, not for the draw. Raises `UsageError` for values that JSON cannot represent.
    """
    body = {
        **{name: getattr(settings, name) for name in _SETTINGS},
        "v": KEY_VERSION,
        "model": model,
        "messages": [[message.role, message.content] for message in messages],
        "template": templates.load(settings.template).hash,
        "turns": METHODS[settings.method].turn_count(settings.turns),
        "sampling": settings.sampling.to_dict(),
        "structured": structured,
    }
    try:
        # Plain ASCII: half of a surrogate pair has a JSON escape, but no UTF-8.
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(distribution: Distribution) -> str:
    """A distribution as canonical JSON."""
    return json.dumps(distribution.to_dict(), sort_keys=True, separators=(",", ":"), default=str)


def distribution_id(distribution: Distribution) -> str:
    """An identifier derived from a distribution's content: `dist-` and 24 hexadecimal digits."""
    return id_of_json(canonical_json(distribution))


def id_of_json(text: str) -> str:
    """`distribution_id` of the distribution with this `canonical_json`."""
    return f"dist-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def text_digest(text: str) -> bytes:
    """A short digest, equal for texts that count as the same response.

    Two of 200,000 different texts have the same digest with a probability of one in a billion.
    """
    key = text_key(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


T = TypeVar("T")


async def with_timeout(work: Awaitable[T], seconds: float, smaller: str) -> T:
    """Await the model. Raises `ProviderError` after `seconds`, with the advice to ask for `smaller`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        message = f"the model did not answer within {seconds:g} s: try again, or ask for {smaller}"
        raise ProviderError(message, retryable=True, original=error) from error
