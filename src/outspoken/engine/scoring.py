"""How likely a model finds many given texts: with a ledger, so that nothing is computed or paid for twice."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence

from outspoken.chat_reply import ChatReply, Usage
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.engine.retry import OVERLOADED
from outspoken.errors import LedgerError, ProviderError, UsageError
from outspoken.ledger import Ledger, score_entry
from outspoken.models.base import Model, Score

__all__ = ["score_all"]

Asked = tuple[str, str]
Progress = Callable[[int, int], None]

_TEXTS_A_CALL = 16
_CHARACTERS_A_CALL = 8_000
_CONCURRENCY = 32
_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


async def score_all(
    model: Model,
    asked: Sequence[Asked],
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    concurrency: int = _CONCURRENCY,
) -> list[Score | UsageError]:
    """`model.scores` of (prompt, continuation) pairs, in their order: many at once, and equal ones once.

    What the ledger holds is not asked again, and what comes is stored as it comes: whoever is interrupted goes on
    from there. `progress` is called with the texts done and all of them. What may succeed later is tried again.
    In the place of what cannot be scored stands the `UsageError` that says why. Raises `UsageError` for a model
    that scores nothing, `ProviderError` and `LedgerError`.
    """
    if not model.capabilities.score:
        raise UsageError(
            f"{model.name} cannot score a given text: take local/FILE.gguf, transformers/NAME or a vLLM server"
        )
    wanted = list(dict.fromkeys(asked))
    identity = await model.score_identity()
    found: dict[Asked, Score | UsageError] = {}
    entries = {}
    for pair in wanted:
        try:
            entries[pair] = score_entry(identity, *pair)
        except UnicodeEncodeError:
            found[pair] = UsageError("the text holds half of a surrogate pair: repair how it was read")
            continue
        if ledger is not None and (known := ledger.get(entries[pair].key)) is not None:
            found[pair] = _score_of(known)
    gate = RateLimiter(1 if model.capabilities.parallel else concurrency)
    show = progress or (lambda done, total: None)
    show(len(found), len(wanted))

    async def work(chunk: list[Asked]) -> None:
        begun = time.monotonic()
        came = await _patiently(model, chunk, gate)
        seconds = (time.monotonic() - begun) / len(chunk)
        for pair, score in zip(chunk, came, strict=True):
            if ledger is not None and isinstance(score, Score):
                ledger.put(entries[pair], _reply(score, model.name), seconds)
        found.update(zip(chunk, came, strict=True))
        show(len(found), len(wanted))

    missing = [pair for pair in wanted if pair not in found]
    try:
        async with asyncio.TaskGroup() as tasks:
            # A server is asked one text at a time: what fails then costs no other one.
            apart = model.capabilities.parallel is None
            for chunk in [[pair] for pair in missing] if apart else _chunks(missing):
                tasks.create_task(work(chunk))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        if ledger is not None:
            await asyncio.shield(ledger.settled())
    return [found[pair] for pair in asked]


async def _patiently(model: Model, chunk: Sequence[Asked], gate: RateLimiter) -> list[Score | UsageError]:
    for attempt in range(1, _ATTEMPTS + 1):
        await gate.enter()
        begun = time.monotonic()
        try:
            came = await model.scores(chunk)
            gate.answered()
            return came
        except ProviderError as error:
            if not error.retryable or attempt == _ATTEMPTS:
                raise
            if error.status in OVERLOADED:
                gate.overloaded(begun, error.retry_after)
            wait = (error.retry_after or 0) + random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
        finally:
            gate.leave()
        await gate.pause(wait)
    raise AssertionError("the last attempt returns or raises")


def _chunks(pairs: Sequence[Asked]) -> Iterator[list[Asked]]:
    """Pairs of equal prompts together, and prompts of like length, so that little of a step is padding; in random
    order, so that progress is even."""
    prompts: dict[str, list[Asked]] = {}
    for pair in pairs:
        prompts.setdefault(pair[0], []).append(pair)
    chunks: list[list[Asked]] = []
    size = 0
    for prompt, group in sorted(prompts.items(), key=lambda entry: len(entry[0])):
        length = len(prompt) + sum(len(text) for _, text in group)
        full = not chunks or size + length > _CHARACTERS_A_CALL or len(chunks[-1]) + len(group) > _TEXTS_A_CALL
        if full:
            chunks.append([])
            size = 0
        chunks[-1] += group
        size += length
    random.Random(0).shuffle(chunks)
    yield from chunks


def _reply(score: Score, model: str) -> ChatReply:
    told = {"logprobs": score.logprobs, "tokens": score.tokens, "joined": score.joined}
    text = json.dumps(told, ensure_ascii=False)
    return ChatReply(text, "score", Usage(completion_tokens=len(score)), model)


def _score_of(reply: ChatReply) -> Score:
    try:
        told = json.loads(reply.text)
        return Score(tuple(map(float, told["logprobs"])), tuple(told["tokens"]), bool(told["joined"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"a stored score cannot be read ({error!r}): `outspoken ledger verify` tells more"
        ) from error
