"""The settings of a run over many prompts, in addition to those of each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from outspoken._options import RunOptions
from outspoken.errors import UnknownNameError, UsageError
from outspoken.settings import Settings, check_values, option

if TYPE_CHECKING:
    from outspoken.engine import ResponseGoal

__all__ = ["DEFAULT_CONCURRENCY", "RunOptions", "RunSettings", "split"]

DEFAULT_CONCURRENCY = 256


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How much a run asks for, how fast, and within what budget. Raises `UsageError` for invalid values."""

    n: int | None = option(
        None,
        "Responses per prompt, in as many calls as needed. Default: those of one call.",
        flags=("--n", "-n"),
        low=1,
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
    timeout: float = option(600.0, "Most seconds for one attempt at a request.", above=0)
    total_timeout: float = option(
        1800.0, "Most seconds for one request, with all its attempts and waits.", above=0
    )
    attempts: int = option(
        6, "Most attempts at one request, not counting those that an overloaded server refuses.", low=1
    )
    budget_tokens: int | None = option(None, "Stop before more tokens than this are used.", low=1)
    budget_usd: float | None = option(None, "Stop before more US dollars than this are spent.", above=0)
    max_seconds: float | None = option(None, "Stop asking after this many seconds.", above=0)
    prices: str | Path | None = option(None, "A TOML file of prices; docs/runs.md shows one.")

    def __post_init__(self) -> None:
        check_values(self)
        if self.n is not None and self.until_distinct is not None:
            raise UsageError("n and until_distinct exclude each other: give one of them")

    @cached_property
    def goal(self) -> ResponseGoal:
        from outspoken.engine import ResponseGoal

        return ResponseGoal(self.n, self.until_distinct, self.max_calls)


def split(options: RunOptions | Mapping[str, object]) -> tuple[Settings, RunSettings]:
    """The settings of a call and of the run, from keyword arguments. Raises `UsageError` for unknown names."""
    of_run = {field.name for field in fields(RunSettings)}
    known = [*of_run, *Settings.__dataclass_fields__]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    run_options = {name: value for name, value in options.items() if name in of_run}
    call_options = {name: value for name, value in options.items() if name not in of_run}
    run = RunSettings(**run_options)  # type: ignore[arg-type]  # the values are checked at run time
    return Settings.read(call_options), run
