"""A language model as a judge of quality, by the criteria of a rubric."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from outspoken import models
from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply
from outspoken.engine import Budget, ModelCaller, RateLimiter, RunMetrics, cause_of, ordered
from outspoken.errors import OutspokenError, ReplyError, UsageError
from outspoken.io.text import plural
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
from outspoken.measure.values import Group
from outspoken.measure.verdicts import JudgedItem, JudgeScore, JudgeSummary, Preference, ResponsePair, Verdict
from outspoken.models.base import Model
from outspoken.prices import price_of
from outspoken.settings import RequestLimits

__all__ = ["Judge", "Quality", "judge_quality"]

R = TypeVar("R", bound=Verdict)
V = TypeVar("V")

Progress = Callable[[int, int], None]
"""Called with the number of distinct items that have been judged, and the number of all."""

Quality = dict[tuple[int, str], list[float]]
"""The values of responses, 0 to 100, by the index of their group and the id of their prompt."""

_ITEMS_AHEAD = 8
_LIMITS, _NO_BUDGET = RequestLimits(), Budget()
_BLANK = "the response is blank"


class Judge:
    """A `model` that judges responses by a `rubric` (a `Rubric`, or the name or path of one).

    The judge sees the prompt and the response, but no model, method or id. The `seed` and the content of an item
    alone determine when it is judged, the order of the criteria (see `rubrics.orders`), and the tag that separates
    the response from the instructions. Equal items are judged once. With a `ledger`, an answered request is not
    sent again. After a reply that cannot be read, the judge is asked again, at most `retries` times.

    `sampling` holds the judge's sampling settings; a model that accepts no temperature needs `Sampling()`. Raises
    `UsageError` for invalid arguments, before anything is sent.
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
        limits: RequestLimits = _LIMITS,
        budget: Budget = _NO_BUDGET,
        prices: str | Path | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else models.get_model(model)
        self.rubric = rubric if isinstance(rubric, Rubric) else rubrics.load(rubric)
        self.seed = seed
        self.metrics = RunMetrics()
        for name, value, least in (("retries", retries, 0), ("concurrency", concurrency, 1)):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        self.model.check(ChatRequest((), sampling))
        parallel = self.model.capabilities.parallel
        self._concurrency = concurrency if parallel is None else min(concurrency, parallel)
        self._ledger = ledger
        self._retries = retries
        self._sampling = sampling
        self._limits = limits
        self._budget = budget
        self._price = price_of(self.model.name, prices)
        if budget.usd is not None and self._price is None:
            raise UsageError(f"no price is known for {self.model.name}: name it in a file of prices")
        self._orders = rubrics.orders(self.rubric)
        self._schemas = [rubrics.scores_schema(order) for order in self._orders]

    async def score(self, items: Sequence[JudgedItem], progress: Progress | None = None) -> list[JudgeScore]:
        """The verdicts on the items, in their order. Blank responses are not judged, and have no score.

        Raises `ProviderError`, `UsageError` or `LedgerError` if everything fails for the same reason; earlier
        replies are in the ledger.
        """
        verdicts = await self._judge_all([(item.prompt, item.text) for item in items], self._score, progress)
        return [replace(verdict, id=item.id) for verdict, item in zip(verdicts, items, strict=True)]

    async def compare(self, pairs: Sequence[ResponsePair], progress: Progress | None = None) -> list[Preference]:
        """The better response of each pair, in the order of the pairs. Each pair is judged in both positions.

        Two equal texts are a tie without being judged. Raises the same errors as `score`.
        """
        contents = [(pair.prompt, pair.a, pair.b) for pair in pairs]
        preferences = await self._judge_all(contents, self._compare, progress)
        return [replace(preference, id=pair.id) for preference, pair in zip(preferences, pairs, strict=True)]

    def summary(self, verdicts: Iterable[R]) -> JudgeSummary[R]:
        """A summary of these `verdicts`, with the cost of everything that this judge was asked so far."""
        verdicts, metrics = tuple(verdicts), self.metrics
        return JudgeSummary(
            verdicts,
            sum(verdict.unreadable for verdict in verdicts),
            sum(verdict.retried for verdict in verdicts),
            sum(isinstance(verdict, Preference) and verdict.consistent is False for verdict in verdicts),
            dict(Counter(verdict.cause for verdict in verdicts if verdict.cause).most_common()),
            metrics.requests,
            metrics.from_ledger,
            metrics.usage,
            None if self._price is None else metrics.usd,
        )

    async def _judge_all(
        self,
        contents: Sequence[tuple[str, ...]],
        work: Callable[[ModelCaller, _Draw], Awaitable[R]],
        progress: Progress | None,
    ) -> list[R]:
        """The verdict of `work` on each content; equal ones share it."""
        orders = len(self._orders)
        drawn = [_Draw.of(self.seed, content, orders) for content in set(contents)]
        drawn.sort(key=lambda draw: draw.digest)
        draws = [replace(draw, position=position) for position, draw in enumerate(drawn)]
        caller = await self._caller()
        tasks = caller.limiter.most + 1 + caller.limiter.most // 4
        results = ordered(iter(draws), lambda draw: work(caller, draw), tasks=tasks, window=_ITEMS_AHEAD * tasks)
        verdicts: dict[tuple[str, ...], R] = {}
        async with aclosing(results):
            async for verdict in results:
                verdicts[draws[len(verdicts)].content] = verdict
                self.metrics.prompts += 1
                if verdict.cause:
                    self.metrics.failures[verdict.cause] += 1
                if progress is not None:
                    progress(len(verdicts), len(draws))
        # Unreadable verdicts are results; an unreachable judge is an error.
        if caller.broken is not None and not isinstance(caller.broken, ReplyError):
            raise caller.broken
        return [verdicts[content] for content in contents]

    async def _caller(self) -> ModelCaller:
        """A caller for one round of verdicts; it uses only replies that are in the ledger before the round."""
        caller = ModelCaller(
            self.model,
            RateLimiter(self._concurrency, steady=self.model.capabilities.parallel is not None),
            self.metrics,
            ledger=self._ledger,
            limits=self._limits,
            budget=self._budget,
            dollars=None if self._price is None else self._price.cost,
        )
        caller.identity = await self.model.identity()
        return caller

    def _verdict(
        self, kind: type[R], draw: _Draw, error: OutspokenError | None = None, *, attempts: int = 0, **values: Any
    ) -> R:
        """The verdict on the content of a draw. Without one, `error` is the reason."""
        order = tuple(criterion.name for criterion in self._orders[draw.order])
        if error is not None:
            values |= {"error": str(error), "cause": cause_of(error), "unreadable": isinstance(error, ReplyError)}
        return kind(attempts=attempts, order=order, position=draw.position, **values)

    async def _score(self, caller: ModelCaller, draw: _Draw) -> JudgeScore:
        order, schema = self._orders[draw.order], self._schemas[draw.order]
        prompt, text = draw.content
        if not text.strip():
            return self._verdict(JudgeScore, draw, UsageError(_BLANK))
        question = score_question(draw.tag, prompt, text, order)
        messages = (Message("system", judge_instructions(self.rubric, order)), Message("user", question))
        outcome = await self._ask(caller, messages, schema, lambda reply: read_scores(reply, self.rubric))
        caller.prompt_ended(outcome.error)
        return self._verdict(
            JudgeScore,
            draw,
            outcome.error,
            scores=outcome.value,
            value=None if outcome.value is None else self.rubric.value(outcome.value),
            attempts=outcome.attempts,
            request=outcome.key,
        )

    async def _compare(self, caller: ModelCaller, draw: _Draw) -> Preference:
        prompt, a, b = draw.content
        if not (a.strip() and b.strip()):
            return self._verdict(Preference, draw, UsageError(_BLANK))
        if a == b:
            return self._verdict(Preference, draw, winner="tie", consistent=True)
        system = Message("system", judge_instructions(self.rubric, self._orders[draw.order]))
        answers: list[str | None] = []
        outcomes: list[_Outcome[str]] = []
        for texts, meaning in (((a, b), ("a", "b", "tie")), ((b, a), ("b", "a", "tie"))):
            question = Message("user", choice_question(draw.tag, prompt, *texts))
            outcomes.append(await self._ask(caller, (system, question), CHOICE_SCHEMA, read_choice))
            value = outcomes[-1].value
            answers.append(None if value is None else meaning[CHOICES.index(value)])
        error = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
        caller.prompt_ended(error)
        first, second = answers
        consistent = None if error is not None else first == second
        return self._verdict(
            Preference,
            draw,
            error,
            winner=None if error is not None else first if consistent else "tie",
            consistent=consistent,
            first=first,
            second=second,
            attempts=sum(outcome.attempts for outcome in outcomes),
            requests=tuple(outcome.key for outcome in outcomes),
        )

    async def _ask(
        self,
        caller: ModelCaller,
        messages: tuple[Message, ...],
        schema: Mapping[str, object],
        read: Callable[[ChatReply], V],
    ) -> _Outcome[V]:
        """Ask until `read` can read the reply; a question in the same conversation names the problem."""
        call = caller.call((0, 0))
        error: OutspokenError | None = None
        for _ in range(self._retries + 1):
            try:
                request = ChatRequest(messages, self._sampling, schema=schema)
                call.check(request)
                reply = await call.complete(request)
                return _Outcome(read(reply), call.requests, call.key(call.requests - 1))
            except ReplyError as unreadable:
                error = unreadable
                if unreadable.text.strip():
                    again = Message("user", AGAIN.format(error=str(unreadable).partition(";")[0]))
                    messages = (*messages, Message("assistant", unreadable.text), again)
            except OutspokenError as failure:
                error = failure
                break
        return _Outcome(None, call.requests, call.key(call.requests - 1) if call.requests else "", error)


