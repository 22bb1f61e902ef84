"""What goes into a pool and comes out of it: plain values, and the key under which requests are one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from outspoken import templates
from outspoken.chat import Message, Usage
from outspoken.distribution import Candidate, Distribution, Verbalized
from outspoken.errors import UsageError
from outspoken.same_text import text_key
from outspoken.settings import Settings

__all__ = [
    "DIGEST_BYTES",
    "Draw",
    "ExhaustedError",
    "Fill",
    "Hear",
    "PoolFill",
    "PoolKey",
    "PoolRecord",
    "PoolRequest",
    "PooledFill",
    "Waiting",
    "digest_of",
    "distribution_id",
    "pool_key",
    "written",
    "written_id",
]

KEY_VERSION = 1
DIGEST_BYTES = 8

PoolKey = str
"""The sha256, in hexadecimal, of the canonical JSON of a model's identity, the messages and the settings."""


class ExhaustedError(UsageError):
    """The model brings nothing new for this request any more, and all that it brought was handed out."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """What a fill needs to ask the model. `structured` says whether the decoder enforces the shape of a reply
    (None: where it can)."""

    messages: tuple[Message, ...]
    settings: Settings
    model: str
    structured: bool | None = None


@dataclass(frozen=True, slots=True)
class PoolFill:
    """What a fill brought: a distribution, and the conversation so far, which the next fill of the pool goes on
    with. The fill keeps the conversation as short as its model needs it."""

    distribution: Distribution
    history: tuple[Message, ...]


Hear = Callable[[Verbalized], None]
"""Is told of each candidate as it is verbalized."""

Fill = Callable[[PoolRequest, tuple[Message, ...], Hear | None], Awaitable[PoolFill]]
"""Asks the model for a distribution, in the conversation given: () begins one. Where somebody listens, the
reply is streamed."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One candidate that was handed out.

    `distribution` is the id of the distribution it came in, `number` says how many-th draw of its pool it is,
    from 1 (for seeded and fresh draws: of its request), and `upstream` how many fills it had to wait for after
    the draw before it in the same request: 0 is a hit. `usage` counts the tokens of those that it began itself.
    `again` says that this text had been handed out before.
    """

    candidate: Candidate
    distribution: str
    number: int
    upstream: int
    again: bool = False
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A candidate that has not been handed out, the id of its distribution, the number of the fill that brought it
    and its place therein."""

    candidate: Candidate
    distribution: str
    fill: int
    at: int


@dataclass(frozen=True, slots=True)
class PooledFill:
    """What one fill added, counted from 1: the digests of the texts that were new in it, one after the other, and
    its distribution as JSON (None where it is not needed any more)."""

    number: int
    digests: bytes
    distribution: str | None


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool at rest. `waiting` is fill and place of each candidate in the order of drawing, the next one last;
    `used` is Unix time and `history` JSON.

    To be saved, `fills` are those that were not saved yet, `history` is None where it is saved as it is, and
    `shown_from` is the oldest fill beside the first that is still shown. Read from a store, `fills` are all.
    """

    key: PoolKey
    used: float
    drawn: int
    stale: int
    merged: int
    waiting: tuple[tuple[int, int], ...]
    history: str | None
    fills: tuple[PooledFill, ...]
    shown_from: int = 1


def pool_key(
    model: str, messages: Sequence[Message], settings: Settings, structured: bool | None = None
) -> PoolKey:
    """The key of the pool that a request draws from.

    `model` is the model's identity. The template counts by what it says and not by its name. A seed in the
    settings is the model's own and counts; the seed of a draw does not belong there. Raises `UsageError` for
    what JSON cannot hold.
    """
    body = {
        "v": KEY_VERSION,
        "model": model,
        "messages": [[message.role, message.content] for message in messages],
        "method": settings.method,
        "k": settings.k,
        "tau": settings.tau,
        "template": templates.load(settings.template).hash,
        "words": settings.words,
        "turns": settings.turns if settings.method == "vs-multi" else 1,
        "retries": settings.retries,
        "on_short": settings.on_short,
        "sampling": settings.sampling.to_dict(),
        "structured": structured,
    }
    try:
        # Plain ASCII: half of a surrogate pair has a JSON escape and no UTF-8.
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def distribution_id(distribution: Distribution) -> str:
    """A name for a distribution that is made from what it holds: `dist-` and 24 hexadecimal digits."""
    return written_id(written(distribution))


def digest_of(text: str) -> bytes:
    """What two texts share that count as the same response, in a few bytes: of 200,000 different texts two share
    it with a probability of one in a billion."""
    key = text_key(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def written(distribution: Distribution) -> str:
    """A distribution as canonical JSON."""
    return json.dumps(distribution.to_dict(), sort_keys=True, separators=(",", ":"), default=str)


def written_id(text: str) -> str:
    """`distribution_id` of what `written` gave."""
    return f"dist-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
