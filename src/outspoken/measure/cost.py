"""What responses cost: requests, tokens, money and seconds, for each response and for each different one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from outspoken.chat import Usage
from outspoken.ledger.keys import reply_of
from outspoken.ledger.reader import LedgerReader

__all__ = ["Cost", "cost_of"]

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of a group of responses.

    `tokens` are those of prompts and replies together, `seconds` how long the requests took, added up (for
    `compare` the time on the clock), `usd` US dollars (None: nobody knows the price).
    """

    requests: int
    tokens: int
    seconds: float
    usd: float | None = None

    def to_dict(self, responses: int, distinct: int) -> dict[str, Any]:
        """The cost, and the share of it that one response and one different response bears (None of none)."""
        whole = {"tokens": self.tokens, "usd": self.usd, "seconds": self.seconds}

        def share(count: int) -> dict[str, float | None]:
            return {name: value / count if count and value is not None else None for name, value in whole.items()}

        return {
            "requests": self.requests,
            **whole,
            "per_response": share(responses),
            "per_distinct": share(distinct),
        }


def cost_of(ledger: Path, requests: Iterable[str], dollars: Callable[[Usage], float] | None = None) -> Cost:
    """The cost of the replies under these keys of a ledger, each counted once.

    Raises `UsageError` where there is no ledger, `LedgerError` where it cannot be read.
    """
    keys = iter(dict.fromkeys(key for key in requests if key))
    count, seconds, usage = 0, 0.0, Usage()
    with LedgerReader(ledger) as reader:
        while some := list(islice(keys, _AT_ONCE)):
            marks = ", ".join("?" * len(some))
            for row in reader.rows(f"SELECT reply, seconds FROM reply WHERE key IN ({marks})", *some):
                count += 1
                seconds += row["seconds"]
                usage += reply_of(row["reply"]).usage
    return Cost(count, usage.total_tokens, seconds, None if dollars is None else dollars(usage))
