"""The step that checks each record: by mathematics, by unit tests, by a judge, or by the user's own function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken.checking.final_answer import find_final
from outspoken.checking.maths import Checker
from outspoken.checking.sandbox import MIB, Sandbox, require_sandbox
from outspoken.checking.unit_tests import check_program
from outspoken.errors import UnknownNameError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure import rubrics
from outspoken.measure.judge import Judge, JudgedItem, JudgeScore
from outspoken.settings import option
from outspoken.synth.records import RecordWriter, batches, count, fields_of, fill, names_in, pa, pq, with_columns
from outspoken.synth.steps.base import Step, StepOutcome, StepProgress
from outspoken.synth.steps.custom_step import function_of

__all__ = ["LACKS", "WAYS", "Found", "Verifier", "VerifyOptions", "check", "rubric_of", "run"]

_KEEP = ("right", "all")
_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
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


def check(options: VerifyOptions) -> None:
    """Raise `UsageError` for what would end the step: no sandbox, no function, no rubric."""
    if options.by == "tests":
        require_sandbox()
    elif options.by == "function":
        function_of(options.function)
    elif options.by == "judge":
        rubrics.load(rubric_of(options))


async def run(options: VerifyOptions, step: Step) -> StepOutcome:
    """Check the records, some hundreds at a time; adds `verified` and `verdict`."""
    source = step.needed()
    total = count(source)
    what = "asking the judge" if options.by == "judge" else "verifying"
    step.watch.tell(what, 0, total)
    reasons: Counter[str] = Counter()
    done, fields = 0, dict[str, Any]()
    schema = _verified(pq.read_schema(source).empty_table(), []).schema
    async with WAYS[options.by](options, step) as way:
        with RecordWriter(step.out, schema) as kept, RecordWriter(step.removed) as removed:
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
    return StepOutcome(
        kept.rows, dict(reasons.most_common()) if options.keep == "right" else {}, figures, warnings
    )


def _no_field_anywhere(reasons: Counter[str], done: int, fields: Mapping[str, Any]) -> None:
    """A field that all records lack is a slip of the spec. Raises `UnknownNameError`."""
    lacking = {reason: number for reason, number in reasons.items() if reason.startswith(LACKS)}
    if done and sum(lacking.values()) == done:
        name = next(iter(lacking)).removeprefix(LACKS)
        raise UnknownNameError("field of the records, in a template of verify:", name, set(fields) - {name})


def _verified(table: Any, found: Sequence[Found]) -> Any:
    right = pa.array([not reason for reason, _ in found], pa.bool_())
    return with_columns(table, {"verified": right, "verdict": pa.array([told for _, told in found], pa.string())})


_SHORT = 100
_ONE_LINE = 200
LACKS = "has no "

Found = tuple[str, str]
"""Why a record is wrong, in words that are the same for the same cause ("" where it is right), and the verdict."""

_RIGHT: Found = ("", "right")


@dataclass
class Verifier:
    """A way to verify, at work: `check` says what it finds of each of several records, `figures` and `warnings`
    what is to be told of it in the end."""

    check: Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Found]]]
    figures: Callable[[], dict[str, Any]] = dict
    warnings: Callable[[], tuple[str, ...]] = tuple


@asynccontextmanager
async def _maths(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Checker(seconds=options.seconds) as checker:

        async def one(fields: Mapping[str, Any]) -> Found:
            given, expected = (_answer_in(text) for text in _filled(fields, options.given, options.expected))
            if not given:
                return "no answer was given", "no answer was given"
            if not expected:
                return "no right answer is known", "no right answer is known"
            same = await checker.same(expected, given)
            if same is None:
                late = f"the comparison took longer than {options.seconds:g} s"
                return late, f"{late}: {_short(given)} with {_short(expected)}"
            return _RIGHT if same else ("the answer is wrong", f"{_short(given)} is not {_short(expected)}")

        def figures() -> dict[str, Any]:
            return {"comparisons that took too long": checker.timeouts} if checker.timeouts else {}

        yield Verifier(_each(one, step.watch), figures)


@asynccontextmanager
async def _tests(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Sandbox(seconds=options.seconds, memory=options.memory * MIB) as sandbox:

        async def one(fields: Mapping[str, Any]) -> Found:
            verdict = await check_program(sandbox, *_filled(fields, options.solution, options.tests))
            return verdict.reason, str(verdict)

        yield Verifier(_each(one, step.watch))


@asynccontextmanager
async def _judge(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    with Ledger(step.ledger) as ledger:
        judge = Judge(
            options.model or step.model or models.default_name(), rubric_of(options), ledger=ledger, seed=step.seed
        )
        failed: list[JudgeScore] = []

        async def check_all(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
            found: dict[int, Found] = {}
            items = []
            for at, fields in enumerate(rows):
                try:
                    prompt, text = _filled(fields, options.question, options.response)
                    items.append(JudgedItem(prompt, text, str(at)))
                except _LacksError as lack:
                    found[at] = (str(lack), str(lack))
            before = step.watch.done

            def progress(done: int, _total: int) -> None:
                step.watch.done = before + done

            for verdict in await judge.score(items, progress):
                if verdict.value is None:
                    failed.append(verdict)
                    reason = "the judge cannot be read" if verdict.unreadable else f"no verdict: {verdict.cause}"
                    found[int(verdict.id)] = (reason, verdict.error)
                else:
                    enough = verdict.value >= options.at_least
                    reason = "" if enough else f"the judge gave less than {options.at_least:g}"
                    found[int(verdict.id)] = (reason, f"{verdict.value:.1f} of 100")
            return [found[at] for at in range(len(rows))]

        def figures() -> dict[str, Any]:
            told = judge.summary(failed).to_dict()
            spent = {name: told[name] for name in ("requests", "from_ledger", "tokens", "usd")}
            return {**spent, "failures": len(failed)}

        yield Verifier(check_all, figures)


@asynccontextmanager
async def _function(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    function = function_of(options.function)
    raised: list[str] = []
    calls = 0

    def found_by(fields: Mapping[str, Any]) -> Found:
        try:
            said = function(dict(fields))
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
            return f"the function raised {type(error).__name__}", _short(raised[-1])
        if isinstance(said, str) and said.strip():
            return _short(said.strip()), said.strip()
        if said is True or said is False or type(said).__name__ == "bool_":
            return _RIGHT if said else ("the function says no", "the function says no")
        return "the function gave no answer", f"it gave {said!r:.100} and not True, False or why not"

    async def one_after_another(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
        nonlocal calls
        calls += len(rows)
        found = []
        for fields in rows:
            found.append(await asyncio.to_thread(found_by, fields))
            step.watch.done += 1
        return found

    def warnings() -> tuple[str, ...]:
        every = raised and len(raised) == calls
        return (f"{options.function} raised on every record: {_short(raised[0])}",) if every else ()

    yield Verifier(one_after_another, warnings=warnings)


WAYS: Mapping[str, Callable[[VerifyOptions, Step], AbstractAsyncContextManager[Verifier]]] = {
    "maths": _maths,
    "tests": _tests,
    "judge": _judge,
    "function": _function,
}


class _LacksError(Exception):
    """A record has nothing in a field that is asked for."""


def rubric_of(options: VerifyOptions) -> str:
    """A path as it is; of a shipped name, to which the folder of the spec was added as to any file, the name."""
    return options.rubric if options.rubric.endswith(".toml") else Path(options.rubric).name


def _filled(fields: Mapping[str, Any], *templates: str) -> list[str]:
    for template in templates:
        for name in sorted(names_in(template)):
            if fields.get(name) is None:
                raise _LacksError(LACKS + name)
    return [fill(template, fields) for template in templates]


def _each(
    one: Callable[[Mapping[str, Any]], Awaitable[Found]], watch: StepProgress
) -> Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Found]]]:
    async def safe(fields: Mapping[str, Any]) -> Found:
        try:
            found = await one(fields)
        except _LacksError as lack:
            found = (str(lack), str(lack))
        watch.done += 1
        return found

    async def check_all(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
        tasks = [asyncio.create_task(safe(fields)) for fields in rows]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return check_all


def _answer_in(text: str) -> str:
    """The answer in a text that may be one, or a whole solution."""
    found = find_final(text)
    if found is None or (found.how == "last" and "\n" not in text.strip() and len(text) <= _ONE_LINE):
        return text.strip() if len(text) <= _ONE_LINE else ""
    return found.text


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
