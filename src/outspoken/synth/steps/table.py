"""The table of steps: this is where a new step is added.

A step is a module of this package with a class of options and a function `run`. Its row here makes it available in
specs, on the command line (`outspoken synth --steps`) and to the pipeline; docs/synth.md describes it to users.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.errors import UnknownNameError
from outspoken.synth.steps import answer, balance, decontaminate, deduplicate, export, generate, verify
from outspoken.synth.steps.base import Step, StepOptions, StepOutcome

__all__ = ["STEPS", "StepKind", "find"]


@dataclass(frozen=True, slots=True)
class StepKind:
    """A row: the `name` of the step in specs, the class of its `options`, and the function that does its work."""

    name: str
    options: type[StepOptions]
    run: Callable[[Any, Step], Awaitable[StepOutcome]]


_ROWS = (
    StepKind("generate", generate.GenerateOptions, generate.run),
    StepKind("deduplicate", deduplicate.DeduplicateOptions, deduplicate.run),
    StepKind("decontaminate", decontaminate.DecontaminateOptions, decontaminate.run),
    StepKind("answer", answer.AnswerOptions, answer.run),
    StepKind("verify", verify.VerifyOptions, verify.run),
    StepKind("balance", balance.BalanceOptions, balance.run),
    StepKind("export", export.ExportOptions, export.run),
)

STEPS: Mapping[str, StepKind] = {row.name: row for row in _ROWS}
"""All steps by name, in the order in which they are usually done."""


def find(name: str) -> StepKind:
    """The step of this name. Raises `UnknownNameError` with the closest match."""
    if name not in STEPS:
        raise UnknownNameError("step", name, STEPS, see="or your own: mine.py:function")
    return STEPS[name]
