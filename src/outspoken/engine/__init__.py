"""Drives methods against models: one prompt, or many at once."""

from outspoken.engine.caller import Call, Caller, Patience
from outspoken.engine.drive import drive, drive_stream
from outspoken.engine.gate import Gate
from outspoken.engine.loop import iterate, run
from outspoken.engine.many import Answer, Asked, Asker, Goal, Made, ordered
from outspoken.engine.meter import Meter, cause_of
from outspoken.engine.scoring import score_all
from outspoken.engine.spending import CHARACTERS_A_TOKEN, Budget, expected_usage

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
