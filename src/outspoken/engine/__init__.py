"""Drives methods against models: one prompt, or many at once."""

from outspoken.engine.background_loop import iterate, run
from outspoken.engine.budget import CHARACTERS_A_TOKEN, Budget, expected_usage
from outspoken.engine.method_driver import drive, drive_stream
from outspoken.engine.metrics import Meter, cause_of
from outspoken.engine.prompt_runner import Answer, Asked, Asker, Goal, Made, ordered
from outspoken.engine.rate_limiter import Gate
from outspoken.engine.retry import Call, Caller, Patience
from outspoken.engine.scoring import score_all

__all__ = [
    "CHARACTERS_A_TOKEN",
    "Answer",
    "Asked",
    "Asker",
    "Budget",
    "Call",
    "Caller",
    "Gate",
    "Goal",
    "Made",
    "Meter",
    "Patience",
    "cause_of",
    "drive",
    "drive_stream",
    "expected_usage",
    "iterate",
    "ordered",
    "run",
    "score_all",
]
