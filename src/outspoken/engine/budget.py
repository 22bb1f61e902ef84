"""What a run may spend, and what its next request is expected to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from outspoken.chat import ChatReply, ChatRequest, Usage
from outspoken.engine.metrics import RunMetrics
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.errors import StoppedError, UsageError

__all__ = ["CHARACTERS_A_TOKEN", "Budget", "BudgetTracker", "expected_usage"]

CHARACTERS_A_TOKEN = 3
_TOKENS_OF_A_REPLY = 300


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend: tokens, US dollars, seconds."""

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for value in (self.tokens, self.usd, self.seconds):
            if value is not None and not value > 0:
                raise UsageError(f"a budget must be above 0, not {value:g}")

    def lack(self, tokens: float, usd: float) -> str:
        """Why no more can be spent where it would come to so much in all, "" where the budget has room for it."""
        if self.tokens is not None and tokens > self.tokens:
            return f"the budget of {self.tokens:,} tokens is used up"
        if self.usd is not None and usd > self.usd:
            return f"the budget of {self.usd:g} US dollars is used up"
        return ""


def expected_usage(request: ChatRequest, replies: int, usage: Usage) -> Usage:
    """What a request will take: the mean of the `replies` so far and their `usage`, at first a guess."""
    if replies:
        return Usage(usage.prompt_tokens // replies, usage.completion_tokens // replies)
    characters = sum(len(message.content) for message in request.messages)
    return Usage(characters // CHARACTERS_A_TOKEN, request.sampling.max_tokens or _TOKENS_OF_A_REPLY)


class BudgetTracker:
    """Books what replies cost, and shuts the gate before a request that the budget has no room for.

    While others are under way whose cost is not known yet, a request that might pass the budget waits for them.
    `dollars` is what a usage costs (None: nobody knows).
    """

    def __init__(
        self, budget: Budget, meter: RunMetrics, gate: RateLimiter, dollars: Callable[[Usage], float] | None
    ) -> None:
        if budget.usd is not None and dollars is None:
            raise UsageError("a budget in dollars needs the model's price: name it in a file of prices")
        if dollars is None:
            meter.usd = None
        self._budget = budget
        self._meter = meter
        self._gate = gate
        self._dollars = dollars
        self._sent = 0
        self._change = asyncio.Event()
        self._bounded = budget.tokens is not None or budget.usd is not None

    def expected(self, request: ChatRequest) -> Usage:
        """What a request will take, going by those of this run."""
        return expected_usage(request, self._meter.requests, self._meter.usage)

    async def begin(self, request: ChatRequest) -> None:
        """Wait until the budget has room for the request. Raises `StoppedError` where it will have none."""
        if not self._bounded:
            return
        while reason := self._lack(self.expected(request)):
            if not self._sent:
                self._gate.shut(reason)
            if self._gate.stopped:
                raise StoppedError(self._gate.stopped)
            self._change.clear()
            await self._change.wait()
        self._sent += 1

    def end(self) -> None:
        """A request that had begun has ended."""
        if self._bounded:
            self._sent -= 1
            self._change.set()

    def book(self, request: ChatRequest, reply: ChatReply) -> Usage:
        """Add what a reply cost to the meter; returns its usage, or a guess where the server tells none."""
        usage, meter = reply.usage, self._meter
        if not usage.total_tokens:
            meter.unmetered += 1
            usage = self.expected(request)
        meter.requests += 1
        meter.usage += usage
        if self._dollars is not None:
            meter.usd = (meter.usd or 0.0) + self._dollars(usage)
        return usage

    def _lack(self, expected: Usage) -> str:
        """What there is not enough of for one more request like this, beside those under way."""
        meter, count = self._meter, self._sent + 1
        tokens = meter.usage.total_tokens + expected.total_tokens * count
        usd = 0.0 if self._dollars is None else (meter.usd or 0.0) + self._dollars(expected) * count
        return self._budget.lack(tokens, usd)
