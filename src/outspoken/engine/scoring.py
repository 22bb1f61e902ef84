"""The log-likelihood of many given texts, with a ledger, so that no stored score is computed again."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence

from outspoken.chat_reply import ChatReply, Usage
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.engine.retry import OVERLOADED, FailedAttempts
from outspoken.errors import LedgerError, ProviderError, UsageError
from outspoken.ledger import Ledger, score_entry
from outspoken.models.base import Model, Score
from outspoken.settings import RequestLimits

__all__ = ["score_all"]

Pair = tuple[str, str]
Progress = Callable[[int, int], None]

_TEXTS_A_CALL = 16
_CHARACTERS_A_CALL = 8_000
_CONCURRENCY = 32


async def score_all(
    model: Model,
    pairs: Sequence[Pair],
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    concurrency: int = _CONCURRENCY,
) -> list[Score | UsageError]:
    """`model.scores` of (prompt, continuation) pairs, in their order; equal pairs are scored once.

    Scores in the ledger are not computed again, and new ones are stored at once, so an interrupted call can be
    repeated. `progress` is called with the number of texts done and of all texts. Transient errors are retried.
    For a pair that cannot be scored the result is a `UsageError` with the reason. Raises `UsageError` for a model
    that cannot score, `ProviderError` and `LedgerError`.
    """
    if not model.capabilities.score:
        raise UsageError(
            f"{model.name} cannot score a given text: take local/FILE.gguf, transformers/NAME or a vLLM server"
        )
    wanted = list(dict.fromkeys(pairs))
    identity = await model.score_identity()
    scores: dict[Pair, Score | UsageError] = {}
    entries = {}
    for pair in wanted:
        try:
            entries[pair] = score_entry(identity, *pair)
        except UnicodeEncodeError:
            scores[pair] = UsageError("the text holds half of a surrogate pair: repair how it was read")
            continue
        if ledger is not None and (known := ledger.get(entries[pair].key)) is not None:
            scores[pair] = _score_of(known)
    limiter = RateLimiter(1 if model.capabilities.parallel else concurrency)
    show = progress or (lambda done, total: None)
    show(len(scores), len(wanted))

    async def work(chunk: list[Pair]) -> None:
        begun = time.monotonic()
        results = await _score_with_retries(model, chunk, limiter)
        seconds = (time.monotonic() - begun) / len(chunk)

        async def keep(pair: Pair, score: Score | UsageError) -> Score | UsageError:
            if ledger is None or isinstance(score, UsageError):
                return score
            reply = _reply(score, model.name)
            kept = await ledger.store(entries[pair], reply, seconds)
            return score if kept is reply else _score_of(kept)

        scores.update(zip(chunk, await asyncio.gather(*map(keep, chunk, results)), strict=True))
        show(len(scores), len(wanted))

    missing = [pair for pair in wanted if pair not in scores]
    try:
        async with asyncio.TaskGroup() as tasks:
            # A server is asked one text at a time, so that a failure affects no other text.
            single = model.capabilities.parallel is None
            for chunk in [[pair] for pair in missing] if single else _chunks(missing):
                tasks.create_task(work(chunk))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [scores[pair] for pair in pairs]


async def _score_with_retries(
    model: Model, chunk: Sequence[Pair], limiter: RateLimiter
) -> list[Score | UsageError]:
    failed = FailedAttempts(RequestLimits(), time.monotonic())
    while True:
        await limiter.enter()
        begun = time.monotonic()
        try:
            scores = await model.scores(chunk)
            limiter.answered()
            return scores
        except ProviderError as error:
            wait = failed.wait_after(error)
            if wait is None:
                raise
            if error.status in OVERLOADED:
                limiter.overloaded(begun, error.retry_after)
        finally:
            limiter.leave()
        await limiter.pause(wait)


def _chunks(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs with prompts of similar length, so that a batch has little padding, in random order."""
    prompts: dict[str, list[Pair]] = {}
    for pair in pairs:
        prompts.setdefault(pair[0], []).append(pair)
    chunks: list[list[Pair]] = []
    size = 0
    for prompt, group in sorted(prompts.items(), key=lambda entry: len(entry[0])):
        length = len(prompt) + sum(len(text) for _, text in group)
        if not chunks or size + length > _CHARACTERS_A_CALL or len(chunks[-1]) + len(group) > _TEXTS_A_CALL:
            chunks.append([])
            size = 0
        chunks[-1] += group
        size += length
    random.Random(0).shuffle(chunks)
    return chunks


def _reply(score: Score, model: str) -> ChatReply:
    content = {"logprobs": score.logprobs, "tokens": score.tokens, "joined": score.joined}
    text = json.dumps(content, ensure_ascii=False)
    return ChatReply(text, "score", Usage(completion_tokens=len(score)), model)


def _score_of(reply: ChatReply) -> Score:
    try:
        content = json.loads(reply.text)
        return Score(tuple(map(float, content["logprobs"])), tuple(content["tokens"]), bool(content["joined"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"a stored score cannot be read ({error!r}): `outspoken ledger verify` shows more"
        ) from error
