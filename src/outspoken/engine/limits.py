"""What bounds a run: how many responses it wants, how long it tries, what it may spend."""

from __future__ import annotations

from dataclasses import dataclass

from outspoken.errors import UsageError

__all__ = ["Budget", "ResponseGoal", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class ResponseGoal:
    """How many responses a prompt is to have: `n` in all, or `until_distinct` different ones.

    Without either it is what one call gives. `max_calls` bounds the calls for one prompt. Raises `UsageError` if
    both are given, or a number is below 1.
    """

    n: int | None = None
    until_distinct: int | None = None
    max_calls: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and self.until_distinct is not None:
            raise UsageError("n and until_distinct exclude each other: give one of them")
        for name, value in (("n", self.n), ("until_distinct", self.until_distinct), ("max_calls", self.max_calls)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number from 1, not {value!r}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try, in seconds: `timeout` for one attempt, `total` for all attempts and waits of a request.

    After `attempts` that failed for other reasons than an overloaded server, the request has failed.
    """

    timeout: float = 600.0
    total: float = 1800.0
    attempts: int = 6

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.total > 0 and self.attempts >= 1):
            raise UsageError("timeouts must be above 0 seconds and attempts at least 1")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend: tokens, US dollars, seconds. None sets no limit."""

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for value in (self.tokens, self.usd, self.seconds):
            if value is not None and not value > 0:
                raise UsageError(f"a budget must be above 0, not {value:g}")

    def exceeded(self, tokens: float, usd: float) -> str:
        """Which limit a total of so many tokens and dollars would exceed, as a sentence; "" if none."""
        if self.tokens is not None and tokens > self.tokens:
            return f"the budget of {self.tokens:,} tokens is used up"
        if self.usd is not None and usd > self.usd:
            return f"the budget of {self.usd:g} US dollars is used up"
        return ""
