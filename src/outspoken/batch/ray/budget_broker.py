"""What passes between the driver of a run over Ray and its workers: figures, results, and shares of the budget."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from outspoken._imports import need
from outspoken.batch.prices import Price
from outspoken.chat_reply import Usage
from outspoken.engine import Budget, RunMetrics
from outspoken.errors import LedgerError, OutputError, OutspokenError, ProviderError, ReplyError, UsageError

__all__ = [
    "BudgetBroker",
    "Figures",
    "News",
    "ShardResult",
    "Spent",
    "WorkerFailure",
    "WorkerTotals",
    "added",
    "asked",
    "flat",
    "spent_on",
    "start_board",
]

_logger = logging.getLogger(__name__)

_SECONDS_TO_ANSWER = 20.0
# As which an error of a worker is raised again.
_KINDS = (UsageError, ReplyError, ProviderError, LedgerError, OutputError, OutspokenError)

_PAID = ("requests", "unmetered", "attempts_failed")
_DONE = ("prompts", "responses", "distinct", "from_ledger", "short", "bad_rows")
_USAGES = ("usage", "usage_from_ledger")
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_FAILURES = "failures."

Figures = dict[str, int]
"""A `RunMetrics` laid flat, so that those of many workers add up."""

News = dict[str, tuple[int, Figures, int]]
"""By attempt: its shard, its figures, and how many requests are under way."""

Spent = tuple[float, float]
"""Tokens and US dollars."""


def spent_on(usage: Usage, price: Price | None) -> Spent:
    """What a usage takes of the budget; where the price is not known, no dollars."""
    return usage.total_tokens, 0.0 if price is None else price.cost(usage)


def added(one: Spent, other: Spent, times: int = 1) -> Spent:
    return one[0] + times * other[0], one[1] + times * other[1]


def flat(meter: RunMetrics) -> Figures:
    return {
        **{name: getattr(meter, name) for name in (*_PAID, *_DONE)},
        **{f"{usage}.{name}": getattr(getattr(meter, usage), name) for usage in _USAGES for name in _TOKENS},
        **{f"{_FAILURES}{cause}": count for cause, count in meter.failures.items()},
    }


def _is_paid(name: str) -> bool:
    return name in _PAID or name.startswith("usage.")


class WorkerTotals:
    """The sum of what all workers tell.

    A shard may take several attempts: what was paid counts for each of them, what was done for the last.
    """

    def __init__(self) -> None:
        self._total: Counter[str] = Counter()
        self._last: dict[str, Figures] = {}
        self._newest: dict[int, str] = {}
        self._under_way: dict[int, int] = {}

    @property
    def under_way(self) -> int:
        return sum(self._under_way.values())

    def take(self, attempt: str, shard: int, figures: Figures, under_way: int) -> None:
        """The figures of an attempt so far, in the place of those that it told before."""
        if attempt not in self._last:
            earlier = self._last.get(self._newest.get(shard, ""), {})
            self._total.subtract({name: count for name, count in earlier.items() if not _is_paid(name)})
            self._newest[shard] = attempt
        is_newest = self._newest[shard] == attempt
        before = self._last.get(attempt, {})
        for name in figures.keys() | before.keys():
            if is_newest or _is_paid(name):
                self._total[name] += figures.get(name, 0) - before.get(name, 0)
        self._last[attempt] = figures
        if is_newest:
            self._under_way[shard] = under_way

    def show(self, meter: RunMetrics, price: Price | None) -> None:
        """Set the meter to the sum."""
        total = self._total
        for name in (*_PAID, *_DONE):
            setattr(meter, name, total[name])
        for usage in _USAGES:
            setattr(meter, usage, Usage(*(total[f"{usage}.{name}"] for name in _TOKENS)))
        meter.usd = None if price is None else price.cost(meter.usage)
        causes = {name.removeprefix(_FAILURES): n for name, n in total.items() if name.startswith(_FAILURES) and n}
        meter.failures = Counter(causes)


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """An error of ours on its way to the driver. `broken`: it is only that everything fails for one reason."""

    kind: str
    message: str
    broken: bool

    @classmethod
    def of(cls, error: OutspokenError, message: str, *, broken: bool) -> WorkerFailure:
        kind = next(kind for kind in _KINDS if isinstance(error, kind))
        return cls(kind.__name__, message, broken)

    def as_error(self) -> OutspokenError:
        return next(kind for kind in _KINDS if kind.__name__ == self.kind)(self.message)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What came of an attempt at a shard.

    `written` are the parts that stand on disk, `counts` the sum of their figures; `complete` says that nothing in
    them is left to ask, `stopped` why the attempt ended early ("" where it did not).
    """

    shard: int
    attempt: str
    figures: Figures
    written: list[int]
    complete: bool
    counts: dict[str, int]
    stopped: str
    failure: WorkerFailure | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ShardResult:
        said = json.loads(text)
        failure = said.pop("failure")
        return cls(**said, failure=failure and WorkerFailure(**failure))


