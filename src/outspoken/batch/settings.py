"""The settings of a run over many prompts, beside those of each call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.settings import Options, Settings, option

if TYPE_CHECKING:
    from outspoken.engine import Budget, ResponseGoal, RetryPolicy

__all__ = ["RunOptions", "RunSettings", "split"]

DEFAULT_CONCURRENCY = 256


class RunOptions(Options, total=False):
    """The keyword arguments of `run` and `arun`; see `Settings` and `RunSettings`."""

    n: int | None
    until_distinct: int | None
    max_calls: int | None
    concurrency: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    timeout: float
    total_timeout: float
    attempts: int
    budget_tokens: int | None
    budget_usd: float | None
    max_seconds: float | None
    prices: str | Path | None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run over many prompts goes. Raises `UsageError` for what cannot be."""

    n: int | None = option(None, "Responses per prompt, by as many calls as it takes. Default: one call.")
    until_distinct: int | None = option(
        None, "Go on until a prompt has this many different responses, or --max-calls is reached."
    )
    max_calls: int | None = option(
        None, "Most calls for one prompt. Default: twice what --n needs plus one; ten times for --until-distinct."
    )
    concurrency: int | None = option(
        None,
        f"Most requests at once; fewer while the server cannot keep up. Default: {DEFAULT_CONCURRENCY}, or what a "
        "local model decodes together.",
    )
    requests_per_minute: float | None = option(None, "Send no more requests than this in a minute.")
    tokens_per_minute: float | None = option(None, "Use no more tokens than this in a minute.")
    timeout: float = option(600.0, "Most seconds for one attempt at a request.")
    total_timeout: float = option(1800.0, "Most seconds for one request, with all its attempts and waits.")
    attempts: int = option(6, "Most attempts at one request, apart from those that the server was too busy for.")
    budget_tokens: int | None = option(None, "Stop before more tokens than this are used.")
    budget_usd: float | None = option(None, "Stop before more US dollars than this are spent.")
    max_seconds: float | None = option(None, "Stop asking after this many seconds.")
    prices: str | Path | None = option(None, "A TOML file of prices; docs/runs.md shows one.")

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, not {self.concurrency}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0, not {value:g}")
        self.goal, self.patience, self.budget  # noqa: B018  (their own checks)

    @property
    def goal(self) -> ResponseGoal:
        from outspoken.engine import ResponseGoal

        return ResponseGoal(self.n, self.until_distinct, self.max_calls)

    @property
    def patience(self) -> RetryPolicy:
        from outspoken.engine import RetryPolicy

        return RetryPolicy(self.timeout, self.total_timeout, self.attempts)

    @property
    def budget(self) -> Budget:
        from outspoken.engine import Budget

        return Budget(self.budget_tokens, self.budget_usd, self.max_seconds)


def split(options: RunOptions | dict[str, Any]) -> tuple[Settings, RunSettings]:
    """The settings of a call and those of the run, from keyword arguments; unknown names are a `UsageError`."""
    own = {field.name for field in fields(RunSettings)}
    known = [*own, *Settings.__dataclass_fields__]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    of_run = {name: value for name, value in options.items() if name in own}
    of_call = {name: value for name, value in options.items() if name not in own}
    return Settings.read(of_call), RunSettings(**of_run)  # type: ignore[arg-type]
