"""The asynchronous core: drives methods against models, one prompt or many at once.

`retry` sends the requests of runs (`rate_limiter`, `budget`, the ledger), `single_call` those of other calls,
`prompt_runner` asks one prompt, `concurrency` many in order. It may import methods, models, the ledger and plain
values. Anything that sends requests belongs here.
"""

from outspoken.engine.background_loop import iterate, run
from outspoken.engine.budget import CHARACTERS_PER_TOKEN, Budget, expected_usage
from outspoken.engine.concurrency import ordered
from outspoken.engine.method_driver import drive, drive_stream
from outspoken.engine.metrics import RunMetrics, RunSummary, cause_of
from outspoken.engine.prompt_runner import CallResult, PromptResult, PromptRunner, PromptTask, ResponseGoal
from outspoken.engine.rate_limiter import RateLimiter
from outspoken.engine.retry import Call, FailedAttempts, ModelCaller
from outspoken.engine.scoring import score_all
from outspoken.engine.single_call import CachedCall, SingleCall, opened

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "Budget",
    "CachedCall",
    "Call",
    "CallResult",
    "FailedAttempts",
    "ModelCaller",
    "PromptResult",
    "PromptRunner",
    "PromptTask",
    "RateLimiter",
    "ResponseGoal",
    "RunMetrics",
    "RunSummary",
    "SingleCall",
    "cause_of",
    "drive",
    "drive_stream",
    "expected_usage",
    "iterate",
    "opened",
    "ordered",
    "run",
    "score_all",
]