@dataclass(slots=True)
class _Lease:
    """What an attempt at a shard may spend, and what it has spent."""

    shard: int
    granted: Spent = (0.0, 0.0)
    spent: Spent = (0.0, 0.0)

    @property
    def bound(self) -> Spent:
        return max(self.granted[0], self.spent[0]), max(self.granted[1], self.spent[1])


class BudgetBroker:
    """The actor through which workers tell their figures, hear of a stop, and share the budget.

    Nothing depends on its memory: the driver tells it everything anew with each `poll`. Until the first one
    nothing is granted.
    """

    def __init__(self) -> None:
        self._stopped = ""
        self._cancelled = False
        self._budget: Budget | None = None
        self._workers = 1
        self._news: News = {}
        self._leases: dict[str, _Lease] = {}
        self._ended: dict[str, _Lease] = {}
        self._closed: Spent = (0.0, 0.0)

    def poll(
        self, stopped: str, cancelled: bool, budget: tuple[int | None, float | None], spent: Spent, workers: int
    ) -> tuple[str, News]:
        """From the driver: how things stand. Returns why the run should stop ("": it should not), and the news."""
        if self._budget is None:
            # After a restart those at work count twice until they end: rather too little than too much is spent.
            self._closed = spent
        self._budget, self._workers = Budget(*budget), workers
        self._stopped, self._cancelled = self._stopped or stopped, cancelled
        news, self._news = self._news, {}
        return self._stopped, news

    def report(
        self, attempt: str, shard: int, figures: Figures, spent: Spent, under_way: int, final: bool
    ) -> tuple[str, bool]:
        """From a worker: its figures. Returns why to stop ("": go on), and whether to do so at once.

        A new attempt at a shard ends the lease of the one before; should that one live on, it comes back with
        its next report.
        """
        self._news[attempt] = (shard, figures, under_way)
        if attempt in self._ended:
            lease = self._leases[attempt] = self._ended.pop(attempt)
            self._closed = added(self._closed, lease.spent, -1)
        self._leases.setdefault(attempt, _Lease(shard)).spent = spent
        for name, lease in list(self._leases.items()):
            if final if name == attempt else lease.shard == shard:
                self._ended[name] = self._leases.pop(name)
                self._closed = added(self._closed, lease.spent)
        return self._stopped, self._cancelled

    def lease(self, attempt: str, wanted: Spent) -> Spent | str | None:
        """From a worker: what it may spend more, at least what is `wanted`. None: ask again; a text: stop."""
        lease, budget = self._leases.get(attempt), self._budget
        if self._stopped:
            return self._stopped
        if budget is None or lease is None:
            return None
        bound = self._closed
        for each in self._leases.values():
            bound = added(bound, each.bound)
        self._stopped = budget.lack(*added(bound, wanted))
        if self._stopped:
            return self._stopped
        tokens, usd = (
            wish if most is None else max(wish, (most - used) / (8 * self._workers))
            for wish, most, used in zip(wanted, (budget.tokens, budget.usd), bound, strict=True)
        )
        lease.granted = added(lease.granted, (tokens, usd))
        return tokens, usd


def start_board(ray: Any) -> Any:
    """The board's actor, on the machine of the driver, for it is to live as long."""
    here = ray.get_runtime_context().get_node_id()
    near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=near)(BudgetBroker).remote()


async def asked(method: Any, *arguments: Any) -> Any:
    """What a method of the board's actor returns; None where it does not answer in time, or is lost."""
    ray = need("ray", "running over Ray", "ray")
    try:
        return await asyncio.wait_for(asyncio.wrap_future(method.remote(*arguments).future()), _SECONDS_TO_ANSWER)
    except (TimeoutError, ray.exceptions.RayError) as error:
        _logger.debug("the board does not answer: %r", error)
        return None
