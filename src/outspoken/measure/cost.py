"""The cost of responses: requests, tokens, money and seconds, for each response and each distinct one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from outspoken.chat_reply import Usage
from outspoken.ledger.keys import reply_of
from outspoken.ledger.reader import LedgerReader

__all__ = ["Cost", "CostShare", "CostSummary", "cost_of"]

_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of a group of responses.

    `tokens` are those of prompts and replies together. `seconds` is the sum of the durations of all requests (for
    `compare` the elapsed time), `usd` the price in US dollars, None if it is unknown.
    """

    requests: int
    tokens: int
    seconds: float
    usd: float | None = None

    def summary(self, responses: int, distinct: int) -> CostSummary:
        """The cost, with the shares of one of the `responses` and of one of the `distinct` ones."""
        return CostSummary(**asdict(self), per_response=self._per(responses), per_distinct=self._per(distinct))

    def _per(self, count: int) -> CostShare:
        if not count:
            return CostShare()
        return CostShare(self.tokens / count, None if self.usd is None else self.usd / count, self.seconds / count)


@dataclass(frozen=True, slots=True)
class CostShare:
    """What one response costs; a figure is None if it is unknown, and all are if there is no response."""

    tokens: float | None = None
    usd: float | None = None
    seconds: float | None = None


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
    count, seconds, usage = 0, 0.0, Usage()
    with LedgerReader(ledger) as reader:
        while batch := list(islice(keys, _KEYS_PER_QUERY)):
            marks = ", ".join("?" * len(batch))
            for row in reader.rows(f"SELECT reply, seconds FROM reply WHERE key IN ({marks})", *batch):
                count += 1
                seconds += row["seconds"]
                usage += reply_of(row["reply"]).usage
    return Cost(count, usage.total_tokens, seconds, None if dollars is None else dollars(usage))
