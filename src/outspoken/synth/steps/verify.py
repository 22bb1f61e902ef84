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
from outspoken.settings import option
from outspoken.synth.records import Record, count, fields_of, fill, names_in, pa, with_columns
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, StepProgress, filter_records
from outspoken.synth.steps.custom_step import load_function

__all__ = ["TEMPLATES", "VERIFIERS", "Finding", "Verifier", "VerifyOptions", "run"]

_KEEP = ("right", "all")
_ROWS = 256
_EXCERPT = 100
_SHORT_ANSWER = 200


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
    """The `reason` why a record is wrong ("" if not), in the same words for one cause, and the `verdict` on it
    (default: the reason)."""

    reason: str
    verdict: str = ""


@dataclass
class Verifier:
    """A way to verify: `check` several records at once; `figures` and `warnings` for the step's outcome.

    `check` gets the records, and for each the filled templates of `TEMPLATES`.
    """

    check: Callable[[Sequence[Record], Sequence[list[str]]], Awaitable[list[Finding]]]
    figures: Callable[[], Mapping[str, object]] = dict
    warnings: Callable[[], tuple[str, ...]] = tuple


async def run(options: VerifyOptions, step: Step) -> StepOutcome:
    """Check the records in batches; adds the columns `verified` and `verdict`."""
    wrong, missing = Counter[str](), Counter[str]()
    checked, total = 0, count(step.needed_source())
    templates = [getattr(options, name) for name in TEMPLATES[options.by]]
    needed = [name for template in templates for name in sorted(names_in(template))]
    async with VERIFIERS[options.by](options, step) as verifier:

        async def decide(table: Any) -> BatchDecision:
            nonlocal checked
            rows = [fields_of(row) for row in table.to_pylist()]
            lacking = [next((name for name in needed if row.get(name) is None), "") for row in rows]
            complete = [row for row, name in zip(rows, lacking, strict=True) if not name]
            step.progress.done += len(rows) - len(complete)
            texts = [[fill(template, row) for template in templates] for row in complete]
            verified = iter(await verifier.check(complete, texts))
            findings = [Finding(f"has no {name}") if name else next(verified) for name in lacking]
            wrong.update(finding.reason for finding in findings if finding.reason)
            missing.update(filter(None, lacking))
            checked += len(rows)
            if rows and missing.total() == checked == total:  # a mistake in the spec
                (name, *_) = missing
                kind = "field of the records, in a template of verify:"
                raise UnknownNameError(kind, name, rows[-1].keys() - {name})
            columns = {
                "verified": pa.array([not finding.reason for finding in findings], pa.bool_()),
                "verdict": pa.array([finding.verdict or finding.reason for finding in findings], pa.string()),
            }
            removes = options.keep == "right"
            reasons = [finding.reason or None if removes else None for finding in findings]
            return BatchDecision(with_columns(table, columns), reasons)

        stage = "asking the judge" if options.by == "judge" else "verifying"
        outcome = await filter_records(step, stage, decide, rows=_ROWS)
        figures = {"right": checked - wrong.total(), "wrong": dict(wrong.most_common()), **verifier.figures()}
        return replace(outcome, figures=figures, warnings=verifier.warnings())


_RIGHT = Finding("", "right")


@asynccontextmanager
async def _maths(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Checker(seconds=options.seconds) as checker:

        async def check(filled: Sequence[str]) -> Finding:
            given, expected = map(_answer_in, filled)
            if not given:
                return Finding("no answer was given")
            if not expected:
                return Finding("no right answer is known")
            same = await checker.same(expected, given)
            one, other = one_line(given, _EXCERPT), one_line(expected, _EXCERPT)
            if same is None:
                late = f"the comparison took longer than {options.seconds:g} s"
                return Finding(late, f"{late}: {one} with {other}")
            return _RIGHT if same else Finding("the answer is wrong", f"{one} is not {other}")

        def figures() -> dict[str, object]:
            return {"comparisons that took too long": checker.timeouts} if checker.timeouts else {}

        yield Verifier(_concurrently(check, step.progress), figures)


@asynccontextmanager
async def _tests(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    async with Sandbox(seconds=options.seconds, memory=options.memory * MIB) as sandbox:

        async def check(filled: Sequence[str]) -> Finding:
            verdict = await check_program(sandbox, *filled)
            return Finding(verdict.reason, str(verdict))

        yield Verifier(_concurrently(check, step.progress))


@asynccontextmanager
async def _judge(options: VerifyOptions, step: Step) -> AsyncIterator[Verifier]:
    with Ledger(step.ledger) as ledger:
        model = options.model or step.model or models.default_name()
        judge = Judge(model, options.rubric_name, ledger=ledger, seed=step.seed)
        failed: list[JudgeScore] = []

        async def check(rows: Sequence[Record], texts: Sequence[list[str]]) -> list[Finding]:
            findings: dict[int, Finding] = {}
            items = [JudgedItem(prompt, text, str(at)) for at, (prompt, text) in enumerate(texts)]
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
            return Finding(f"the function raised {type(error).__name__}", one_line(errors[-1], _EXCERPT))
        if isinstance(returned, str) and returned.strip():
            return Finding(one_line(returned, _EXCERPT), returned.strip())
        if returned is True or returned is False or type(returned).__name__ == "bool_":
            return _RIGHT if returned else Finding("the function says no")
        verdict = f"it returned {returned!r:.100} and not True, False or why not"
        return Finding("the function gave no answer", verdict)

    async def check(rows: Sequence[Record], _: object) -> list[Finding]:
        nonlocal calls
        calls += len(rows)
        findings = []
        for fields in rows:
            findings.append(await asyncio.to_thread(call, fields))
            step.progress.done += 1
        return findings

    def warnings() -> tuple[str, ...]:
        always = errors and len(errors) == calls
        return (f"{options.function} raised on every record: {one_line(errors[0], _EXCERPT)}",) if always else ()

    yield Verifier(check, warnings=warnings)


VERIFIERS: Mapping[str, Callable[[VerifyOptions, Step], AbstractAsyncContextManager[Verifier]]] = {
    "maths": _maths,
    "tests": _tests,
    "judge": _judge,
    "function": _function,
}


TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "maths": ("given", "expected"),
    "tests": ("solution", "tests"),
    "judge": ("question", "response"),
    "function": (),
}
"""The options of each way that are templates, filled for each record; a record without such a field is wrong."""


def _concurrently(
    check: Callable[[Sequence[str]], Awaitable[Finding]], progress: StepProgress
) -> Callable[[Sequence[Record], Sequence[list[str]]], Awaitable[list[Finding]]]:

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
