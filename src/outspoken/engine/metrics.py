"""The figures of a run, and the short names of failures in them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from outspoken.chat_reply import Usage
from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError, ReplyError
from outspoken.io.text import one_line

__all__ = ["RunMetrics", "RunSummary", "cause_of"]


@dataclass(slots=True)
class RunMetrics:
    """The figures of a run so far.

    `prompts` counts finished prompts, `responses` their responses, and `distinct` those that differ within a
    prompt. `requests` were answered and paid for in this run, with their `usage` and `usd` (None: unknown);
    replies `from_ledger`, and their usage, were paid for earlier. `unmetered` replies had no usage, which is
    estimated. `superseded` replies were paid for and not used, because another run had stored one to the same
    request meanwhile. `model_seconds` is the sum of the times that the model took. `attempts_failed` were retried
    or given up. `failures` counts prompts that lack responses because of an error, by cause; `short` those that
    have fewer responses than wanted without an error; `bad_rows` are rows of the input without a valid prompt.
    """

    prompts: int = 0
    responses: int = 0
    distinct: int = 0
    requests: int = 0
    from_ledger: int = 0
    unmetered: int = 0
    superseded: int = 0
    attempts_failed: int = 0
    short: int = 0
    bad_rows: int = 0
    usage: Usage = Usage()
    usage_from_ledger: Usage = Usage()
    usd: float | None = 0.0
    model_seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def summary(self, stopped: str = "") -> RunSummary:
        """The figures at this moment; `stopped` is why the run ended early."""
        usage = self.usage
        return RunSummary(
            **{name: getattr(self, name) for name in _COUNTS},
            usd=self.usd,
            failures=self.failed,
            causes=dict(self.failures.most_common()),
            tokens=usage.total_tokens,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            tokens_from_ledger=self.usage_from_ledger.total_tokens,
            seconds=round(self.seconds, 3),
            stopped=stopped,
        )


_COUNTS = tuple(entry.name for entry in fields(RunMetrics) if entry.type == "int")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The figures of a run at one moment; the names are those of `RunMetrics`.

    `failures` is the number of failed prompts, `causes` counts them by cause, the most frequent first. This run
    used `tokens` for `usd`, and earlier runs `tokens_from_ledger`. `seconds` is the duration, `stopped` the reason
    why the run ended early ("" if it did not).
    """

    prompts: int
    responses: int
    distinct: int
    requests: int
    from_ledger: int
    failures: int
    tokens: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    tokens_from_ledger: int
    usd: float | None
    unmetered: int
    superseded: int
    attempts_failed: int
    short: int
    bad_rows: int
    causes: Mapping[str, int]
    stopped: str = ""

    def to_dict(self) -> dict[str, object]:
        """The figures as a JSON object."""
        return asdict(self)


def cause_of(error: BaseException) -> str:
    """A short name for an error, the same for all errors of its kind."""
    if isinstance(error, ProviderError):
        return one_line(f"HTTP {error.status}" if error.status else str(error))
    if isinstance(error, PromptTooLongError):
        return "the prompt is too long"
    if isinstance(error, ReplyError):
        return one_line(str(error).partition(":")[0])
    if isinstance(error, OutspokenError):
        return one_line(str(error))
    return one_line(f"{type(error).__name__}: {error}")
