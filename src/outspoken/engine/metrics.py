"""The figures of a run while it runs, and what a failure is called in them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from outspoken.chat import Usage
from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError, ReplyError

__all__ = ["RunMetrics", "cause_of"]


@dataclass(slots=True)
class RunMetrics:
    """What a run has done so far.

    `prompts` that are finished, with or without responses; their `responses`, and how many of these are
    `distinct` within their prompt. `requests` that were answered and paid for in this run, with their `usage` and
    `usd` (None: the price is not known); replies `from_ledger`, and their usage, were paid for earlier.
    `unmetered` replies came without a usage, and an estimate stands for it. `attempts_failed` were made again, or
    given up. `failures` counts prompts that lack responses because something failed, by cause; `short` those that
    have fewer than were wanted although nothing failed; `bad_rows` of the input could not be asked.
    """

    prompts: int = 0
    responses: int = 0
    distinct: int = 0
    requests: int = 0
    from_ledger: int = 0
    unmetered: int = 0
    attempts_failed: int = 0
    short: int = 0
    bad_rows: int = 0
    usage: Usage = Usage()
    usage_from_ledger: Usage = Usage()
    usd: float | None = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def to_dict(self) -> dict[str, Any]:
        """The summary of a run; `tokens` and `usd` are those of this run, `seconds` its duration."""
        return {
            "prompts": self.prompts,
            "responses": self.responses,
            "distinct": self.distinct,
            "requests": self.requests,
            "from_ledger": self.from_ledger,
            "failures": self.failed,
            "tokens": self.usage.total_tokens,
            "seconds": round(self.seconds, 3),
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "tokens_from_ledger": self.usage_from_ledger.total_tokens,
            "usd": self.usd,
            "unmetered": self.unmetered,
            "attempts_failed": self.attempts_failed,
            "short": self.short,
            "bad_rows": self.bad_rows,
            "causes": dict(self.failures.most_common()),
        }


def cause_of(error: BaseException) -> str:
    """A failure in a few words that are the same for all of its kind."""
    if isinstance(error, ProviderError):
        return _short(f"HTTP {error.status}" if error.status else str(error))
    if isinstance(error, PromptTooLongError):
        return "the prompt is too long"
    if isinstance(error, ReplyError):
        return _short(str(error).partition(":")[0])
    if isinstance(error, OutspokenError):
        return _short(str(error))
    return _short(f"{type(error).__name__}: {error}")


def _short(text: str, most: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
