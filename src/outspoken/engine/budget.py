"""The budget of a run: what requests cost, what the next one is expected to cost, and when to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.engine.metrics import RunMetrics
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.errors import StoppedError, UsageError

__all__ = ["CHARACTERS_PER_TOKEN", "Budget", "BudgetTracker", "expected_usage"]

CHARACTERS_PER_TOKEN = 3
_TOKENS_OF_A_REPLY = 300


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens and US dollars that a run may spend; None sets no limit."""

    tokens: int | None = None
    usd: float | None = None

    def exceeded(self, tokens: float, usd: float) -> str:
        """The limit that a total of these tokens and dollars would exceed, as a sentence; "" if none."""
        if self.tokens is not None and tokens > self.tokens:
            return f"the budget of {self.tokens:,} tokens does not suffice for another request"
        if self.usd is not None and usd > self.usd:
            return f"the budget of {self.usd:g} US dollars does not suffice for another request"
        return ""


def expected_usage(request: ChatRequest, replies: int, usage: Usage) -> Usage:
    """The expected usage of a request: the mean of the `replies` so far, a guess if there are none."""
    if replies:
        return Usage(usage.prompt_tokens // replies, usage.completion_tokens // replies)
    characters = sum(len(message.content) for message in request.messages)
    return Usage(characters // CHARACTERS_PER_TOKEN, request.sampling.max_tokens or _TOKENS_OF_A_REPLY)


class BudgetTracker:
    """Adds up what replies cost, and stops the run before a request that would exceed the budget.

    A request that might exceed the budget waits for those under way, whose cost is unknown. `dollars` computes the
    price of a usage (None: unknown). `bounded`: there is a limit.
    """

    def __init__(
        self, budget: Budget, metrics: RunMetrics, limiter: RateLimiter, dollars: Callable[[Usage], float] | None
    ) -> None:
        for value in (budget.tokens, budget.usd):
            if value is not None and not value > 0:
                raise UsageError(f"a budget must be above 0, not {value:g}")
        if budget.usd is not None and dollars is None:
            raise UsageError("a budget in dollars needs the model's price: add it to a file of prices")
        if dollars is None:
            metrics.usd = None
        self.bounded = budget.tokens is not None or budget.usd is not None
        self._budget = budget
        self._metrics = metrics
        self._limiter = limiter
        self._dollars = dollars
        self._sent = 0
        self._changed = asyncio.Event()

    def expected(self, request: ChatRequest) -> Usage:
        return expected_usage(request, self._metrics.requests, self._metrics.usage)

    async def begin(self, request: ChatRequest) -> None:
        """Wait until the budget suffices for the request. Raises `StoppedError` if it never will."""
        while reason := self._exceeded(expected := self.expected(request)):
            if not self._sent:
                self._limiter.stop(f"{reason}: {self._figures(reason, expected)}")
            if self._limiter.stopped:
                raise StoppedError(self._limiter.stopped)
            self._changed.clear()
            await self._changed.wait()
        self._sent += 1

    def end(self) -> None:
        """Note that a request which began has ended."""
        self._sent -= 1
        self._changed.set()

    def add(self, request: ChatRequest, reply: ChatReply) -> Usage:
        """Add the cost of a reply to the metrics; returns its usage, or an estimate if the server reports none."""
        usage, metrics = reply.usage, self._metrics
        if not (usage.prompt_tokens or usage.completion_tokens):
            metrics.unmetered += 1
            usage = self.expected(request)
        metrics.requests += 1
        metrics.usage += usage
        if self._dollars is not None:
            metrics.usd = (metrics.usd or 0.0) + self._dollars(usage)
        return usage

    def _figures(self, reason: str, expected: Usage) -> str:
        """What was used of the budget that the `reason` names, and what a request takes."""
        if self._dollars is not None and "dollars" in reason:
            return (
                f"{self._metrics.usd or 0:.3g} are spent, and a request costs about {self._dollars(expected):.3g}"
            )
        used = self._metrics.usage.total_tokens
        return f"{used:,} are used, and a request takes about {expected.total_tokens:,}"

    def _exceeded(self, expected: Usage) -> str:
        """The limit that one more such request would exceed, counting those under way."""
        metrics, count = self._metrics, self._sent + 1
        tokens = metrics.usage.total_tokens + expected.total_tokens * count
        usd = 0.0 if self._dollars is None else (metrics.usd or 0.0) + self._dollars(expected) * count
        return self._budget.exceeded(tokens, usd)
