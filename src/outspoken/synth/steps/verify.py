"""The step that checks each record: by mathematics, by unit tests, by a judge, or by the user's own function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outspoken.checking.sandbox import require_sandbox
from outspoken.errors import UnknownNameError, UsageError
from outspoken.measure import rubrics
from outspoken.settings import option
from outspoken.synth.records import Writer, batches, count, fields_of, pa, pq, with_columns
from outspoken.synth.steps.base import Outcome, Step
from outspoken.synth.steps.custom_step import function_of
from outspoken.synth.steps.verifiers import LACKS, WAYS, Found, rubric_of

__all__ = ["Verify", "check", "run"]

_KEEP = ("right", "all")
_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check each record, and remove those that are wrong."""

    by: str = option("maths", "How: maths, tests (in a sandbox), judge, or function.")
    given: str = option("{final}", "maths: the answer that is checked, a template of the record's fields.")
    expected: str = option("{expected}", "maths: the right answer.")
    solution: str = option("{answer}", "tests: the program, alone or in fenced blocks.")
    tests: str = option("{tests}", "tests: its tests: asserts, functions test_*, classes of unittest.")
    seconds: float = option(10.0, "tests and maths: the time that each record may take.")
    memory: int = option(512, "tests: the MiB that each program may use.")
    question: str = option("{text}", "judge: what the response answers.")
    response: str = option("{answer}", "judge: what it scores.")
    rubric: str = option("", "judge: a rubric of `outspoken measure`, or a .toml file.", path=True)
    model: str = option("", "judge: the model. Default: the spec's model.")
    at_least: float = option(60.0, "judge: the least value of a right record, from 0 to 100.")
    function: str = option(
        "",
        "function: FILE.py:FUNCTION; it is given the record's fields, and returns True, False or why not.",
        path=True,
    )
    keep: str = option("right", "right removes what is wrong; all keeps it, marked in the column verified.")

    def __post_init__(self) -> None:
        if self.by not in WAYS:
            hint = f'by = "function", function = "{self.by}"' if ":" in self.by else ""
            raise UnknownNameError("way to verify", self.by, WAYS, see=hint)
        if self.keep not in _KEEP:
            raise UnknownNameError("value of keep", self.keep, _KEEP)
        if self.seconds <= 0 or self.memory < 16:
            raise UsageError("seconds must be above 0, and memory at least 16 MiB")
        if not 0 <= self.at_least <= 100:
            raise UsageError(f"at_least must be from 0 to 100, not {self.at_least:g}")
        if self.by == "function" and not self.function.rpartition(":")[0]:
            raise UsageError('name the function that verifies: function = "mine.py:is_right"')
        if self.by == "judge" and not self.rubric:
            raise UsageError('name the rubric of the judge: rubric = "mine.toml" (see docs/judging.md)')


def check(options: Verify) -> None:
    """Raise `UsageError` for what would end the step: no sandbox, no function, no rubric."""
    if options.by == "tests":
        require_sandbox()
    elif options.by == "function":
        function_of(options.function)
    elif options.by == "judge":
        rubrics.load(rubric_of(options))


async def run(options: Verify, step: Step) -> Outcome:
    """Check the records, some hundreds at a time; adds `verified` and `verdict`."""
    source = step.needed()
    total = count(source)
    what = "asking the judge" if options.by == "judge" else "verifying"
    step.watch.tell(what, 0, total)
    reasons: Counter[str] = Counter()
    done, fields = 0, dict[str, Any]()
    schema = _verified(pq.read_schema(source).empty_table(), []).schema
    async with WAYS[options.by](options, step) as way:
        with Writer(step.out, schema) as kept, Writer(step.removed) as removed:
            for table in batches(source, rows=_ROWS):
                rows = [fields_of(row) for row in table.to_pylist()]
                found = await way.check(rows)
                table = _verified(table, found)
                wrong = [reason for reason, _ in found if reason]
                reasons.update(wrong)
                if options.keep == "all":
                    kept.write(table)
                else:
                    right = pa.array([not reason for reason, _ in found], pa.bool_())
                    kept.write(table.filter(right))
                    if wrong:
                        rest = table.filter(pa.compute.invert(right))
                        removed.write(with_columns(rest, {"reason": pa.array(wrong, pa.string())}))
                done += len(found)
                fields = rows[-1] if rows else fields
                step.watch.tell(what, done, total)
            _no_field_anywhere(reasons, done, fields)
        figures = {"right": done - reasons.total(), "wrong": dict(reasons.most_common()), **way.figures()}
        warnings = way.warnings()
    return Outcome(kept.rows, dict(reasons.most_common()) if options.keep == "right" else {}, figures, warnings)


def _no_field_anywhere(reasons: Counter[str], done: int, fields: Mapping[str, Any]) -> None:
    """A field that all records lack is a slip of the spec. Raises `UnknownNameError`."""
    lacking = {reason: number for reason, number in reasons.items() if reason.startswith(LACKS)}
    if done and sum(lacking.values()) == done:
        name = next(iter(lacking)).removeprefix(LACKS)
        raise UnknownNameError("field of the records, in a template of verify:", name, set(fields) - {name})


def _verified(table: Any, found: Sequence[Found]) -> Any:
    right = pa.array([not reason for reason, _ in found], pa.bool_())
    return with_columns(table, {"verified": right, "verdict": pa.array([told for _, told in found], pa.string())})
