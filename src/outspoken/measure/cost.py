"""The cost of responses: requests, tokens, money and time, for each response and each distinct one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from outspoken.chat_reply import Usage
from outspoken.ledger.keys import reply_of
from outspoken.ledger.reader import LedgerReader

__all__ = ["Cost", "CostShare", "CostSummary", "busy_seconds", "cost_of"]

_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of a group of responses.

    `tokens` are those of prompts and replies together, `usd` is the price in US dollars, None if it is unknown.
    `model_seconds` is the sum of the times that the model took for each request, however many ran at once;
    `wall_seconds` is the time during which at least one request was under way (for `compare` the elapsed time),
    None if it is unknown.
    """

    requests: int
    tokens: int
    model_seconds: float
    usd: float | None = None
    wall_seconds: float | None = None

    def summary(self, responses: int, distinct: int) -> CostSummary:
        """The cost, with the shares of one of the `responses` and of one of the `distinct` ones."""
        return CostSummary(**asdict(self), per_response=self._per(responses), per_distinct=self._per(distinct))

    def _per(self, count: int) -> CostShare:
        if not count:
            return CostShare()
        return CostShare(self.tokens / count, None if self.usd is None else self.usd / count)


@dataclass(frozen=True, slots=True)
class CostShare:
    """What one response costs; a figure is None if it is unknown, and all are if there is no response."""

    tokens: float | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class CostSummary(Cost):
    """The `Cost` of a group of responses, for each response, and for each distinct response."""

    per_response: CostShare = CostShare()
    per_distinct: CostShare = CostShare()


def cost_of(ledger: Path, requests: Iterable[str], dollars: Callable[[Usage], float] | None = None) -> Cost:
    """The cost of the replies with these keys in a ledger, each counted once; `dollars` gives the price of a
    usage.

    Raises `UsageError` if there is no such ledger, and `LedgerError` if it cannot be read.
    """
    keys = iter(dict.fromkeys(key for key in requests if key))
    spans: list[tuple[float, float]] = []
    usage = Usage()
    with LedgerReader(ledger) as reader:
        while batch := list(islice(keys, _KEYS_PER_QUERY)):
            marks = ", ".join("?" * len(batch))
            for row in reader.rows(f"SELECT reply, seconds, created FROM reply WHERE key IN ({marks})", *batch):
                spans.append((row["created"] - row["seconds"], row["created"]))
                usage += reply_of(row["reply"]).usage
    seconds = sum(end - start for start, end in spans)
    price = None if dollars is None else dollars(usage)
    return Cost(len(spans), usage.total_tokens, seconds, price, busy_seconds(spans))


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """The time that the spans, each from a start to an end, cover together."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
