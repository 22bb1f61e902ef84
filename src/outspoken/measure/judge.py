"""An LLM as a judge of quality: scores by the criteria of a rubric, and which of two responses is better."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from outspoken import models
from outspoken.batch.prices import price_of
from outspoken.chat import ChatReply, ChatRequest, Message, Sampling, Usage
from outspoken.engine import ModelCaller, RateLimiter, RetryPolicy, RunMetrics, cause_of, ordered
from outspoken.engine.budget import Budget
from outspoken.errors import OutspokenError, ReplyError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure import rubrics
from outspoken.measure.judge_replies import read_choice, read_scores
from outspoken.measure.rubrics import (
    AGAIN,
    CHOICE_SCHEMA,
    CHOICES,
    Rubric,
    choice_question,
    judge_instructions,
    score_question,
)
from outspoken.models.base import Model

__all__ = ["Judge", "JudgeScore", "JudgeSummary", "JudgedItem", "Preference", "ResponsePair"]

R = TypeVar("R", bound="JudgeScore | Preference")
V = TypeVar("V")

Progress = Callable[[int, int], None]
"""Is told how many of how many different items have been judged."""

_WINDOW = 8
_PATIENCE = RetryPolicy()
_BLANK = "the response is blank"


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """A response to judge and the prompt that it answers. The `id` is for the caller; a judge never sees it."""

    prompt: str
    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """Two responses to one prompt."""

    prompt: str
    a: str
    b: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class JudgeScore:
    """What a judge said of one response.

    `scores` by criterion and their `value` from 0 to 100 (see `Rubric.value`) are None where there is none: then
    `error` says why and `cause` is its short name, and `unreadable` tells whether the judge answered nonsense to
    the last. `attempts` is the number of requests it took, and `request` the ledger's key of the last. `order` is
    the order in which the criteria were shown, `position` when the response was judged among all, from 0.
    """

    scores: Mapping[str, float] | None
    value: float | None
    attempts: int
    order: tuple[str, ...]
    position: int
    request: str = ""
    error: str = ""
    cause: str = ""
    unreadable: bool = False
    id: str = ""

    @property
    def retried(self) -> bool:
        return self.attempts > 1


@dataclass(frozen=True, slots=True)
class Preference:
    """Which response of a pair is better: `winner` is "a", "b" or "tie", None where the judge gave no answer.

    `first` is the answer while a was shown first, `second` while b was. Where the two differ it is a tie, by
    position, and `consistent` is False. The other fields are those of a `JudgeScore`; `requests` are the keys of
    the last request in either position.
    """

    winner: str | None
    consistent: bool | None
    first: str | None
    second: str | None
    attempts: int
    order: tuple[str, ...]
    position: int
    requests: tuple[str, ...] = ()
    error: str = ""
    cause: str = ""
    unreadable: bool = False
    id: str = ""

    @property
    def retried(self) -> bool:
        return self.attempts > 2


@dataclass(frozen=True, slots=True)
class JudgeSummary(Generic[R]):
    """What came of judging: how many verdicts are `unreadable`, how many were `retried` for being so, `failures`
    (the unreadable among them) by cause, preferences that were `inconsistent`; and of all that the judge was asked
    so far the requests that were paid for, those answered `from_ledger`, the usage and the US dollars (None: the
    price is not known)."""

    verdicts: tuple[R, ...]
    unreadable: int
    retried: int
    inconsistent: int
    failures: Mapping[str, int]
    requests: int
    from_ledger: int
    usage: Usage
    usd: float | None

    def to_dict(self) -> dict[str, Any]:
        """The figures without the verdicts."""
        return {
            "verdicts": len(self.verdicts),
            "unreadable": self.unreadable,
            "retried": self.retried,
            "inconsistent": self.inconsistent,
            "failures": dict(self.failures),
            "requests": self.requests,
            "from_ledger": self.from_ledger,
            "tokens": self.usage.total_tokens,
            "usd": self.usd,
        }


class Judge:
    """Asks `model` to judge responses by `rubric` (one, or the name or path of one).

    A judge sees the prompt and the response, never who wrote it. By `seed` and content, and hence the same every
    time, are drawn: when an item is judged, the order in which it is shown the criteria (as they stand in the
    rubric, or backwards, from a random one on), and the tag that closes the response off from the instructions.
    Equal items are asked once. With a `ledger` nothing that was answered is asked again. A reply that cannot be
    read is answered with what is wrong with it, `retries` times at most.

    `sampling` is the judge's; a model that takes no temperature wants `Sampling()`. Raises `UsageError` for what
    cannot be, before anything is sent.
    """

    def __init__(
        self,
        model: str | Model,
        rubric: str | Rubric,
        *,
        concurrency: int = 16,
        ledger: Ledger | None = None,
        seed: int = 0,
        retries: int = 2,
        sampling: Sampling = Sampling(temperature=0.0),
        patience: RetryPolicy = _PATIENCE,
        budget: Budget = Budget(),
        prices: str | Path | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else models.get_model(model)
        self.rubric = rubric if isinstance(rubric, Rubric) else rubrics.load(rubric)
        self.seed = seed
        self.meter = RunMetrics()
        if retries < 0:
            raise UsageError(f"retries must be at least 0, not {retries}")
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, not {concurrency}")
        self.model.check(ChatRequest((), sampling))
        parallel = self.model.capabilities.parallel
        self._concurrency = concurrency if parallel is None else min(concurrency, parallel)
        self._ledger = ledger
        self._retries = retries
        self._sampling = sampling
        self._patience = patience
        self._budget = budget
        self._price = price_of(self.model.name, prices)
        if budget.usd is not None and self._price is None:
            raise UsageError(f"no price is known for {self.model.name}: name it in a file of prices")
        self._orders = rubrics.orders(self.rubric)
        self._schemas = [rubrics.scores_schema(order) for order in self._orders]

    async def score(self, items: Sequence[JudgedItem], progress: Progress | None = None) -> list[JudgeScore]:
        """The verdicts on the items, in their order.

        Raises `ProviderError`, `UsageError` or `LedgerError` where everything fails for the same reason; what was
        answered until then stands in the ledger. A response that is blank is not asked about and has no score.
        """
        verdicts = await self._each([(item.prompt, item.text) for item in items], self._score, progress)
        return [replace(verdict, id=item.id) for verdict, item in zip(verdicts, items, strict=True)]

    async def compare(self, pairs: Sequence[ResponsePair], progress: Progress | None = None) -> list[Preference]:
        """Which response of each pair is better, in the order of the pairs; each is asked in both positions.

        A pair of equal texts is a tie that is not asked about. Raises as `score` does.
        """
        found = await self._each([(pair.prompt, pair.a, pair.b) for pair in pairs], self._compare, progress)
        return [replace(preference, id=pair.id) for preference, pair in zip(found, pairs, strict=True)]

    def summary(self, verdicts: Iterable[R]) -> JudgeSummary[R]:
        """What came of `verdicts`, and what all that this judge was asked so far has cost."""
        kept, meter = tuple(verdicts), self.meter
        return JudgeSummary(
            kept,
            sum(verdict.unreadable for verdict in kept),
            sum(verdict.retried for verdict in kept),
            sum(isinstance(verdict, Preference) and verdict.consistent is False for verdict in kept),
            dict(Counter(verdict.cause for verdict in kept if verdict.cause).most_common()),
            meter.requests,
            meter.from_ledger,
            meter.usage,
            None if self._price is None else meter.usd,
        )

    async def _each(
        self,
        contents: Sequence[tuple[str, ...]],
        work: Callable[[ModelCaller, _Draw], Awaitable[R]],
        progress: Progress | None,
    ) -> list[R]:
        """What `work` makes of each content; equal ones share it."""
        drawn = sorted((_Draw.of(self.seed, content) for content in set(contents)), key=lambda draw: draw.digest)
        draws = [replace(draw, position=at) for at, draw in enumerate(drawn)]
        caller = await self._caller()
        most = caller.gate.most + 1 + caller.gate.most // 4
        results = ordered(_items(draws), lambda draw: work(caller, draw), tasks=most, window=_WINDOW * most)
        found: dict[tuple[str, ...], R] = {}
        async with aclosing(results):
            async for result in results:
                draw = draws[len(found)]
                found[draw.content] = result
                self.meter.prompts += 1
                if result.cause:
                    self.meter.failures[result.cause] += 1
                if progress is not None:
                    progress(len(found), len(draws))
        if self._ledger is not None:
            await self._ledger.settled()
        # A judge that cannot be read is a finding; one that cannot be asked is an error.
        if caller.broken is not None and not isinstance(caller.broken, ReplyError):
            raise caller.broken
        return [found[content] for content in contents]

    async def _caller(self) -> ModelCaller:
        """A caller of its own for every call: it knows what stood in the ledger when it began."""
        caller = ModelCaller(
            self.model,
            RateLimiter(self._concurrency, steady=self.model.capabilities.parallel is not None),
            self.meter,
            ledger=self._ledger,
            patience=self._patience,
            budget=self._budget,
            dollars=None if self._price is None else self._price.cost,
        )
        caller.identity = await self.model.identity()
        return caller

    async def _score(self, caller: ModelCaller, draw: _Draw) -> JudgeScore:
        way = draw.number % len(self._orders)
        order, schema = self._orders[way], self._schemas[way]
        shown = tuple(criterion.name for criterion in order)
        prompt, text = draw.content
        if not text.strip():
            return JudgeScore(None, None, 0, shown, draw.position, error=_BLANK, cause=_BLANK)
        question = score_question(draw.tag, prompt, text, order)
        messages = (Message("system", judge_instructions(self.rubric, order)), Message("user", question))
        said = await self._ask(caller, messages, schema, lambda reply: read_scores(reply, self.rubric))
        caller.ended(said.error)
        value = None if said.value is None else self.rubric.value(said.value)
        return JudgeScore(said.value, value, said.attempts, shown, draw.position, said.key, **_blame(said.error))

    async def _compare(self, caller: ModelCaller, draw: _Draw) -> Preference:
        order = self._orders[draw.number % len(self._orders)]
        shown = tuple(criterion.name for criterion in order)
        prompt, a, b = draw.content
        if not (a.strip() and b.strip()):
            return Preference(None, None, None, None, 0, shown, draw.position, error=_BLANK, cause=_BLANK)
        if a == b:
            return Preference("tie", True, None, None, 0, shown, draw.position)
        system = Message("system", judge_instructions(self.rubric, order))
        answers: list[str | None] = []
        said: list[_Said[str]] = []
        for texts, meaning in (((a, b), ("a", "b", "tie")), ((b, a), ("b", "a", "tie"))):
            question = Message("user", choice_question(draw.tag, prompt, *texts))
            said.append(await self._ask(caller, (system, question), CHOICE_SCHEMA, read_choice))
            value = said[-1].value
            answers.append(None if value is None else meaning[CHOICES.index(value)])
        error = next((one.error for one in said if one.error is not None), None)
        caller.ended(error)
        first, second = answers
        consistent = None if error is not None else first == second
        winner = None if error is not None else first if consistent else "tie"
        attempts, keys = sum(one.attempts for one in said), tuple(one.key for one in said)
        where = (shown, draw.position, keys)
        return Preference(winner, consistent, first, second, attempts, *where, **_blame(error))

    async def _ask(
        self,
        caller: ModelCaller,
        messages: tuple[Message, ...],
        schema: Mapping[str, Any],
        read: Callable[[ChatReply], V],
    ) -> _Said[V]:
        """Ask until it can be read, telling the judge in the same conversation what was wrong."""
        call = caller.call((0, 0))
        error: OutspokenError | None = None
        for _ in range(self._retries + 1):
            try:
                reply = await call.complete(ChatRequest(messages, self._sampling, schema=schema))
                return _Said(read(reply), len(call.keys), call.keys[-1])
            except ReplyError as unread:
                error = unread
                if unread.text.strip():
                    again = Message("user", AGAIN.format(error=str(unread).partition(";")[0]))
                    messages = (*messages, Message("assistant", unread.text), again)
            except OutspokenError as failed:
                error = failed
                break
        return _Said(None, len(call.keys), call.keys[-1] if call.keys else "", error)


@dataclass(frozen=True, slots=True)
class _Said(Generic[V]):
    value: V | None
    attempts: int
    key: str
    error: OutspokenError | None = None


@dataclass(frozen=True, slots=True)
class _Draw:
    """What is drawn for one content: its place among others by `digest`, a `number`, and a tag it cannot hold."""

    content: tuple[str, ...]
    digest: bytes
    number: int
    tag: str
    position: int = 0

    @classmethod
    def of(cls, seed: int, content: tuple[str, ...]) -> _Draw:
        salt = 0
        while True:
            text = json.dumps([seed, salt, *content])
            digest = hashlib.sha256(text.encode()).digest()
            tag = digest[8:14].hex()
            if not any(tag in part for part in content):
                return cls(content, digest, int.from_bytes(digest[:8]), tag)
            salt += 1


async def _items(draws: Iterable[_Draw]) -> AsyncGenerator[_Draw]:
    for draw in draws:
        yield draw


def _blame(error: OutspokenError | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {"error": str(error), "cause": cause_of(error), "unreadable": isinstance(error, ReplyError)}
