"""The step `verify`: checks each record by mathematics, unit tests, a judge, or the user's function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken import models
from outspoken.checking.answer_extraction import find_final
from outspoken.checking.maths import Checker
from outspoken.checking.sandbox import MIB, Sandbox, require_sandbox
from outspoken.checking.unit_tests import check_program
from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.text import one_line
from outspoken.ledger import Ledger
from outspoken.measure import rubrics
from outspoken.measure.judge import Judge
from outspoken.measure.verdicts import JudgedItem, JudgeScore
from outspoken.settings import option
from outspoken.synth.record_templates import fields_of, fill, names_in
from outspoken.synth.records import Record, count, pa, with_columns
from outspoken.synth.steps.base import Step, StepOptions, StepOutcome, StepProgress
from outspoken.synth.steps.custom_step import load_function
from outspoken.synth.steps.record_filter import BatchDecision, filter_records

__all__ = ["VERIFIERS", "Finding", "Verifier", "VerifyOptions", "run"]

_KEEP = ("right", "all")
_ROWS = 256
_EXCERPT = 100
_SHORT_ANSWER = 200
_MISSING = "has no "


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(StepOptions):
    """Check each record, and remove those that are wrong."""

    by: str = option("maths", "How: maths, tests (in a sandbox), judge, or function.")
    given: str = option("{final}", "maths: the answer to check, a template of the record's fields.")
    expected: str = option("{expected}", "maths: the right answer.")
    solution: str = option("{answer}", "tests: the program, alone or in fenced blocks.")
    tests: str = option("{tests}", "tests: its tests: asserts, functions test_*, classes of unittest.")
    seconds: float = option(10.0, "tests and maths: time limit for each record.")
    memory: int = option(512, "tests: memory limit of each program in MiB.")
    question: str = option("{text}", "judge: the question that the response answers.")
    response: str = option("{answer}", "judge: the response that it scores.")
    rubric: str = option("", "judge: a rubric of `outspoken measure`, or a .toml file.", path=True)
    model: str = option("", "judge: the model. Default: the spec's model.")
    at_least: float = option(60.0, "judge: the lowest score of a right record, from 0 to 100.")
    function: str = option(
        "",
        "function: FILE.py:FUNCTION; it gets the record's fields, and returns True, False or why not.",
        path=True,
    )
    keep: str = option("right", "right removes wrong records; all keeps them, marked in the column verified.")

    def __post_init__(self) -> None:
        if self.by not in VERIFIERS:
            hint = f'by = "function", function = "{self.by}"' if ":" in self.by else ""
            raise UnknownNameError("way to verify", self.by, VERIFIERS, see=hint)
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

    @property
    def rubric_name(self) -> str:
        """A path, or the name of a shipped rubric without the spec's folder, which was added as to any path."""
        return self.rubric if self.rubric.endswith(".toml") else Path(self.rubric).name

    def check(self, model: str | None = None) -> None:
        if self.by == "tests":
            require_sandbox()
        elif self.by == "function":
            load_function(self.function)
        elif self.by == "judge":
            rubrics.load(self.rubric_name)

    def model_name(self, default: str | None) -> str | None:
        return self.model or default if self.by == "judge" else None

    def added_fields(self) -> tuple[str, ...]:
        return ("verified", "verdict")


@dataclass(frozen=True, slots=True)
class Finding:
    """The `verdict` on a record, and the `reason` if it is wrong ("" if not), in the same words for one cause."""

    reason: str
    verdict: str


@dataclass
class Verifier:
    """A way to verify: `check` several records at once; `figures` and `warnings` for the step's outcome."""

    check: Callable[[Sequence[Record]], Awaitable[list[Finding]]]
    figures: Callable[[], Mapping[str, object]] = dict
    warnings: Callable[[], tuple[str, ...]] = tuple


async def run(options: VerifyOptions, step: Step) -> StepOutcome:
    """Check the records in batches; adds the columns `verified` and `verdict`."""
    wrong: Counter[str] = Counter()
    checked, total = 0, count(step.needed_source())
    async with VERIFIERS[options.by](options, step) as verifier:

        async def decide(table: Any) -> BatchDecision:
            nonlocal checked
            rows = [fields_of(row) for row in table.to_pylist()]
            findings = await verifier.check(rows)
            wrong.update(finding.reason for finding in findings if finding.reason)
            checked += len(rows)
            if rows and checked == total:
                _check_fields(wrong, checked, rows[-1])
            columns = {
                "verified": pa.array([not finding.reason for finding in findings], pa.bool_()),
                "verdict": pa.array([finding.verdict for finding in findings], pa.string()),
            }
            removes = options.keep == "right"
            reasons = [finding.reason or None if removes else None for finding in findings]
            return BatchDecision(with_columns(table, columns), reasons)

        stage = "asking the judge" if options.by == "judge" else "verifying"
        counts = await filter_records(step, stage, decide, rows=_ROWS)
        figures = {
            "right": checked - wrong.total(),
            "wrong": dict(wrong.most_common()),
            **verifier.figures(),
        }
        return StepOutcome(counts.kept, counts.removed, figures, verifier.warnings())


def _check_fields(wrong: Counter[str], checked: int, fields: Record) -> None:
    """Raise `UnknownNameError` for a template's field that no record has: it is a mistake in the spec."""
    missing = {reason: number for reason, number in wrong.items() if reason.startswith(_MISSING)}
    if sum(missing.values()) == checked:
        name = next(iter(missing)).removeprefix(_MISSING)
        raise UnknownNameError("field of the records, in a template of verify:", name, set(fields) - {name})