async def judge_quality(
    groups: Sequence[Group], judge: Judge, progress: Progress | None = None
) -> tuple[Quality, tuple[str, ...]]:
    """The judge's values for the responses of the groups, and sentences about problems with its verdicts.

    Responses without a score are left out. Raises the same errors as `Judge.score`.
    """
    responses = [
        (index, prompt, response)
        for index, group in enumerate(groups)
        for prompt in group.prompts
        for response in prompt.responses
    ]
    items = [JudgedItem(prompt.prompt, response.text) for _, prompt, response in responses]
    verdicts = await judge.score(items, progress)
    quality: Quality = {}
    for (index, prompt, _), verdict in zip(responses, verdicts, strict=True):
        if verdict.value is not None:
            quality.setdefault((index, prompt.prompt_id), []).append(verdict.value)
    summary = judge.summary(verdicts)
    notes = []
    if missing := sum(verdict.value is None for verdict in verdicts):
        notes.append(
            f"{judge.model.name} gave no score to {missing:,} of {plural(len(verdicts), 'response')} "
            f"({summary.unreadable:,} of its replies could not be read); they do not count in the quality"
        )
    if summary.retried:
        notes.append(f"{judge.model.name} had to be asked again for {plural(summary.retried, 'verdict')}")
    return quality, tuple(notes)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[V]):
    """The value that was read from a reply, or the last error. `key` is the ledger key of the last request."""

    value: V | None
    attempts: int
    key: str
    error: OutspokenError | None = None


@dataclass(frozen=True, slots=True)
class _Draw:
    """The choices for a content: its rank by `digest`, the index of its `order` of the criteria, and a `tag` that
    it does not contain.
    """

    content: tuple[str, ...]
    digest: bytes
    order: int
    tag: str
    position: int = 0

    @classmethod
    def of(cls, seed: int, content: tuple[str, ...], orders: int) -> _Draw:
        salt = 0
        while True:
            text = json.dumps([seed, salt, *content])
            digest = hashlib.sha256(text.encode()).digest()
            tag = digest[8:14].hex()
            if not any(tag in part for part in content):
                return cls(content, digest, int.from_bytes(digest[:8]) % orders, tag)
            salt += 1
