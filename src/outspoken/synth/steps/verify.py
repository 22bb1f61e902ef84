"""The step `verify`: checks each record by mathematics, unit tests, a judge, or the user's function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
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
from outspoken.settings import check_values, option
from outspoken.synth.records import Record, count, fields_of, fill, names_in, pa, with_columns
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, StepProgress, filter_records
from outspoken.synth.steps.custom_step import load_function

__all__ = ["VERIFIERS", "Finding", "VerifyOptions", "run"]

_ROWS = 256
_EXCERPT = 100
_SHORT_ANSWER = 200

_Figures = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(StepOptions):
    """Check each record, and remove those that are wrong."""

    by: str = option("maths", "How: maths, tests (in a sandbox), judge, or function.")
    given: str = option("{final}", "maths: the answer to check, a template of the record's fields.")
    expected: str = option("{expected}", "maths: the right answer.")
    solution: str = option("{answer}", "tests: the program, alone or in fenced blocks.")
    tests: str = option("{tests}", "tests: asserts, functions test_*, or classes of unittest.")
    seconds: float = option(10.0, "tests and maths: time limit for each record.", above=0)
    memory: int = option(512, "tests: memory limit of each program in MiB.", low=16)
    question: str = option("{text}", "judge: the question that the response answers.")
    response: str = option("{answer}", "judge: the response that it scores.")
    rubric: str = option("", "judge: a rubric of `outspoken measure`, or a .toml file.", path=True)
    model: str = option("", "judge: the model. Default: the spec's model.")
    at_least: float = option(60.0, "judge: the lowest score of a right record, from 0 to 100.", low=0, high=100)
    function: str = option(
        "",
        "function: FILE.py:FUNCTION; it gets the record's fields, and returns True, False or why not.",
        path=True,
    )
    keep: str = option(
        "right", "right removes wrong records; all marks them in the column verified.", choices=("right", "all")
    )

    def __post_init__(self) -> None:
        if self.by not in VERIFIERS:
            hint = f'by = "function", function = "{self.by}"' if ":" in self.by else ""
            raise UnknownNameError("way to verify", self.by, VERIFIERS, see=hint)
        check_values(self)
        if self.by == "function" and not self.function.rpartition(":")[0]:
            raise UsageError('name the function that verifies: function = "mine.py:is_right"')
        if self.by == "judge" and not self.rubric:
            raise UsageError('name the rubric of the judge: rubric = "mine.toml" (see docs/judging.md)')

    @property
    def rubric_name(self) -> str:
        """A path, or the name of a shipped rubric without the folder of the spec that was put before it."""
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
    """Why a record is wrong ("" if it is not), in the same words for the same cause, and the `verdict` on it
    (default: the reason)."""

    reason: str
    verdict: str = ""


_Check = Callable[[Sequence[Record], Sequence[list[str]]], Awaitable[list[Finding]]]
"""Checks several records, each with its filled templates."""


async def run(options: VerifyOptions, step: Step) -> StepOutcome:
    """Check the records in batches; adds the columns `verified` and `verdict`."""
    wrong, missing = Counter[str](), Counter[str]()
    total = count(step.needed_source())
    verifier, template_names = VERIFIERS[options.by]
    templates = [getattr(options, name) for name in template_names]
    needed = [name for template in templates for name in sorted(names_in(template))]
    figures, warnings = _Figures(), list[str]()
    async with verifier(options, step, figures, warnings) as check:

        async def decide(table: Any, start: int) -> BatchDecision:
            rows = [fields_of(row) for row in table.to_pylist()]
            lacking = [next((name for name in needed if row.get(name) is None), "") for row in rows]
            complete = [row for row, name in zip(rows, lacking, strict=True) if not name]
            step.progress.done += len(rows) - len(complete)
            texts = [[fill(template, row) for template in templates] for row in complete]
            verified = iter(await check(complete, texts))
            findings = [Finding(f"has no {name}") if name else next(verified) for name in lacking]
            wrong.update(finding.reason for finding in findings if finding.reason)
            missing.update(filter(None, lacking))
            if rows and missing.total() == start + len(rows) == total:  # a mistake in the spec
                kind, name = "field of the records, in a template of verify:", next(iter(missing))
                raise UnknownNameError(kind, name, rows[-1].keys() - {name})
            columns = {
                "verified": pa.array([not finding.reason for finding in findings], pa.bool_()),
                "verdict": pa.array([finding.verdict or finding.reason for finding in findings], pa.string()),
            }
            reasons = [finding.reason or None if options.keep == "right" else None for finding in findings]
            return BatchDecision(with_columns(table, columns), reasons)

        stage = "asking the judge" if options.by == "judge" else "verifying"
        outcome = await filter_records(step, stage, decide, rows=_ROWS)
    counts = {"right": total - wrong.total(), "wrong": dict(wrong.most_common())}
    return replace(outcome, figures=counts | figures, warnings=tuple(warnings))


_RIGHT = Finding("", "right")


@asynccontextmanager
async def _maths(options: VerifyOptions, step: Step, figures: _Figures, _: list[str]) -> AsyncIterator[_Check]:
    async with Checker(seconds=options.seconds) as checker:

        async def check(filled: Sequence[str]) -> Finding:
            given, expected = map(_answer_in, filled)
            if not given or not expected:
                return Finding("no right answer is known" if given else "no answer was given")
            same = await checker.same(expected, given)
            one, other = one_line(given, _EXCERPT), one_line(expected, _EXCERPT)
            if same is None:
                late = f"the comparison took longer than {options.seconds:g} s"
                return Finding(late, f"{late}: {one} with {other}")
            return _RIGHT if same else Finding("the answer is wrong", f"{one} is not {other}")

        yield _concurrently(check, step.progress)
        if checker.timeouts:
            figures["comparisons that took too long"] = checker.timeouts


@asynccontextmanager
async def _tests(options: VerifyOptions, step: Step, *_: object) -> AsyncIterator[_Check]:
    async with Sandbox(seconds=options.seconds, memory=options.memory * MIB) as sandbox:

        async def check(filled: Sequence[str]) -> Finding:
            verdict = await check_program(sandbox, *filled)
            return Finding(verdict.reason, str(verdict))

        yield _concurrently(check, step.progress)


@asynccontextmanager
async def _judge(options: VerifyOptions, step: Step, figures: _Figures, _: list[str]) -> AsyncIterator[_Check]:
    with Ledger(step.ledger) as ledger:
        model = options.model or step.model or models.default_name()
        judge = Judge(model, options.rubric_name, ledger=ledger, seed=step.seed)
        failed: list[JudgeScore] = []

        def finding_of(score: JudgeScore) -> Finding:
            if score.value is None:
                failed.append(score)
                reason = "the judge cannot be read" if score.unreadable else f"no verdict: {score.cause}"
                return Finding(reason, score.error)
            reason = "" if score.value >= options.at_least else f"the judge gave less than {options.at_least:g}"
            return Finding(reason, f"{score.value:.1f} of 100")

        async def check(_: object, texts: Sequence[list[str]]) -> list[Finding]:
            items = [JudgedItem(prompt, text) for prompt, text in texts]
            before = step.progress.done

            def progress(done: int, _total: int) -> None:
                step.progress.done = before + done

            return [finding_of(score) for score in await judge.score(items, progress)]

        yield check
        summary = judge.summary(failed).to_dict()
        figures |= {name: summary[name] for name in ("requests", "from_ledger", "tokens", "usd")}
        figures["failures"] = len(failed)


@asynccontextmanager
async def _function(options: VerifyOptions, step: Step, _: object, warnings: list[str]) -> AsyncIterator[_Check]:
    function = load_function(options.function)
    errors: list[str] = []
    calls = 0

    def call(fields: Record) -> Finding:
        try:
            returned = function(dict(fields))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            return Finding(f"the function raised {type(error).__name__}", one_line(errors[-1], _EXCERPT))
        if isinstance(returned, str) and returned.strip():
            return Finding(one_line(returned, _EXCERPT), returned.strip())
        if returned is True or returned is False or type(returned).__name__ == "bool_":
            return _RIGHT if returned else Finding("the function says no")
        return Finding("the function gave no answer", f"it returned {returned!r:.100}, not True, False or why")

    async def check(rows: Sequence[Record], _: object) -> list[Finding]:
        nonlocal calls
        calls += len(rows)
        findings = []
        for fields in rows:
            findings.append(await asyncio.to_thread(call, fields))
            step.progress.done += 1
        return findings

    yield check
    if errors and len(errors) == calls:
        warnings.append(f"{options.function} raised on every record: {one_line(errors[0], _EXCERPT)}")


_Verifier = Callable[[VerifyOptions, Step, _Figures, list[str]], AbstractAsyncContextManager[_Check]]

VERIFIERS: Mapping[str, tuple[_Verifier, tuple[str, ...]]] = {
    "maths": (_maths, ("given", "expected")),
    "tests": (_tests, ("solution", "tests")),
    "judge": (_judge, ("question", "response")),
    "function": (_function, ()),
}
"""The ways to verify, each with its options that are templates. A record without a field in them is wrong.

At its end a verifier adds to the figures and the warnings of the step.
"""


def _concurrently(check: Callable[[Sequence[str]], Awaitable[Finding]], progress: StepProgress) -> _Check:
    async def check_one(filled: Sequence[str]) -> Finding:
        finding = await check(filled)
        progress.done += 1
        return finding

    async def check_all(_: object, texts: Sequence[list[str]]) -> list[Finding]:
        tasks = [asyncio.create_task(check_one(filled)) for filled in texts]
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