_RIGHT = Finding("", "right")


@asynccontextmanager
async def _maths(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Checker(seconds=options.seconds) as checker:

        async def check(fields: Record) -> Finding:
            given, expected = (_answer_in(text) for text in _filled(fields, options.given, options.expected))
            if not given:
                return Finding("no answer was given", "no answer was given")
            if not expected:
                return Finding("no right answer is known", "no right answer is known")
            same = await checker.same(expected, given)
            if same is None:
                late = f"the comparison took longer than {options.seconds:g} s"
                return Finding(late, f"{late}: {_excerpt(given)} with {_excerpt(expected)}")
            wrong = f"{_excerpt(given)} is not {_excerpt(expected)}"
            return _RIGHT if same else Finding("the answer is wrong", wrong)

        def figures() -> dict[str, object]:
            return {"comparisons that took too long": checker.timeouts} if checker.timeouts else {}

        yield Verifier(_concurrently(check, step.progress), figures)


@asynccontextmanager
async def _tests(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Sandbox(seconds=options.seconds, memory=options.memory * MIB) as sandbox:

        async def check(fields: Record) -> Finding:
            verdict = await check_program(sandbox, *_filled(fields, options.solution, options.tests))
            return Finding(verdict.reason, str(verdict))

        yield Verifier(_concurrently(check, step.progress))


@asynccontextmanager
async def _judge(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    with Ledger(step.ledger) as ledger:
        model = options.model or step.model or models.default_name()
        judge = Judge(model, options.rubric_name, ledger=ledger, seed=step.seed)
        failed: list[JudgeScore] = []

        async def check(rows: Sequence[Record]) -> list[Finding]:
            findings: dict[int, Finding] = {}
            items = []
            for at, fields in enumerate(rows):
                try:
                    prompt, text = _filled(fields, options.question, options.response)
                    items.append(JudgedItem(prompt, text, str(at)))
                except _MissingFieldError as error:
                    findings[at] = Finding(str(error), str(error))
            before = step.progress.done

            def progress(done: int, _total: int) -> None:
                step.progress.done = before + done

            for score in await judge.score(items, progress):
                if score.value is None:
                    failed.append(score)
                    reason = "the judge cannot be read" if score.unreadable else f"no verdict: {score.cause}"
                    findings[int(score.id)] = Finding(reason, score.error)
                else:
                    enough = score.value >= options.at_least
                    reason = "" if enough else f"the judge gave less than {options.at_least:g}"
                    findings[int(score.id)] = Finding(reason, f"{score.value:.1f} of 100")
            return [findings[at] for at in range(len(rows))]

        def figures() -> dict[str, object]:
            summary = judge.summary(failed).to_dict()
            spent = {name: summary[name] for name in ("requests", "from_ledger", "tokens", "usd")}
            return {**spent, "failures": len(failed)}

        yield Verifier(check, figures)


@asynccontextmanager
async def _function(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    function = load_function(options.function)
    errors: list[str] = []
    calls = 0

    def call(fields: Record) -> Finding:
        try:
            returned = function(dict(fields))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            return Finding(f"the function raised {type(error).__name__}", _excerpt(errors[-1]))
        if isinstance(returned, str) and returned.strip():
            return Finding(_excerpt(returned.strip()), returned.strip())
        if returned is True or returned is False or type(returned).__name__ == "bool_":
            return _RIGHT if returned else Finding("the function says no", "the function says no")
        verdict = f"it returned {returned!r:.100} and not True, False or why not"
        return Finding("the function gave no answer", verdict)

    async def check(rows: Sequence[Record]) -> list[Finding]:
        nonlocal calls
        calls += len(rows)
        findings = []
        for fields in rows:
            findings.append(await asyncio.to_thread(call, fields))
            step.progress.done += 1
        return findings

    def warnings() -> tuple[str, ...]:
        always = errors and len(errors) == calls
        return (f"{options.function} raised on every record: {_excerpt(errors[0])}",) if always else ()

    yield Verifier(check, warnings=warnings)


VERIFIERS: Mapping[str, Callable[[VerifyOptions, Step], AbstractAsyncContextManager[Verifier]]] = {
    "maths": _maths,
    "tests": _tests,
    "judge": _judge,
    "function": _function,
}


class _MissingFieldError(Exception):
    """A record has no value in a field that a template needs."""


def _filled(fields: Record, *templates: str) -> list[str]:
    for template in templates:
        for name in sorted(names_in(template)):
            if fields.get(name) is None:
                raise _MissingFieldError(_MISSING + name)
    return [fill(template, fields) for template in templates]


def _concurrently(
    check: Callable[[Record], Awaitable[Finding]], progress: StepProgress
) -> Callable[[Sequence[Record]], Awaitable[list[Finding]]]:
    """Check the records of a batch concurrently; a missing field is a finding too."""

    async def check_one(fields: Record) -> Finding:
        try:
            finding = await check(fields)
        except _MissingFieldError as error:
            finding = Finding(str(error), str(error))
        progress.done += 1
        return finding

    async def check_all(rows: Sequence[Record]) -> list[Finding]:
        tasks = [asyncio.create_task(check_one(fields)) for fields in rows]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return check_all


def _answer_in(text: str) -> str:
    """The final answer in a text, which may be the answer alone or a whole solution."""
    final = find_final(text)
    if final is None or (final.how == "last" and "\n" not in text.strip() and len(text) <= _SHORT_ANSWER):
        return text.strip() if len(text) <= _SHORT_ANSWER else ""
    return final.text


def _excerpt(text: str) -> str:
    return one_line(text, _EXCERPT)
