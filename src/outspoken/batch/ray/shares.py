"""Over all workers: the sum of their figures, and the division of the budget among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outspoken.chat_reply import Usage
from outspoken.engine import Budget, RunMetrics
from outspoken.prices import Price

__all__ = ["BudgetShares", "ShareRequest", "WorkerTotals", "as_used_up"]

_PAID = ("requests", "unmetered", "superseded", "attempts_failed", "usage")
_DONE = ("prompts", "responses", "distinct", "from_ledger", "short", "bad_rows", "usage_from_ledger", "failures")
# Shards that used up their shares are answered again if more than this part of the budget is left.
_WORTH_A_ROUND = 0.05


class WorkerTotals:
    """The sum of the metrics of all attempts at all shards.

    A shard may take several attempts: the cost of each of them counts, and the results of the last one.
    """

    def __init__(self) -> None:
        self.under_way: dict[int, int] = {}
        self._metrics: dict[str, tuple[int, RunMetrics]] = {}
        self._newest: dict[int, str] = {}

    def usage(self, attempt: str) -> Usage:
        """The usage that an attempt has paid for so far."""
        return self._metrics[attempt][1].usage if attempt in self._metrics else Usage()

    def update(self, attempt: str, shard: int, metrics: RunMetrics, under_way: int) -> None:
        """Replace the metrics of an attempt at a shard, and the number of its requests under way."""
        if attempt not in self._metrics:
            self._newest[shard] = attempt
        self._metrics[attempt] = shard, metrics
        if self._newest[shard] == attempt:
            self.under_way[shard] = under_way

    def sum(self, price: Price | None) -> RunMetrics:
        total = RunMetrics()
        for attempt, (shard, metrics) in self._metrics.items():
            for name in (*_PAID, *_DONE) if self._newest[shard] == attempt else _PAID:
                setattr(total, name, getattr(total, name) + getattr(metrics, name))
        total.usd = None if price is None else price.cost(total.usage)
        return total


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """The needs of an attempt: the number of unanswered rows, and the expected usage of a request."""

    rows: int
    usage: Usage


class BudgetShares:
    """Divides a budget among attempts at shards, so that all of them together cannot exceed it.

    When an attempt begins, the remaining budget is divided in proportion to the unanswered rows of its shard and
    of those that have not begun; its share is at least the expected cost of one request. After its end the rest of
    its share is available to later attempts.
    """

    def __init__(self, budget: Budget, price: Price | None, usage_of: Callable[[str], Usage]) -> None:
        self._budget = budget
        self._price = price
        self._usage_of = usage_of
        self._waiting: dict[int, int] = {}
        self._active: dict[int, tuple[str, Budget]] = {}
        self._limits = [each for each in ("tokens", "usd") if getattr(budget, each) is not None]

    def begin(self, rows: Mapping[int, int]) -> None:
        """Begin a round over these shards, with their numbers of rows."""
        self._waiting = dict(rows)

    def share(self, attempt: str, shard: int, request: ShareRequest, spent: Usage) -> Budget | str:
        """The share of an attempt that begins, or the reason to stop if too little is left for one request.

        `spent` is the usage of all attempts.
        """
        holder, share = self._active.get(shard, ("", Budget()))
        if holder == attempt:
            return share
        self._active.pop(shard, None)  # the new attempt holds the lock of the shard, so an earlier one has ended
        self._waiting.pop(shard, None)
        part = request.rows / max(request.rows + sum(self._waiting.values()), 1)
        amounts: dict[str, float] = {}
        for limit in self._limits:
            left, needed = self._left(limit, spent), self._cost(limit, request.usage)
            if request.rows and left < needed:
                return self._budget.exceeded(**{"tokens": 0, "usd": 0, limit: math.inf})
            # An attempt without rows needs nothing, but a budget must be above 0.
            amounts[limit] = max(part * left, needed) if request.rows else 1e-9
        share = Budget(math.ceil(amounts["tokens"]) if "tokens" in amounts else None, amounts.get("usd"))
        self._active[shard] = attempt, share
        return share

    def end(self, attempt: str, shard: int) -> None:
        """The attempt at this shard has ended."""
        if self._active.get(shard, ("",))[0] == attempt:
            del self._active[shard]

    def worth_a_round(self, spent: Usage) -> bool:
        """Whether enough is left to answer shards again that used up their shares."""
        return all(self._left(each, spent) > _WORTH_A_ROUND * getattr(self._budget, each) for each in self._limits)

    def _left(self, limit: str, spent: Usage) -> float:
        """The part of a limit that has been neither spent nor promised to an attempt."""
        promised = sum(
            max(getattr(share, limit) - self._cost(limit, self._usage_of(attempt)), 0)
            for attempt, share in self._active.values()
        )
        return float(getattr(self._budget, limit) - self._cost(limit, spent) - promised)

    def _cost(self, limit: str, usage: Usage) -> float:
        if limit == "tokens":
            return usage.total_tokens
        return 0.0 if self._price is None else self._price.cost(usage)


def as_used_up(stopped: str, share: Budget, budget: Budget) -> str:
    """The reason to stop for the whole `budget`, if `stopped` is the reason for a `share` of it; otherwise ""."""
    for exceeded in ((math.inf, 0), (0, math.inf)):
        if (reason := share.exceeded(*exceeded)) and stopped.startswith(reason):
            return budget.exceeded(*exceeded)
    return ""
