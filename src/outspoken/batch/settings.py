"""The settings of a run over many prompts, in addition to those of each call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from outspoken._options import RunOptions
from outspoken.settings import RequestLimits, option

if TYPE_CHECKING:
    from outspoken.engine import ResponseGoal

__all__ = ["DEFAULT_CONCURRENCY", "RunOptions", "RunSettings"]

DEFAULT_CONCURRENCY = 256


@dataclass(frozen=True, kw_only=True)
class RunSettings(RequestLimits):
    """How much a run asks for, how fast, and within what budget. Raises `UsageError` for invalid values."""

    n: int | None = option(
        None,
        "Responses per prompt, in as many calls as needed. Default: those of one call.",
        flags=("--n", "-n"),
        low=1,
        excludes="until_distinct",
    )
    until_distinct: int | None = option(
        None, "Continue until a prompt has this many different responses, or --max-calls is reached.", low=1
    )
    max_calls: int | None = option(
        None,
        "Most calls for one prompt. Default: twice what --n needs plus one; ten times for --until-distinct.",
        low=1,
    )
    concurrency: int | None = option(
        None,
        f"Most requests at once; fewer while the server is overloaded. Default: {DEFAULT_CONCURRENCY}, or what a "
        "local model decodes in parallel.",
        low=1,
    )
    requests_per_minute: float | None = option(None, "Most requests in a minute.", above=0)
    tokens_per_minute: float | None = option(None, "Most tokens in a minute.", above=0)
    budget_tokens: int | None = option(None, "Stop before more tokens than this are used.", low=1)
    budget_usd: float | None = option(None, "Stop before more US dollars than this are spent.", above=0)
    max_seconds: float | None = option(None, "Stop asking after this many seconds.", above=0)
    prices: str | Path | None = option(None, "A TOML file of prices; docs/runs.md shows one.")

    @cached_property
    def goal(self) -> ResponseGoal:
        from outspoken.engine import ResponseGoal

        return ResponseGoal(self.n, self.until_distinct, self.max_calls)
