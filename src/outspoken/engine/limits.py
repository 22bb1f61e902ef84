"""The limits of a run: the responses it needs, the time for a request, and the budget."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget", "ResponseGoal", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class ResponseGoal:
    """The responses that a prompt needs: `n` in all, or `until_distinct` different ones, or those of one call.

    `max_calls` limits the calls for one prompt.
    """

    n: int | None = None
    until_distinct: int | None = None
    max_calls: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of a request, in seconds: `timeout` for one attempt, `total` for all attempts and waits.

    A request has failed after `attempts` that failed for other reasons than an overloaded server.
    """

    timeout: float = 600.0
    total: float = 1800.0
    attempts: int = 6


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens and US dollars that a run may spend; None sets no limit."""

    tokens: int | None = None
    usd: float | None = None

    def exceeded(self, tokens: float, usd: float) -> str:
        """The limit that a total of these tokens and dollars would exceed, as a sentence; "" if none."""
        if self.tokens is not None and tokens > self.tokens:
            return f"the budget of {self.tokens:,} tokens is used up"
        if self.usd is not None and usd > self.usd:
            return f"the budget of {self.usd:g} US dollars is used up"
        return ""
